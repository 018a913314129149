"""A saved run: its settings, its networks, its world, and its team for a program of one's own.

Axes: N copies, A agents, O observation.
"""

import contextlib
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eoi.build import find_folder, make_env, make_learner, restore, saved_networks
from eoi.components.action_selection import Carry, Keys
from eoi.config import loader
from eoi.config.schema import inert
from eoi.envs.base import EnvSpec, VecEnv
from eoi.learners import Learner
from eoi.learners.base import Reuse
from eoi.records import reader
from eoi.records.record import Config
from eoi.runners.rollout import Moment, play
from eoi.settings import Settings, configure
from eoi.utils import checkpoints
from eoi.utils.errors import UserError
from eoi.utils.script import FIGURES
from eoi.utils.seeding import fold, root_key
from eoi.utils.shapes import Bool, Float

Recognise = Callable[[Float[Tensor, "*b A O"]], Float[Tensor, "*b A"]]
Array = Tensor | np.ndarray


def load(
    folder: pathlib.Path, n_envs: int, model: str = "best", **changed: Any
) -> tuple[VecEnv, Learner, Settings]:
    """`n_envs` copies of the run's world and its learner, on the CPU wherever it was trained.

    With `changed` settings (env, env_args) the world is another one, whose shapes must be those of
    the run's own. Raises UserError.
    """
    saved = sorted(path.stem for path in (folder / "models").glob("*.pt"))
    if model not in saved:
        there = ": a run that was not saved, or not yet"
        if saved:
            there = f"; there is --model {' and '.join(saved)}"
        raise UserError(f"{folder}: no models/{model}.pt in it{there}")
    # Nothing of the machine it was trained on.
    here: dict[str, Any] = {"use_cuda": False, "evaluate": False, "checkpoint_path": ""}
    if "env_args" in changed and "env" not in changed:
        own = reader.read_config(folder).get("env_args", {})
        changed["env_args"] = own | changed["env_args"]
    settings = recorded(folder, **here, **changed)
    env = make_env(settings, n_envs)
    if changed and (spec := _own_spec(folder, here)):
        _refuse_other_shapes(spec, env.spec, settings.run.env)
    learner = make_learner(settings, env.spec)
    torch.set_num_threads(settings.run.threads)
    restore(learner, folder, model)
    return env, learner, settings


def which_networks(folder: pathlib.Path, model: str) -> str:
    """The saved networks in words: `best networks (step 540,670 of 1,500,823)`.

    Networks without an update, which are saved as the best for want of others, are not called so.
    Raises UserError.
    """
    paths = (folder / "models" / f"{name}.pt" for name in (model, "last"))
    saved, last = (checkpoints.load(path) if path.exists() else {} for path in paths)
    step, end = saved.get("t", 0), last.get("t", 0)
    if saved.get("updates") == 0:
        return f"networks of a run that made no update (step {step:,})"
    return f"{model} networks (step {step:,}{f' of {end:,}' if end > step else ''})"


def _own_spec(folder: pathlib.Path, here: dict[str, Any]) -> EnvSpec | None:
    """Facts of the world that the run trained in; None where that cannot be played here."""
    try:
        with contextlib.closing(make_env(recorded(folder, **here), 1)) as env:
            return env.spec
    except UserError:
        return None


def _refuse_other_shapes(own: EnvSpec, other: EnvSpec, name: str) -> None:
    for shape in ("n_agents", "obs_size", "n_actions", "state_size"):
        theirs, ours = getattr(other, shape), getattr(own, shape)
        if theirs != ours:
            raise UserError(f"{name}: {shape} is {theirs} there, and {ours} where the run trained")


def title(settings: Settings) -> str:
    """Figure title."""
    return settings.title.replace(" ", "  ")


def film_path(program: str, folder: pathlib.Path, settings: Settings, seed: int) -> pathlib.Path:
    """Default file of a film."""
    run = folder.resolve().name
    return FIGURES / f"{program}_{settings.world}_{settings.run.name}_run{run}_seed{seed}.gif"


class LoadedPolicy:
    """A trained team for a program of one's own.

    team = load_policy("results/sacred/3")
    actions = team.act(obs, avail)

    Agents with memory remember from call to call: call `reset` before an episode. Agents that draw
    random numbers, as ROMA's draw roles, draw other ones at each call.
    """

    def __init__(self, learner: Learner, settings: Settings, spec: EnvSpec):
        self.learner, self.settings, self.spec = learner, settings, spec
        self._carry: Carry | None = None
        self._calls = 0

    def reset(self) -> None:
        """Clears the agents' memory, before an episode."""
        self._carry = None

    @torch.no_grad()
    def act(self, obs: Any, avail: Any = None) -> Any:
        """The greedy action of each agent: [A, O] -> [A], or [N, A, O] -> [N, A].

        `avail` [A, U] or [N, A, U], 1 where allowed, may be left out. A tensor comes back for a
        tensor, a numpy array for everything else. Raises ValueError on other shapes.
        """
        x = self._checked(obs)
        if x.ndim > 3:
            raise ValueError(
                f"obs: expected at most one axis in front of agents and size, got {list(x.shape)}"
            )
        allowed = self._allowed(avail, [*x.shape[:-1], self.spec.n_actions])
        single = x.ndim == 2
        x, allowed = (x[None], allowed[None]) if single else (x, allowed)
        if self._carry is None:
            self._carry = self.learner.start(len(x), x.device)
        if any(len(memory) != len(x) for memory in self._carry.values()):
            raise ValueError("obs: another number of episodes than before; call reset() first")
        t = torch.tensor(float(self.settings.run.t_max))
        choice = self.learner.act(x, allowed, self._carry, self._keys(x), t, greedy=True)
        self._carry, self._calls = choice.carry, self._calls + 1
        actions = choice.actions[0] if single else choice.actions
        return actions if isinstance(obs, Tensor) else actions.numpy()

    def _keys(self, x: Float[Tensor, "N A O"]) -> Keys:
        copies = torch.arange(len(x))
        step = fold(fold(root_key(0, "policy"), self._calls), copies)
        return Keys(torch.zeros(*x.shape[:2], 2), step, fold(root_key(0, "policy"), copies))

    def _allowed(self, avail: Any, shape: list[int]) -> Bool[Tensor, "*b A U"]:
        if avail is None:
            return torch.ones(shape, dtype=torch.bool)
        allowed = torch.as_tensor(avail).bool()
        if list(allowed.shape) != shape:
            raise ValueError(
                f"avail: expected {shape}, as many axes as obs and the last of actions, "
                f"got {list(allowed.shape)}"
            )
        if not allowed.any(-1).all():
            raise ValueError("avail: an agent has no action at all")
        return allowed

    def recognised(self, obs: Any) -> Any:
        """p(i | o_i) [*b, A] of observations [*b, A, O]; None where the run had no classifier.

        A tensor or an array, as `act` returns them. Raises ValueError on other shapes.
        """
        recognise, x = recogniser(self.learner), self._checked(obs)
        if recognise is None:
            return None
        return recognise(x) if isinstance(obs, Tensor) else recognise(x).numpy()

    def _checked(self, obs: Any) -> Float[Tensor, "*b A O"]:
        x = torch.as_tensor(obs, dtype=torch.float32)
        team = [self.spec.n_agents, self.spec.obs_size]
        if list(x.shape[-2:]) != team:
            raise ValueError(
                f"obs: expected [agents, size] = {team}, or that with an axis in front, "
                f"got {list(x.shape)}"
            )
        return x


def load_policy(run: str | pathlib.Path, model: str = "best") -> LoadedPolicy:
    """The team of a saved run: its folder, its Sacred id or `latest`. Raises UserError."""
    env, learner, settings = load(reader.only_run(run), 1, model)
    with contextlib.closing(env):
        return LoadedPolicy(learner, settings, env.spec)


def recorded(folder: pathlib.Path, **changed: Any) -> Settings:
    """The run's settings as recorded, but for `changed`.

    A setting newer than the run has its default. Raises UserError.
    """
    return again(reader.read_config(folder), folder / "config.json", **changed)


def again(config: Config, where: pathlib.Path, **changed: Any) -> Settings:
    """As `recorded`, of settings that were read before from the file `where`. Raises UserError."""
    loader.use_plugins(config.get("plugins", []))
    whole = loader.merged(loader.defaults(), config)
    try:
        return configure(whole | changed)
    except UserError as error:
        if not changed:
            raise UserError(f"{where}: {error}") from None
        again(config, where)  # raises where the record is at fault
        raise


def source(wanted: Reuse, settings: Settings) -> pathlib.Path:
    """The folder of a run whose networks fit a run with these settings. Raises UserError."""
    folder = reader.only_run(wanted.run)
    saved_networks(folder)
    theirs = recorded(folder)
    ours = _settings(settings, wanted.alike)
    for key, value in _settings(theirs, wanted.alike).items():
        if key not in ours or ours[key] != value:
            raise UserError(
                f"{wanted.setting}={wanted.run}: {key} is {value} there, "
                f"and {ours.get(key, 'not a setting')} here; both runs must agree in it"
            )
    return folder


def located(settings: Settings) -> dict[str, str]:
    """The settings that name other runs, with the folders of these. Raises UserError."""
    found = {wanted.setting: source(wanted, settings) for wanted in settings.learner.reuses()}
    if settings.run.checkpoint_path:
        found["checkpoint_path"] = find_folder(settings.run.checkpoint_path)
    return {name: str(folder.resolve()) for name, folder in found.items()}


def _settings(settings: Settings, names: Sequence[str]) -> dict[str, object]:
    """The world's settings, and those of `names`."""
    parts = (settings.run, settings.controller, settings.learner)
    every: dict[str, object] = {name: x for part in parts for name, x in vars(part).items()}
    return {name: every.get(name) for name in ("env", *names)} | _rules(settings)


def _rules(settings: Settings) -> dict[str, object]:
    """The world's settings that change its episodes."""
    idle = inert(type(settings.env))
    return {f"env_args.{k}": x for k, x in vars(settings.env).items() if k not in idle}


def reuse(learner: Learner, settings: Settings) -> None:
    """Loads the networks that the learner takes from earlier runs. Raises UserError."""
    for wanted in settings.learner.reuses():
        path = saved_networks(source(wanted, settings))
        found: dict[str, Tensor] = checkpoints.load(path)["learner"]
        taken = {name: x for name, x in found.items() if name.startswith(wanted.networks)}
        learner.load_state_dict(learner.state_dict() | taken)


def elsewhere(settings: Settings) -> list[str]:
    """Differences between the world of an evaluation and the one that was trained in."""
    folder = find_folder(settings.run.checkpoint_path)
    if not reader.is_run(folder):
        return []
    theirs = reader.read_config(folder)
    # As records are: lists for tuples.
    ours: dict[str, Any] = json.loads(json.dumps({"env": settings.run.env} | _rules(settings)))
    own = {f"env_args.{key}": x for key, x in theirs.get("env_args", {}).items()}
    trained = {"env": theirs.get("env")} | own
    return [
        f"{key}={value} (trained with {trained[key]})"
        for key, value in ours.items()
        if value != trained.get(key, value)
    ]


def recogniser(learner: Learner) -> Recognise | None:
    """p(i | o_i) by the learner's classifier, if it has one."""
    found = [extra for extra in learner.extras if hasattr(extra, "recognised")]
    recognise: Any = found[0].recognised if found else None
    return torch.no_grad()(recognise) if recognise else None


@torch.no_grad()
def greedy_episodes(
    env: VecEnv, learner: Learner, seed: int, t: int, first: int = 0
) -> Iterator[Moment]:
    """One greedy episode in every copy, number `first` and following.

    `t` is the environment step that schedules see.
    """
    keys = fold(root_key(seed, "watch"), first + torch.arange(env.n_envs))
    for moment in play(env, learner, keys, torch.tensor(float(t)), greedy=True):
        if not moment.running.any():
            return
        yield moment
