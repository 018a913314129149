"""A saved run brought back to life: its world, its networks, and greedy episodes of it. Axes: N copies, A agents, O observation."""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from eoi import envs
from eoi.assembly import build_learner, find_folder, restore
from eoi.components.action_selection import Draws
from eoi.config import loader
from eoi.envs.base import EnvSpec, TimeStep, VecEnv
from eoi.learners import AnyLearner
from eoi.records import reader
from eoi.settings import Settings, configure
from eoi.utils import checkpoints
from eoi.utils.errors import UserError
from eoi.utils.script import FIGURES
from eoi.utils.seeding import fold, root_key

Recognise = Callable[[Float[Tensor, "*b A O"]], Float[Tensor, "*b A"]]


def load(
    folder: pathlib.Path, n_envs: int, model: str = "best", **changed: Any
) -> tuple[VecEnv, AnyLearner, Settings]:
    """`n_envs` copies of the run's world and its learner, on the CPU wherever it was trained. Raises UserError.

    With `changed` settings (env, env_args) the world is another one, whose shapes have to be those of the run's own.
    """
    saved = sorted(path.stem for path in (folder / "models").glob("*.pt"))
    if model not in saved:
        there = (
            f"; there is --model {' and '.join(saved)}"
            if saved
            else ": a run that was not saved, or not yet"
        )
        raise UserError(f"{folder}: no models/{model}.pt in it{there}")
    here: dict[str, Any] = {
        "use_cuda": False,
        "evaluate": False,
        "checkpoint_path": "",
    }  # nothing of the machine it was trained on
    if "env_args" in changed and "env" not in changed:
        changed["env_args"] = reader.read_config(folder).get("env_args", {}) | changed["env_args"]
    settings = recorded(folder, **here, **changed)
    env = envs.REGISTRY[settings.run.env](settings.env, n_envs)
    if changed and (own := _own_spec(folder, here)):
        _refuse_other_shapes(own, env.spec, settings.run.env)
    learner = build_learner(settings, env.spec)
    torch.set_num_threads(settings.run.threads)
    restore(learner, folder, model)
    return env, learner, settings


def which_networks(folder: pathlib.Path, model: str) -> str:
    """Which ones are played: `best networks (step 540,670 of 1,500,823)`. Raises UserError."""
    paths = (folder / "models" / f"{name}.pt" for name in (model, "last"))
    step, end = (checkpoints.load(path)["t"] if path.exists() else 0 for path in paths)
    return f"{model} networks (step {step:,}{f' of {end:,}' if end > step else ''})"


def _own_spec(folder: pathlib.Path, here: dict[str, Any]) -> EnvSpec | None:
    """Of the world that the run learned in; None where that cannot be played here."""
    try:
        settings = recorded(folder, **here)
        with contextlib.closing(envs.REGISTRY[settings.run.env](settings.env, 1)) as env:
            return env.spec
    except UserError:
        return None


def _refuse_other_shapes(own: EnvSpec, other: EnvSpec, name: str) -> None:
    for shape in ("n_agents", "obs_size", "n_actions", "state_size"):
        if getattr(own, shape) != getattr(other, shape):
            raise UserError(
                f"{name}: {shape} is {getattr(other, shape)} there, and {getattr(own, shape)} where the run learned"
            )


def title(settings: Settings) -> str:
    """Over a picture of a run."""
    return settings.title.replace(" ", "  ")


def film_path(program: str, folder: pathlib.Path, settings: Settings, seed: int) -> pathlib.Path:
    """Where a film goes that was given no name."""
    return (
        FIGURES
        / f"{program}_{settings.world}_{settings.run.name}_run{folder.resolve().name}_seed{seed}.gif"
    )


class Policy:
    """A trained team for scripts of one's own: `load_policy("results/sacred/3").act(obs, avail)`."""

    def __init__(self, learner: AnyLearner, settings: Settings, spec: EnvSpec):
        self.learner, self.settings, self.spec = learner, settings, spec

    @torch.no_grad()
    def act(self, obs: Any, avail: Any = None) -> Any:
        """The greedy action of each agent: [A, O] -> [A], or [N, A, O] -> [N, A].

        `avail` (same without O, with a last axis of actions; 1 where allowed) may be left out. A tensor comes back for a tensor, a numpy
        array for everything else. Raises ValueError on other shapes.
        """
        x = self._seen(obs)
        if x.ndim > 3:
            raise ValueError(
                f"obs: expected at most one axis in front of agents and size, got {list(x.shape)}"
            )
        shape = [*x.shape[:-1], self.spec.n_actions]
        allowed = (
            torch.ones(shape, dtype=torch.bool) if avail is None else torch.as_tensor(avail).bool()
        )
        if list(allowed.shape) != shape:
            raise ValueError(
                f"avail: expected {shape}, as many axes as obs and the last of actions, got {list(allowed.shape)}"
            )
        if not allowed.any(-1).all():
            raise ValueError("avail: an agent has no action at all")
        single = x.ndim == 2
        x, allowed = (x[None], allowed[None]) if single else (x, allowed)
        none = torch.zeros(x.shape[:2])
        t = torch.tensor(float(self.settings.run.t_max))
        actions, _ = self.learner.act(
            x, allowed, Draws(none, none, none, none[:, 0]), t, greedy=True
        )
        actions = actions[0] if single else actions
        return actions if isinstance(obs, Tensor) else actions.numpy()

    def recognised(self, obs: Any) -> Any:
        """p(i | o_i), where the run had a classifier, else None: [*b, A, O] -> [*b, A], a tensor or an array as `act` returns them.

        Raises ValueError on other shapes.
        """
        recognise, x = recogniser(self.learner), self._seen(obs)
        if recognise is None:
            return None
        return recognise(x) if isinstance(obs, Tensor) else recognise(x).numpy()

    def _seen(self, obs: Any) -> Float[Tensor, "*b A O"]:
        x, team = (
            torch.as_tensor(obs, dtype=torch.float32),
            [self.spec.n_agents, self.spec.obs_size],
        )
        if list(x.shape[-2:]) != team:
            raise ValueError(
                f"obs: expected [agents, size] = {team}, or that with an axis in front, got {list(x.shape)}"
            )
        return x


def load_policy(run: str | pathlib.Path, model: str = "best") -> Policy:
    """`run` is a run's folder, a Sacred id or `latest`. Raises UserError."""
    env, learner, settings = load(reader.only_run(run), 1, model)
    with contextlib.closing(env):
        return Policy(learner, settings, env.spec)


def recorded(folder: pathlib.Path, **changed: Any) -> Settings:
    """The run's settings as it recorded them, but for `changed`; one that is newer than the run has its default. Raises UserError."""
    config = loader.merged(loader.defaults(), reader.read_config(folder))
    try:
        return configure(config | changed)
    except UserError as error:
        raise UserError(f"{folder / 'config.json'}: {error}") from None


def elsewhere(settings: Settings) -> list[str]:
    """What sets the world of an evaluation apart from the one that was learned in."""
    folder = find_folder(settings.run.checkpoint_path)
    if not reader.is_run(folder):
        return []
    theirs = reader.read_config(folder)
    played: dict[str, Any] = json.loads(
        json.dumps(dataclasses.asdict(settings.env))
    )  # as records are: lists for tuples
    ours = {"env": settings.run.env} | {f"env_args.{key}": value for key, value in played.items()}
    learned = {"env": theirs.get("env")} | {
        f"env_args.{key}": value for key, value in theirs.get("env_args", {}).items()
    }
    return [
        f"{key}={value} (learned with {learned[key]})"
        for key, value in ours.items()
        if value != learned.get(key, value)
    ]


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
def play(env: VecEnv, learner: AnyLearner, seed: int, t: int, first: int = 0) -> Iterator[Moment]:
    """One greedy episode in every copy, the `first` and following ones; `t` is the environment step that schedules see."""
    keys = fold(root_key(seed, "watch"), first + torch.arange(env.n_envs))
    draws = Draws.of_episodes(fold(keys, 0), env.spec.episode_limit, env.spec.n_agents)
    now = env.reset(fold(keys, 1))
    yield Moment(0, now, None, torch.ones_like(now.done))
    for step in range(env.spec.episode_limit):
        running = ~now.done
        if not running.any():
            return
        actions, _ = learner.act(
            now.obs.float(), now.avail, draws.at(step), torch.tensor(float(t)), greedy=True
        )
        now = env.step(actions)
        yield Moment(step + 1, now, actions, running)
