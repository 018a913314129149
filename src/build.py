"""Checked settings to worlds, networks and replays.

Only this file and settings.py see the whole configuration.
"""

import contextlib
import logging
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from eoi import envs, learners
from eoi.components.replay import Replay
from eoi.controllers.controller import Controller
from eoi.envs.base import EnvSpec, VecEnv
from eoi.learners.base import Context, Extra, Learner
from eoi.records import reader
from eoi.settings import Settings
from eoi.utils import checkpoints
from eoi.utils.errors import UserError
from eoi.utils.memory import Setting, keep_freed, require
from eoi.utils.places import ROOT, expanded

log = logging.getLogger(__name__)


@dataclass
class Worlds:
    """Copies of the world for training and for tests, of all runs together."""

    train: VecEnv
    test: VecEnv
    device: torch.device


def make_env(settings: Settings, n_envs: int, device: torch.device | str = "cpu") -> VecEnv:
    """`n_envs` copies of the run's world."""
    return envs.REGISTRY[settings.run.env](settings.env, n_envs, device)


def make_worlds(settings: Settings, runs: int = 1) -> Worlds:
    """Copies for `runs` runs with these settings. Prints the world's warnings.

    Sets the threads of this process, and how it keeps freed memory.
    """
    run, device = settings.run, settings.device
    torch.set_num_threads(run.threads)
    keep_freed()
    train = make_env(settings, runs * run.batch_size_run, device)
    if train.spec.notice:
        log.warning("%s", train.spec.notice)
    if train.n_envs < runs * run.batch_size_run:
        message = "%d copies are played at once, not batch_size_run=%d"
        log.info(message, train.n_envs, run.batch_size_run)
    # Copies that are heavy programs are shared between training and tests.
    scarce = train.spec.scarce
    test = train if scarce else make_env(settings, runs * run.test_nepisode, device)
    return Worlds(train, test, device)


def make_learner(settings: Settings, spec: EnvSpec) -> Learner:
    """Networks whose initial weights depend on the seed alone.

    Extras are drawn from a seed of their own: the base learner's weights are the same without them.
    """
    _refuse_world(settings, spec)
    return _networks(settings, spec)


_SMALL = 1024  # hidden units up to which networks take some MB
_COPIES = 4  # of the networks, in memory: weights, gradients, and Adam's two moments


def refuse_large_networks(settings: Settings, runs: int) -> None:
    """Raises UserError if the networks of `runs` runs do not fit in memory."""
    hidden = settings.controller.hidden_dim
    if hidden <= _SMALL:
        return
    with contextlib.closing(make_env(settings, 1)) as env, torch.device("meta"):  # shapes alone
        state = _networks(settings, env.spec).state_dict().values()
    size = _COPIES * runs * sum(x.numel() * x.element_size() for x in state)
    times = f" of {runs} runs" if runs > 1 else ""
    label = f"hidden_dim={hidden}: training the networks{times}"
    require(size, settings.device, label, Setting("hidden_dim", hidden, power=2))


def _networks(settings: Settings, spec: EnvSpec) -> Learner:
    kind = learners.REGISTRY[settings.run.learner]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.run.seed)
        controller = kind.make_controller(
            spec, settings.controller, settings.agent, settings.learner
        )
        extras = _make_extras(settings, spec, controller)
        learner = kind(spec, settings.learner, controller, extras)
    _refuse_untrained(learner, [chosen.section for chosen in settings.extras])
    _refuse_without_agents(learner)
    return learner


def _refuse_untrained(learner: Learner, sections: Sequence[str]) -> None:
    """Raises UserError where a network's parameters are in no group, so that none would move.

    `sections`: of the learner's extras.
    """
    trained = {p for group in learner.groups() for m in group.modules for p in m.parameters()}
    for name, p in learner.named_parameters():
        if p.requires_grad and p not in trained:
            raise UserError(
                f"{_with_section(name, sections)}: no optimiser has it; list its module in "
                "groups(), or call requires_grad_(False) on it"
            )


def _refuse_without_agents(learner: Learner) -> None:
    """Raises UserError for a parameter without an axis of agents, where gradients need one."""
    groups = [group for group in learner.groups() if group.clip and group.axes]
    parts = [[p for module in group.modules for p in module.parameters()] for group in groups]
    if learner.projected | learner.scaled:
        parts.append(list(learner.shared()))
    names = {p: name for name, p in learner.named_parameters()}
    for p, first in ((p, part[0]) for part in parts for p in part):
        size, sizes = p.shape[:1], ((1,), (learner.controller.n_agents,))
        if p.dim() < 2 or size not in sizes or size != first.shape[:1]:
            raise UserError(
                f"{names[p]}: has the shape {tuple(p.shape)}, without an axis of agents, and here "
                "gradients are clipped or scaled agent by agent; use AgentLinear or AgentMLP"
            )


def _with_section(name: str, sections: Sequence[str]) -> str:
    """A parameter's name, which begins with its extra's section."""
    if not name.startswith("extras."):
        return name
    _, place, rest = name.split(".", 2)
    return f"{sections[int(place)]}.{rest}"


def _make_extras(settings: Settings, spec: EnvSpec, controller: Controller) -> list[Extra]:
    extras: dict[str, Extra] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.run.seed + 2**32)
        hidden, gamma = settings.controller.hidden, settings.learner.gamma
        for chosen in settings.extras:
            context = Context(spec, hidden, gamma, extras, controller.agents)
            extras[chosen.section] = chosen.kind(chosen.cfg, context)
    _refuse_windows({section: extra.window for section, extra in extras.items()})
    return list(extras.values())


def _refuse_windows(windows: Mapping[str, int]) -> None:
    """Raises UserError where extras, by section, read earlier observations of different windows."""
    reading = sorted((window, section) for section, window in windows.items() if window)
    if not reading or reading[0][0] == reading[-1][0]:
        return
    (near, one), (far, other) = reading[0], reading[-1]
    raise UserError(
        f"{one} and {other}: they read an observation up to {near} and {far} steps back, and a "
        "batch holds one; give both the same window (EOI's is eoi.delta_t)"
    )


def refuse_checkpoint(settings: Settings) -> None:
    """Raises UserError where the run cannot begin with the networks of `checkpoint_path`."""
    with contextlib.closing(make_env(settings, 1)) as env:
        restore(make_learner(settings, env.spec), find_folder(settings.run.checkpoint_path))


def refuse_world(settings: Settings) -> None:
    """Raises UserError where the learner does not fit the world, before anything is created."""

    def spec() -> EnvSpec:
        with contextlib.closing(make_env(settings, 1)) as env:
            return env.spec

    learners.REGISTRY[settings.run.learner].refuse_world(settings.learner, spec)


def _refuse_world(settings: Settings, spec: EnvSpec) -> None:
    """Raises UserError where the learner, or its mixer, does not fit the world."""
    learners.REGISTRY[settings.run.learner].refuse_world(settings.learner, lambda: spec)
    mixer = getattr(settings.learner, "mixer", "none")
    if spec.individual_rewards and mixer != "none":
        raise UserError(
            f"env_args.reward=individual: mixer={mixer} learns the team's value; "
            "set mixer=none, or env_args.reward=sum"
        )


def make_replay(settings: Settings, worlds: Worlds, learner: Learner, runs: int) -> Replay:
    """`runs`: replays that must fit in memory together; 0 skips the check. Raises UserError."""
    spec, run = worlds.train.spec, settings.run
    device = worlds.device
    if not learner.replays:  # nothing reads it
        return Replay(spec, replace(settings.replay, buffer_size=1), device, runs=0)
    replay = Replay(spec, settings.replay, device, learner.keeps(spec), runs)
    copies = min(run.batch_size_run, worlds.train.n_envs)  # fewer where a world limits them
    if copies * (spec.episode_limit + 1) > replay.rows:
        raise UserError(
            f"batch_size_run={run.batch_size_run}: {copies} episodes at once do not "
            f"fit a replay of {settings.replay.buffer_size} transitions; "
            "lower it, or raise buffer_size"
        )
    return replay


def find_folder(name: str) -> pathlib.Path:
    """A folder as typed: relative to the current directory, else to the repository; or a run's id.

    `latest` is the last run. Raises UserError for the id of no run.
    """
    here = expanded(name)
    if (name.isdigit() or name == "latest") and not here.exists():
        return reader.only_run(name)
    return here if here.exists() else ROOT / here


def saved_networks(folder: pathlib.Path, name: str = "last") -> pathlib.Path:
    """The file of a run's saved networks. Raises UserError."""
    path = folder / "models" / f"{name}.pt"
    if not path.exists():
        inner = sorted(each.parent.parent for each in folder.glob(f"*/models/{name}.pt"))
        hint = f"; it holds {len(inner)} runs, name one of them, as {inner[0]}" if inner else ""
        raise UserError(
            f"{folder}: not a run with saved networks (no models/{name}.pt in it){hint}"
        )
    return path


def restore(learner: Learner, folder: pathlib.Path, name: str = "last") -> None:
    """Loads the saved networks of a run's folder into `learner`. Raises UserError."""
    path = saved_networks(folder, name)
    try:
        learner.load_state_dict(checkpoints.load(path)["learner"])
    except (KeyError, RuntimeError):
        raise UserError(
            f"{path}: its networks are not those of this configuration; "
            "use the run's own --config and --env-config"
        ) from None
