"""A saved run brought back to life: its world, its networks, and greedy episodes of it. Axes: N copies, A agents, O observation."""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

import envs
from components.action_selection import Draws
from envs.base import TimeStep, VecEnv
from learners import AnyLearner
from run import Settings, build_learner, configure, restore
from utils import records
from utils.errors import UserError
from utils.seeding import fold, root_key

Recognise = Callable[[Float[Tensor, "*b A O"]], Float[Tensor, "*b A"]]


def load(folder: pathlib.Path, n_envs: int, model: str = "best") -> tuple[VecEnv, AnyLearner, Settings]:
    """`n_envs` copies of the run's world and its learner, on the CPU wherever it was trained. Raises UserError."""
    saved = sorted(path.stem for path in (folder / "models").glob("*.pt"))
    if model not in saved:
        there = f"; there is --model {' and '.join(saved)}" if saved else ": a run that was not saved, or not yet"
        raise UserError(f"{folder}: no models/{model}.pt in it{there}")
    settings = _settings(folder)
    env = envs.REGISTRY[settings.run.env](settings.env, n_envs)
    learner = build_learner(settings, env.spec)
    torch.set_num_threads(settings.run.threads)
    restore(learner, folder, model)
    return env, learner, settings


def _settings(folder: pathlib.Path) -> Settings:
    """As recorded, less what concerns the machine and the run's own beginning."""
    config = records.read_config(folder) | {"use_cuda": False, "evaluate": False, "checkpoint_path": ""}
    try:
        return configure(config)
    except KeyError as error:
        raise UserError(f"{folder / 'config.json'}: {error.args[0]}: this setting is missing") from None
    except UserError as error:
        raise UserError(f"{folder / 'config.json'}: {error}") from None


def recogniser(learner: AnyLearner) -> Recognise | None:
    """p(i | o_i) of the learner's classifier, if it has one."""
    found: list[Any] = [extra for extra in learner.extras if hasattr(extra, "recognised")]
    return torch.no_grad()(found[0].recognised) if found else None


class Moment(NamedTuple):
    """One moment of N episodes played side by side."""

    step: int
    now: TimeStep
    actions: Int[Tensor, "N A"] | None  # those that led here
    running: Bool[Tensor, " N"]  # False for a copy that had finished before


@torch.no_grad()
def play(env: VecEnv, learner: AnyLearner, seed: int, t: int) -> Iterator[Moment]:
    """One greedy episode in every copy; `t` is the environment step that schedules see."""
    keys = fold(root_key(seed, "watch"), torch.arange(env.n_envs))
    draws = Draws.of_episodes(fold(keys, 0), env.spec.episode_limit, env.spec.n_agents)
    now = env.reset(fold(keys, 1))
    yield Moment(0, now, None, torch.ones_like(now.done))
    for step in range(env.spec.episode_limit):
        running = ~now.done
        if not running.any():
            return
        actions, _ = learner.act(now.obs.float(), now.avail, draws.at(step), torch.tensor(float(t)), greedy=True)
        now = env.step(actions)
        yield Moment(step + 1, now, actions, running)
