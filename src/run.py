"""Joins the parts of a run, and the training loop. `build` is the only place that sees the whole configuration."""

import logging
import pathlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

import envs
import learners
import snapshots
from components.episodes import Episodes, Outcome
from components.replay_buffer import ReplayBuffer, ReplayConfig
from config.schema import nearest, parse, setting
from controllers.controller import Controller, ControllerConfig
from envs.base import VecEnv
from learners import AnyLearner, eoi
from learners.feeds import Replayed, Rolled
from learners.kl import KLConfig, KLDivergence
from learners.learner import Descent, Stats
from learners.lfo import LFO, LFOConfig
from runners.rollout import Rollout
from runners.watching import Watched, diversity
from utils import checkpoints
from utils.errors import Failure, UserError
from utils.logging import RunLog
from utils.records import labelled
from utils.seeding import fold, root_key
from utils.stopping import Stop

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
    local_results_path: str
    save_model: bool
    save_interval: float = setting(0, default=5.0)  # minutes; 0: no checkpoints
    checkpoint_path: str
    evaluate: bool
    save_replay: bool
    learner: str
    env: str
    env_args: dict


@dataclass(frozen=True)
class Settings:
    """A checked configuration, each part as its reader wants it."""

    run: RunConfig
    env: Any
    controller: ControllerConfig
    learner: Any
    network: Any  # what stands beside the agents: a mixer, or a critic
    feed: Any
    replay: ReplayConfig
    eoi: Any  # of its form
    lfo: LFOConfig
    kl: KLConfig

    @property
    def world(self) -> str:
        """The environment's name for titles and tables."""
        return labelled(self.run.env, vars(self.env))

    @property
    def title(self) -> str:
        return f"{self.world} {self.run.name} seed {self.run.seed}"


def configure(config: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> Settings:
    """Checks everything that can be checked before anything is created.

    `given` is what the user typed: a key among it that this run would not read is refused. Raises UserError.
    """
    run = parse(RunConfig, config, strict=False)
    for kind, name, registry in (("env", run.env, envs.REGISTRY), ("learner", run.learner, learners.REGISTRY)):
        if name not in registry:
            raise UserError(f"{kind}={name}: there is no such {kind}.{nearest(name, registry)}")
    kind = learners.REGISTRY[run.learner]
    lfo, kl = parse(LFOConfig, config["lfo"], "lfo."), parse(KLConfig, config["kl"], "kl.")
    individuality = dict(config["eoi"])
    form = parse(eoi.EOIConfig, individuality, "eoi.", strict=False).form
    if form == "none" and lfo.omega > 0:  # its weights want a classifier
        form = individuality["form"] = "classifier"
    eoi_config = eoi.FORMS[form].Config if form != "none" else eoi.EOIConfig
    _refuse_unread(given or {}, kind, eoi_config, run.name)
    settings = Settings(
        run=run,
        env=envs.configured(run.env, run.env_args),
        controller=parse(ControllerConfig, config, strict=False),
        learner=parse(kind.Config, config, strict=False),
        network=parse(kind.NetworkConfig, config, strict=False),
        feed=parse(kind.Feed.Config, config, strict=False),
        replay=parse(ReplayConfig, config, strict=False),
        eoi=parse(eoi_config, individuality, "eoi.", strict=False),
        lfo=lfo,
        kl=kl,
    )
    _refuse_nonsense(settings)
    _refuse_misfits(settings)
    return settings


EVERY_RUN = (RunConfig, ControllerConfig, ReplayConfig)  # the parts whose settings every run reads


def _names(*parts: type) -> set[str]:
    return {f.name for part in parts for f in fields(part)}


def readers() -> tuple[set[str], dict[str, set[str]]]:
    """The names of all settings that some part reads: at the top level, and in each section."""
    kinds = learners.REGISTRY.values()
    top = _names(*EVERY_RUN, *(part for kind in kinds for part in (kind.Config, kind.NetworkConfig, kind.Feed.Config)))
    return top, {
        "eoi": _names(eoi.EOIConfig, *(form.Config for form in eoi.FORMS.values())),
        "lfo": _names(LFOConfig),
        "kl": _names(KLConfig),
    }


def _refuse_unread(given: Mapping[str, Any], kind: type[AnyLearner], eoi_config: type, name: str) -> None:
    top = _names(*EVERY_RUN, kind.Config, kind.NetworkConfig, kind.Feed.Config) | {"eoi", *kind.sections}
    for key in given:
        if key not in top:
            raise UserError(f"{key}: has no effect with --config={name}")
    known = _names(eoi_config) if eoi_config is not eoi.EOIConfig else {"form"}
    for key in given.get("eoi", {}):
        if key not in known:
            raise UserError(f"eoi.{key}: has no effect with --config={name}, which runs EOI in another form or not at all")


def _refuse_misfits(settings: Settings) -> None:
    """Parts that are each in order and do not go together."""
    run, kind = settings.run, learners.REGISTRY[settings.run.learner]
    if settings.eoi.form not in kind.forms | {"none"}:
        raise UserError(f"eoi.form={settings.eoi.form}: learner={run.learner} takes one of {', '.join(sorted(kind.forms))}")
    for section, on in (("lfo", settings.lfo.omega > 0), ("kl", settings.kl.weight > 0)):
        if on and section not in kind.sections:
            raise UserError(f"{section}: learner={run.learner} cannot take it")
    heads = getattr(settings.network, "attend_heads", 1)
    if settings.controller.hidden_dim % heads:
        raise UserError(f"attend_heads: {heads} heads do not divide hidden_dim={settings.controller.hidden_dim}")


def _refuse_nonsense(settings: Settings) -> None:
    run = settings.run
    if run.use_cuda and not torch.cuda.is_available():
        raise UserError("use_cuda: there is no CUDA device here; set use_cuda=False")
    if run.evaluate and not run.checkpoint_path:
        raise UserError("evaluate: set checkpoint_path to the folder of the run to evaluate")
    if run.save_replay and not run.evaluate:
        raise UserError("save_replay: goes with evaluate=True and a checkpoint_path")
    if settings.controller.same_init and settings.controller.share_params:
        raise UserError("same_init: has no effect with share_params=True")


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
    return Parts(
        learner=learner,
        descent=Descent(learner),
        replay=replay,
        feed=learner.Feed(settings.feed, learner, replay, settings.replay.batch_size, settings.eoi.delta_t),
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
        log.info("%d copies are played at once, not batch_size_run=%d", env.n_envs, run.batch_size_run)


def _with_q(settings: Settings) -> bool:
    return getattr(settings.eoi, "q_source", "") == "stored"


def build_learner(settings: Settings, spec: envs.EnvSpec) -> AnyLearner:
    """EOI's networks are drawn from a seed of their own, so that they leave the base learner's as they are without EOI."""
    seed, hidden, cfg = settings.run.seed, settings.controller.hidden, settings.eoi
    mixer = getattr(settings.network, "mixer", "none")
    if spec.individual_rewards and mixer != "none":
        raise UserError(f"env_args.reward=individual: mixer={mixer} learns the team's value; set mixer=none, or env_args.reward=sum")
    kind = learners.REGISTRY[settings.run.learner]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        controller, network = Controller(spec, settings.controller), kind.make_network(spec, settings.network, hidden)
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


def restore(learner: AnyLearner, folder: pathlib.Path, name: str = "last") -> None:
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


class Course(ABC):
    """The loop of one run, or of many side by side: play, learn, report, test, save."""

    run: RunConfig
    at: Counters
    saved_at: float  # seconds, of the newest checkpoint

    def train(self) -> None:
        """Until t_max. Ctrl-C ends it after the iteration in hand, and what it has come to is saved."""
        with Stop() as stop:
            self._loop(stop)
        self.finish()
        if stop.asked and self.at.t < self.run.t_max:
            raise KeyboardInterrupt

    def _loop(self, stop: Stop) -> None:
        run = self.run
        if self.at.t == 0:
            self.test()
        self.progress()
        while self.at.t < run.t_max and not stop.asked:
            before = self.at.t
            self.play()
            self.learn()
            if self.at.t // run.log_interval > before // run.log_interval:
                self.report()
            if self.at.t // run.test_interval > before // run.test_interval:
                self.test()
            self.progress()
            if time.monotonic() - self.saved_at >= 60 * run.save_interval:
                _while_running(self.checkpoint)
        self.progress(last=True)

    @abstractmethod
    def play(self) -> None: ...
    @abstractmethod
    def learn(self) -> None: ...
    @abstractmethod
    def test(self) -> None: ...
    @abstractmethod
    def report(self) -> None: ...
    @abstractmethod
    def progress(self, last: bool = False) -> None: ...
    @abstractmethod
    def checkpoint(self) -> None: ...
    @abstractmethod
    def finish(self) -> None: ...


class Training(Course):
    """One run."""

    def __init__(self, parts: Parts, settings: Settings, log: RunLog, folder: pathlib.Path | None):
        self.parts, self.settings, self.run, self.log, self.folder = parts, settings, settings.run, log, folder
        self.at = Counters()
        self.keys = {name: root_key(self.run.seed, name, parts.device) for name in ("train", "test", "replay")}
        self.since_report: list[Outcome] = []
        self.batch: Any = None  # the last one learnt from
        self.stats: Stats = {}
        self.checkpoints = checkpoints.Checkpoints(folder / "checkpoints") if folder and self.run.save_interval else None
        self.saved_t, self.saved_at = -1, time.monotonic()  # of the newest checkpoint

    def play(self) -> None:
        self.lived(self.parts.train.run(self.parts.learner.act, self.train_keys(), self.now()))

    def lived(self, episodes: Episodes) -> None:
        """Takes in the episodes just played."""
        self.parts.feed.insert(episodes)
        self.at.t += self.parts.train.steps(episodes)
        self.at.episodes += self.parts.train.env.n_envs
        self.since_report.append(episodes.outcome())

    def learn(self) -> None:
        """As many updates as are due, each on what the learner is fed with."""
        at, now = self.at, self.now()
        for batch in self.parts.feed.batches(self.keys["replay"], now, at.t, at.updates):
            self.batch, self.stats = batch, self.parts.descent.update(batch, now, at.episodes)
            at.updates += 1

    def test(self) -> None:
        """Greedy episodes with randomness of their own: in rounds where there are fewer copies."""
        rollout = self.parts.test
        watched, rounds = Watched(self.parts.learner.act, rollout.env), max(1, self.run.test_nepisode // rollout.env.n_envs)

        def played(k: int) -> Episodes:
            return rollout.run(watched, self.test_keys(self.at.tests * rounds + k), self.now(), greedy=True)

        outcomes = [played(k).outcome() for k in range(rounds - 1)]
        last = played(rounds - 1)
        self.tested([*outcomes, last.outcome()], last, watched.overlap())

    def tested(self, outcomes: Sequence[Outcome], last: Episodes, overlap: dict[str, Tensor]) -> None:
        """Logs how a test went, the last round of which was `last`; keeps the networks if they are the best so far."""
        found = summary(outcomes, self.parts.test.env.spec.metrics) | diversity(self.parts.learner.policy, last) | overlap
        self.log.metrics(found, self.at.t, prefix="test_")
        self.at.tests += 1
        if self.log.latest["test_return_mean"] > self.at.best:
            self.refuse_broken()
            self.at.best = self.log.latest["test_return_mean"]
            _while_running(lambda: self.save("best"))

    def report(self) -> None:
        self.refuse_broken()
        self.log.metrics(summary(self.since_report, self.parts.train.env.spec.metrics), self.at.t)
        self.log.metrics({"episode": self.at.episodes, "updates": self.at.updates}, self.at.t)
        if self.parts.train.env.spec.scarce:
            self.log.metrics({"dropped_episodes": self.parts.train.dropped + self.parts.test.dropped}, self.at.t)
        if self.batch is not None:
            self.log.metrics(self.stats | self.parts.learner.diagnose(self.batch, self.now()), self.at.t)
        self.since_report = []

    def progress(self, last: bool = False) -> None:
        self.log.progress(self.at.t, self.at.episodes, self.at.updates, last)

    def finish(self) -> None:
        self.refuse_broken()
        self.save("last")
        self.checkpoint()

    def save(self, name: str) -> None:
        if self.run.save_model and self.folder is not None:
            content = {"t": self.at.t, "learner": snapshots.networks(self.parts.learner)}
            checkpoints.save(self.folder / "models" / f"{name}.pt", content)

    def checkpoint(self) -> None:
        """All of the run's state, for `resume`. Raises OSError."""
        if self.checkpoints is None or self.saved_t == self.at.t:
            return
        self.refuse_broken()
        self.saved_at = time.monotonic()
        self.checkpoints.write(self.at.t, snapshots.take(self))
        self.saved_t = self.at.t

    def resume(self, path: pathlib.Path, content: dict[str, Any]) -> None:
        """Goes on from a checkpoint. Raises UserError."""
        try:
            snapshots.put(self, content)
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise UserError(f"{path}: does not fit this program ({type(error).__name__}: {str(error).splitlines()[0]})") from None
        self.saved_t = self.at.t

    def refuse_broken(self) -> None:
        """Raises Failure when the loss, or a network, has ceased to be finite; what was saved before stays."""
        terms, ago = self.parts.descent.broken()
        state = self.parts.learner.state_dict().items()
        what = [f"loss term {term}" for term in terms] or [name for name, x in state if x.is_floating_point() and not x.isfinite().all()]
        if what:
            first = f" since update {self.at.updates - ago + 1}" if terms else ""
            saved = f"the state of t = {self.saved_t} is in checkpoints/" if self.saved_t >= 0 else "there is no checkpoint before it"
            raise Failure(f"{', '.join(what[:4])}: nan or infinite{first}; {saved}; a smaller lr or grad_norm_clip may help")

    def now(self) -> Tensor:
        return torch.tensor(float(self.at.t), device=self.parts.device)

    def train_keys(self) -> Tensor:
        return self.episode_keys("train", self.at.episodes, self.parts.train)

    def test_keys(self, number: int) -> Tensor:
        """`number` counts all rounds of all tests."""
        return self.episode_keys("test", number * self.parts.test.env.n_envs, self.parts.test)

    def episode_keys(self, stream: str, first: int, rollout: Rollout) -> Tensor:
        return fold(self.keys[stream], first + torch.arange(rollout.env.n_envs, device=self.parts.device))


def _while_running(write: Callable[[], None]) -> None:
    """A full disk does not end a run that can still go on: what was written before stays, and the next write may succeed."""
    try:
        write()
    except OSError as error:
        log.warning("warning: %s: %s; the run goes on", error.filename or "saving", error.strerror or error)


def evaluate(parts: Parts, settings: Settings, log: RunLog) -> float:
    """test_nepisode greedy episodes with the saved networks; their mean return."""
    save_replay = getattr(parts.test.env, "save_replay", None)
    if settings.run.save_replay and save_replay is None:
        raise UserError("save_replay: only StarCraft II itself has replays; src/watch.py makes films of any saved run")
    training = Training(parts, settings, log, None)
    training.test()
    if settings.run.save_replay and save_replay:
        print("replays:", *save_replay())
    for name, value in log.latest.items():
        print(f"{name} {value:.4g}")
    return log.latest["test_return_mean"]


def summary(outcomes: Sequence[Outcome], metrics: Sequence[str]) -> dict[str, Tensor]:
    """PyMARL's return_mean, return_std, ep_length_mean, and the mean of the world's own metrics."""
    returns, lengths = (torch.cat([getattr(o, name) for o in outcomes]) for name in ("returns", "length"))
    means = {f"{name}_mean": torch.cat([o.info[name] for o in outcomes]).mean(0) for name in metrics}
    return {"return_mean": returns.mean(), "return_std": returns.std(correction=0), "ep_length_mean": lengths.float().mean()} | means
