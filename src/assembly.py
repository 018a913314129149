"""Joins the parts of a run: worlds, networks, optimiser, replay. Only here and in settings.py is the whole configuration seen."""

import logging
import pathlib
from dataclasses import dataclass
from typing import Any

import torch

from eoi import envs, learners
from eoi.components.replay_buffer import ReplayBuffer
from eoi.controllers.controller import Controller
from eoi.envs.base import VecEnv
from eoi.learners import AnyLearner, eoi
from eoi.learners.feeds import Replayed, Rolled
from eoi.learners.kl import KLDivergence
from eoi.learners.learner import Descent
from eoi.learners.lfo import LFO
from eoi.runners.rollout import Rollout
from eoi.settings import RunConfig, Settings
from eoi.utils import checkpoints
from eoi.utils.errors import UserError

log = logging.getLogger(__name__)


@dataclass
class Parts:
    """What a run is made of."""

    learner: AnyLearner
    descent: Descent
    replay: ReplayBuffer
    feed: Replayed | Rolled
    train: Rollout
    test: Rollout
    device: torch.device


def build(settings: Settings, runs: int = 1) -> Parts:
    """Environments, networks, replay. The initial weights depend on the seed alone.

    `runs` of this size are to fit the memory, and this is said for all of them; 0: it has been.
    """
    run = settings.run
    device = torch.device("cuda" if run.use_cuda else "cpu")
    torch.set_num_threads(run.threads)
    train, test = rollouts(settings, device)
    if runs:
        _announce(train.env, run)
    learner = build_learner(settings, train.env.spec).to(device)
    if run.checkpoint_path:
        restore(learner, find_folder(run.checkpoint_path))
    replay = ReplayBuffer(train.env.spec, settings.replay, device, _with_q(settings), runs)
    kept = learner.Feed is Replayed or len(learner.extras) > 0
    if (
        kept
        and train.env.spec.fixed_length
        and train.env.n_envs * (train.env.spec.episode_limit + 1) > replay.rows
    ):
        fit = f"{train.env.n_envs} episodes at once do not fit a replay of {settings.replay.buffer_size} transitions"
        raise UserError(
            f"batch_size_run={run.batch_size_run}: {fit}; lower it, or raise buffer_size"
        )
    return Parts(
        learner=learner,
        descent=Descent(learner),
        replay=replay,
        feed=learner.Feed(
            settings.feed, learner, replay, settings.replay.batch_size, settings.eoi.delta_t
        ),
        train=train,
        test=test,
        device=device,
    )


def rollouts(settings: Settings, device: torch.device, runs: int = 1) -> tuple[Rollout, Rollout]:
    """For training and for tests, with the copies of so many runs."""
    make_env, run = envs.REGISTRY[settings.run.env], settings.run
    train = make_env(settings.env, runs * run.batch_size_run, device)
    test = train if train.spec.scarce else make_env(settings.env, runs * run.test_nepisode, device)
    return Rollout(train, device, _with_q(settings)), Rollout(test, device)


def _announce(env: VecEnv, run: RunConfig) -> None:
    if env.spec.notice:
        log.warning("%s", env.spec.notice)
    if env.n_envs < run.batch_size_run:
        log.info(
            "%d copies are played at once, not batch_size_run=%d", env.n_envs, run.batch_size_run
        )


def _with_q(settings: Settings) -> bool:
    return getattr(settings.eoi, "q_source", "") == "stored"


def build_learner(settings: Settings, spec: envs.EnvSpec) -> AnyLearner:
    """EOI's networks are drawn from a seed of their own, so that they leave the base learner's as they are without EOI."""
    seed, hidden, cfg = settings.run.seed, settings.controller.hidden, settings.eoi
    mixer = getattr(settings.network, "mixer", "none")
    if spec.individual_rewards and mixer != "none":
        raise UserError(
            f"env_args.reward=individual: mixer={mixer} learns the team's value; set mixer=none, or env_args.reward=sum"
        )
    kind = learners.REGISTRY[settings.run.learner]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        controller, network = (
            Controller(spec, settings.controller),
            kind.make_network(spec, settings.network, hidden),
        )
        torch.manual_seed(seed + 2**32)
        individuality = _build_eoi(spec, cfg, hidden, settings.learner.gamma)
    extras = [individuality] if individuality else []
    slots: dict[str, Any] = {}
    if cfg.form == "reward":
        slots["shaping"] = individuality.reward
    if cfg.form == "explore":
        slots["explore"] = individuality.explore
    if settings.lfo.omega > 0:
        slots["rearrange"] = LFO(settings.lfo, individuality.posterior)
    if settings.kl.weight > 0:
        extras.append(KLDivergence(settings.kl))
    return kind(settings.learner, controller, network, extras=extras, **slots)


def find_folder(name: str) -> pathlib.Path:
    """A folder as typed: from where the user stands, else from the repository."""
    here = pathlib.Path(name).expanduser()
    return here if here.exists() else pathlib.Path(__file__).resolve().parent.parent / here


def saved_networks(folder: pathlib.Path, name: str = "last") -> pathlib.Path:
    """The file of a run's saved networks. Raises UserError."""
    path = folder / "models" / f"{name}.pt"
    if not path.exists():
        raise UserError(f"{folder}: not a run with saved networks (no models/{name}.pt in it)")
    return path


def restore(learner: AnyLearner, folder: pathlib.Path, name: str = "last") -> None:
    """Puts the saved networks of a run's folder into `learner`. Raises UserError."""
    path = saved_networks(folder, name)
    try:
        learner.load_state_dict(checkpoints.load(path)["learner"])
    except (KeyError, RuntimeError):
        raise UserError(
            f"{path}: its networks are not those of this configuration; use the run's own --config and --env-config"
        ) from None


def _build_eoi(spec: envs.EnvSpec, cfg: Any, hidden: tuple[int, int], gamma: float) -> Any:
    if cfg.form == "none":
        return None
    return eoi.FORMS[cfg.form](
        spec, cfg, hidden, **({"gamma": gamma} if cfg.form == "pull" else {})
    )
