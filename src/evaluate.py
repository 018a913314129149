"""Plays greedy episodes of a saved run and prints their returns.

    python src/evaluate.py RUN [--episodes 320] [--seed 0] [--model best|last] [--env-config ENV]
                               [--set KEY=VALUE ...] [--out FILE.json] [--render FILE|gif|mp4|html]

RUN is the run's folder, a Sacred id (3 is results/sacred/3) or `latest`. With --env-config, or
--set dots_per_room=5, the team plays in another world than it learned in, if that world has the
same agents, observations and actions.
"""

from eoi.utils.start import launch

import contextlib
import json
import pathlib
from argparse import ArgumentTypeError
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from eoi import envs
from eoi.config import loader
from eoi.envs.base import VecEnv
from eoi.learners import Learner
from eoi.pictures.film import shoot
from eoi.pictures.film_files import FilmFile, film_argument, film_file
from eoi.records import reader
from eoi.records.reader import only_run
from eoi.records.statistics import deviation, mean_interval
from eoi.saved import film_path, greedy_episodes, load, title, which_networks
from eoi.settings import Settings
from eoi.utils.errors import Failure, UserError
from eoi.utils.script import Parser, add_saved_run, guarded, output, write_text

_AT_ONCE = 64  # copies played side by side
_FPS = 4.0  # frames of a film in a second


class Result(NamedTuple):
    """A value for each episode; a metric that a world has for each agent is averaged over them."""

    seed: int
    values: dict[str, list[float]]


def parser() -> Parser:
    result = Parser(__doc__)
    add_saved_run(result, episodes=320)
    result.add_argument("--env-config", metavar="ENV", help="another world than the run's own")
    result.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of the world (env_args)"
    )
    result.add_argument(
        "--out", type=_table_file, metavar="FILE.json", help="every episode's values"
    )
    result.add_argument(
        "--render",
        type=film_argument,
        metavar="FILE",
        help="a film of the first episode, .gif, .mp4 or .html; a kind alone, such as gif: in"
        " results/figures",
    )
    return result


def world(folder: pathlib.Path, env_config: str | None, pairs: Sequence[str]) -> dict[str, Any]:
    """Settings that replace those of the run. Raises UserError."""
    given = loader.parse_updates(pair.removeprefix("env_args.") for pair in pairs)
    content = loader.environment(env_config) if env_config else reader.read_config(folder)
    env_args = content.get("env_args", {}) | given
    if given:
        _refuse_set(content["env"], env_args)
    if env_config is None:
        return {"env_args": env_args} if given else {}
    return {"env": content["env"], "world": pathlib.Path(env_config).stem, "env_args": env_args}


def _refuse_set(env: str, env_args: dict[str, Any]) -> None:
    """Raises UserError for settings that the world does not take."""
    try:
        envs.configured(env, env_args)
    except UserError as error:
        raise UserError(f"--set {str(error).removeprefix('env_args.')}") from None


def _table_file(text: str) -> pathlib.Path:
    if not text.endswith(".json"):
        raise ArgumentTypeError(f"the name of the file ends with .json, got {text}")
    return output(text)


def evaluate(env: VecEnv, learner: Learner, settings: Settings, episodes: int, seed: int) -> Result:
    values: dict[str, list[Tensor]] = {}
    for first in range(0, episodes, env.n_envs):
        returns, length, last = torch.zeros(env.n_envs), torch.zeros(env.n_envs), None
        for moment in greedy_episodes(env, learner, seed, settings.run.t_max, first):
            last = moment
            if moment.choice is not None:
                returns += moment.now.reward * moment.running
                length += moment.running
        assert last is not None
        info = {
            name: last.now.info[name].float().reshape(env.n_envs, -1).mean(1)
            for name in env.spec.metrics
        }
        whole = ~last.now.info.get("dropped", torch.zeros(env.n_envs)).bool()
        for name, value in ({"return": returns, "ep_length": length} | info).items():
            values.setdefault(name, []).append(value[whole])
    found = {name: torch.cat(parts)[:episodes].tolist() for name, parts in values.items()}
    if not found["return"]:
        raise Failure("no episode was played to its end: the games broke off each time")
    return Result(seed, found)


def table(result: Result) -> str:
    """Mean over episodes, half its 95 % interval, standard deviation, lowest and highest."""
    rows = [f"{'':20} {'mean':>9} {'± 95 %':>9} {'deviation':>9} {'lowest':>9} {'highest':>9}"]
    for name, values in result.values.items():
        x = np.array(values)
        half = mean_interval(x).high - x.mean()
        numbers = (x.mean(), half, deviation(x), x.min(), x.max())
        rows.append(f"{name:20} " + " ".join(f"{float(number):9.3f}" for number in numbers))
    return "\n".join(rows)


def body(argv: Sequence[str]) -> None:
    options = parser().parse_args(argv)
    film = film_file("--render", options.render) if options.render else None
    folder = only_run(options.run)
    changed = world(folder, options.env_config, options.set)
    env, learner, settings = load(folder, min(options.episodes, _AT_ONCE), options.model, **changed)
    with contextlib.closing(env):
        result = evaluate(env, learner, settings, options.episodes, options.seed)
    print(
        f"{settings.title}, {which_networks(folder, options.model)},"
        f" {len(result.values['return'])} episodes"
    )
    print(table(result))
    if options.out:
        content = {
            "run": str(folder),
            "model": options.model,
            "env": settings.world,
            "seed": options.seed,
            "episodes": result.values,
        }
        write_text(options.out, json.dumps(content))
        print(options.out)
    if film:
        render(folder, options.model, changed, options.seed, film)


def render(
    folder: pathlib.Path, model: str, changed: dict[str, Any], seed: int, film: FilmFile
) -> None:
    env, learner, settings = load(folder, 1, model, **changed)
    with contextlib.closing(env):
        films = shoot(env, learner, seed, settings.run.t_max)
    default = film_path("evaluate", folder, settings, seed)
    print(film.write(films, title(settings), _FPS, default))


def main(argv: Sequence[str]) -> int:
    return guarded(body, argv)


if __name__ == "__main__":
    launch(main)
