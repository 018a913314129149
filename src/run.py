"""Joins the parts of a run, and the training loop. `build` is the only place that sees the whole configuration."""

import logging
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

import envs
import learners
from components.episodes import Outcome
from components.replay_buffer import Batch, ReplayBuffer, ReplayConfig
from config.schema import nearest, parse, setting
from controllers.controller import Controller, ControllerConfig
from learners import eoi
from learners.learner import Descent, Stats
from learners.q_learner import QLearner
from modules.mixers import MixerConfig, make_mixer
from runners.rollout import Rollout
from utils import checkpoints
from utils.errors import UserError
from utils.logging import RunLog
from utils.seeding import fold, root_key

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    name: str
    label: str
    seed: int = setting(0, 2**31 - 1)
    use_cuda: bool
    threads: int = setting(1)
    batch_size_run: int = setting(1)
    t_max: int = setting(1)
    test_interval: int = setting(1)  # environment steps
    test_nepisode: int = setting(1)
    log_interval: int = setting(1)  # environment steps
    update_interval: int = setting(1)  # environment steps an update
    learning_starts: int = setting(0)  # environment steps
    local_results_path: str
    save_model: bool
    checkpoint_path: str
    evaluate: bool
    learner: str
    env: str
    env_args: dict


@dataclass(frozen=True)
class Settings:
    """A checked configuration, each part as its reader wants it."""

    run: RunConfig
    env: Any
    controller: ControllerConfig
    mixer: MixerConfig
    learner: Any
    replay: ReplayConfig
    eoi: Any  # None without EOI


def configure(config: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> Settings:
    """Checks everything that can be checked before anything is created.

    `given` is what the user typed: a key among it that this run would not read is refused. Raises UserError.
    """
    run = parse(RunConfig, config, strict=False)
    for kind, name, registry in (("env", run.env, envs.REGISTRY), ("learner", run.learner, learners.REGISTRY)):
        if name not in registry:
            raise UserError(f"{kind}={name}: there is no such {kind}.{nearest(name, registry)}")
    form = parse(eoi.EOIConfig, config["eoi"], "eoi.", strict=False).form
    eoi_config = eoi.FORMS[form].Config if form != "none" else eoi.EOIConfig
    parts = (RunConfig, ControllerConfig, MixerConfig, learners.REGISTRY[run.learner].Config, ReplayConfig)
    _refuse_unread(given or {}, {f.name for part in parts for f in fields(part)}, eoi_config, run.name)
    settings = Settings(
        run=run,
        env=parse(envs.REGISTRY[run.env].Config, run.env_args, "env_args."),
        controller=parse(ControllerConfig, config, strict=False),
        mixer=parse(MixerConfig, config, strict=False),
        learner=parse(learners.REGISTRY[run.learner].Config, config, strict=False),
        replay=parse(ReplayConfig, config, strict=False),
        eoi=parse(eoi_config, config["eoi"], "eoi.", strict=False),
    )
    _refuse_nonsense(settings)
    return settings


def readers() -> tuple[set[str], set[str]]:
    """The names of all settings that some part reads: at the top level, and under `eoi`."""
    parts = [RunConfig, ControllerConfig, MixerConfig, ReplayConfig, *(learner.Config for learner in learners.REGISTRY.values())]
    forms = [eoi.EOIConfig, *(form.Config for form in eoi.FORMS.values())]
    top, section = ({f.name for part in group for f in fields(part)} for group in (parts, forms))
    return top, section


def _refuse_unread(given: Mapping[str, Any], read: set[str], eoi_config: type, name: str) -> None:
    for key in given:
        if key not in read | {"eoi"}:
            raise UserError(f"{key}: has no effect with --config={name}")
    known = {f.name for f in fields(eoi_config)} if eoi_config is not eoi.EOIConfig else {"form"}
    for key in given.get("eoi", {}):
        if key not in known:
            raise UserError(f"eoi.{key}: has no effect with --config={name}, which runs EOI in another form or not at all")


def _refuse_nonsense(settings: Settings) -> None:
    run = settings.run
    if run.use_cuda and not torch.cuda.is_available():
        raise UserError("use_cuda: there is no CUDA device here; set use_cuda=False")
    if run.evaluate and not run.checkpoint_path:
        raise UserError("evaluate: set checkpoint_path to the folder of the run to evaluate")
    if settings.controller.same_init and settings.controller.share_params:
        raise UserError("same_init: has no effect with share_params=True")


@dataclass
class Parts:
    """What a run is made of."""

    learner: QLearner
    descent: Descent
    replay: ReplayBuffer
    train: Rollout
    test: Rollout
    device: torch.device


def build(settings: Settings) -> Parts:
    """Environments, networks, replay. The initial weights depend on the seed alone."""
    run = settings.run
    device = torch.device("cuda" if run.use_cuda else "cpu")
    torch.set_num_threads(run.threads)
    make_env = envs.REGISTRY[run.env]
    train_env, test_env = (make_env(settings.env, n, device) for n in (run.batch_size_run, run.test_nepisode))
    if train_env.spec.notice:
        log.warning("note: %s", train_env.spec.notice)
    with_q = getattr(settings.eoi, "q_source", "") == "stored"
    learner = build_learner(settings, train_env.spec).to(device)
    if run.checkpoint_path:
        restore(learner, find_folder(run.checkpoint_path))
    return Parts(
        learner=learner,
        descent=Descent(learner),
        replay=ReplayBuffer(train_env.spec, settings.replay, device, with_q),
        train=Rollout(train_env, device, with_q),
        test=Rollout(test_env, device),
        device=device,
    )


def build_learner(settings: Settings, spec: envs.EnvSpec) -> QLearner:
    """EOI's networks are drawn from a seed of their own, so that they leave the base learner's as they are without EOI."""
    seed, hidden, cfg = settings.run.seed, settings.controller.hidden, settings.eoi
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        controller, mixer = Controller(spec, settings.controller), make_mixer(spec, settings.mixer)
        torch.manual_seed(seed + 2**32)
        individuality = _build_eoi(spec, cfg, hidden, settings.learner.gamma)
    return learners.REGISTRY[settings.run.learner](
        settings.learner,
        controller,
        mixer,
        extras=[individuality] if individuality else [],
        shaping=individuality.reward if cfg.form == "reward" else None,
        explore=individuality.explore if cfg.form == "explore" else None,
    )


def find_folder(name: str) -> pathlib.Path:
    """A folder as typed: from where the user stands, else from the repository."""
    here = pathlib.Path(name).expanduser()
    return here if here.exists() else pathlib.Path(__file__).resolve().parent.parent / here


def restore(learner: QLearner, folder: pathlib.Path, name: str = "last") -> None:
    """Puts the saved networks of a run's folder into `learner`. Raises UserError."""
    path = folder / "models" / f"{name}.pt"
    if not path.exists():
        raise UserError(f"{folder}: not a run with saved networks (no models/{name}.pt in it)")
    try:
        learner.load_state_dict(checkpoints.load(path)["learner"])
    except (KeyError, RuntimeError):
        raise UserError(f"{path}: its networks are not those of this configuration; use the run's own --config and --env-config") from None


def _build_eoi(spec: envs.EnvSpec, cfg: Any, hidden: tuple[int, int], gamma: float) -> Any:
    if cfg.form == "none":
        return None
    return eoi.FORMS[cfg.form](spec, cfg, hidden, **({"gamma": gamma} if cfg.form == "pull" else {}))


@dataclass
class Counters:
    """Where a run stands. With the seed, this is the state of all its randomness."""

    t: int = 0  # environment steps
    episodes: int = 0
    updates: int = 0
    tests: int = 0
    best: float = float("-inf")  # highest test return so far


class Training:
    """The loop: play, learn, report, test, save."""

    def __init__(self, parts: Parts, settings: Settings, log: RunLog, folder: pathlib.Path | None):
        self.parts, self.settings, self.run, self.log, self.folder = parts, settings, settings.run, log, folder
        self.at = Counters()
        self.keys = {name: root_key(self.run.seed, name, parts.device) for name in ("train", "test", "replay")}
        self.since_report: list[Outcome] = []
        self.batch: Batch | None = None
        self.stats: Stats = {}

    def train(self) -> Counters:
        """Until t_max. An interruption saves the networks on its way out."""
        try:
            self.loop()
        finally:
            self.save("last")
        return self.at

    def loop(self) -> None:
        at, run = self.at, self.run
        self.test()
        self.log.progress(at.t, at.episodes, at.updates)
        while at.t < run.t_max:
            before = at.t
            self.play()
            self.learn()
            if at.t // run.log_interval > before // run.log_interval:
                self.report()
            if at.t // run.test_interval > before // run.test_interval:
                self.test()
            self.log.progress(at.t, at.episodes, at.updates)
        self.log.progress(at.t, at.episodes, at.updates, last=True)

    def play(self) -> None:
        rollout, at = self.parts.train, self.at
        episodes = rollout.run(self.parts.learner.act, self.episode_keys("train", at.episodes, rollout), self.now())
        self.parts.replay.insert(episodes)
        at.t += rollout.steps(episodes)
        at.episodes += rollout.env.n_envs
        self.since_report.append(episodes.outcome())

    def learn(self) -> None:
        at, run, replay, now = self.at, self.run, self.parts.replay, self.now()
        due = at.t // run.update_interval - at.updates if at.t >= run.learning_starts else 0
        keys = fold(self.keys["replay"], at.updates + torch.arange(due, device=self.parts.device))
        for rows in replay.draw(keys, self.settings.replay.batch_size, self.settings.eoi.delta_t) if due else ():
            self.batch = replay.read(rows)
            self.stats = self.parts.descent.update(self.batch, now, at.episodes)
            at.updates += 1

    def test(self) -> None:
        """Greedy episodes with randomness of their own; keeps the networks if they are the best so far."""
        rollout, at = self.parts.test, self.at
        keys = self.episode_keys("test", at.tests * rollout.env.n_envs, rollout)
        outcome = rollout.run(self.parts.learner.act, keys, self.now(), greedy=True).outcome()
        self.log.metrics(summary([outcome], rollout.env.spec.metrics), at.t, prefix="test_")
        at.tests += 1
        if self.log.latest["test_return_mean"] > at.best:
            at.best = self.log.latest["test_return_mean"]
            self.save("best")

    def report(self) -> None:
        self.log.metrics(summary(self.since_report, self.parts.train.env.spec.metrics), self.at.t)
        self.log.metrics({"episode": self.at.episodes, "updates": self.at.updates}, self.at.t)
        if self.batch is not None:
            self.log.metrics(self.stats | self.parts.learner.diagnose(self.batch, self.now()), self.at.t)
        self.since_report = []

    def save(self, name: str) -> None:
        if self.run.save_model and self.folder is not None:
            content = {"t": self.at.t, "learner": self.parts.learner.state_dict()}
            checkpoints.save(self.folder / "models" / f"{name}.pt", content)

    def now(self) -> Tensor:
        return torch.tensor(float(self.at.t), device=self.parts.device)

    def episode_keys(self, stream: str, first: int, rollout: Rollout) -> Tensor:
        return fold(self.keys[stream], first + torch.arange(rollout.env.n_envs, device=self.parts.device))


def evaluate(parts: Parts, settings: Settings, log: RunLog) -> float:
    """test_nepisode greedy episodes with the saved networks; their mean return."""
    training = Training(parts, settings, log, None)
    training.test()
    for name, value in log.latest.items():
        print(f"{name} {value:.4g}")
    return log.latest["test_return_mean"]


def summary(outcomes: Sequence[Outcome], metrics: Sequence[str]) -> dict[str, Tensor]:
    """PyMARL's return_mean, return_std, ep_length_mean, and the mean of the world's own metrics."""
    returns, lengths = (torch.cat([getattr(o, name) for o in outcomes]) for name in ("returns", "length"))
    means = {f"{name}_mean": torch.cat([o.info[name] for o in outcomes]).mean(0) for name in metrics}
    return {"return_mean": returns.mean(), "return_std": returns.std(correction=0), "ep_length_mean": lengths.float().mean()} | means
