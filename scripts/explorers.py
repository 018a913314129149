"""Where each agent ends when it alone follows its intrinsic Q-function, in Windy Maze.

    python scripts/explorers.py RUN [RUN ...]

RUN is a folder or an id of a run of an EOI form with an intrinsic Q-function. The other agents are
greedy. Prints, over 256 episodes with the last networks, the median column in which each explorer
ends, counted from the start cell, and the mean return.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "src"))

import eoi.utils.start  # noqa: F401 # refuses a Python without the requirements

import torch
from torch import Tensor

from eoi.build import make_env
from eoi.components.action_selection import masked_argmax
from eoi.envs.windy_maze import WindyMaze
from eoi.learners.eoi import IntrinsicQ
from eoi.saved import LoadedPolicy, load_policy
from eoi.utils.errors import UserError
from eoi.utils.seeding import fold, root_key

EPISODES = 256


def intrinsic_q(team: LoadedPolicy) -> IntrinsicQ:
    """Raises UserError where the run has none."""
    for extra in team.learner.extras:
        if isinstance(extra, IntrinsicQ):
            return extra
    raise UserError(f"{team.settings.run.name}: no intrinsic Q-function; eoi.form=policy has one")


@torch.no_grad()
def explored(team: LoadedPolicy, explorer: int) -> tuple[Tensor, float]:
    """Columns [N] in which the explorer ends, from the start cell, and the mean return."""
    env, value = make_env(team.settings, EPISODES), intrinsic_q(team).value
    if not isinstance(env, WindyMaze):
        raise UserError(f"env={team.settings.run.env}: only windy_maze has arms to explore")
    moment = env.reset(fold(root_key(0, "explorers"), torch.arange(EPISODES)))
    starts, earned = env.position[:, explorer], torch.zeros(EPISODES)
    while not bool(moment.done.all()):
        obs = moment.obs.float()
        actions = team.act(obs, moment.avail)
        actions[:, explorer] = masked_argmax(value(obs), moment.avail)[:, explorer]
        moment = env.step(actions)
        earned += moment.reward
    columns = torch.tensor([cell[1] for cell in env.map.cells])
    return columns[env.position[:, explorer]] - columns[starts], float(earned.mean())


def main(runs: list[str]) -> None:
    print("| run | explorer | column | return |\n|---|---|---|---|")
    for run in runs:
        team = load_policy(run, "last")
        for explorer in range(team.spec.n_agents):
            column, earned = explored(team, explorer)
            print(f"| {run} | {explorer} | {int(column.median()):+d} | {earned:.2f} |")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"explorers: {error}")
