"""The whole configuration of a run, checked, and each part as its reader wants it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch

from eoi import envs, learners
from eoi.components.replay_buffer import ReplayConfig
from eoi.config.schema import nearest, parse, setting
from eoi.controllers.controller import ControllerConfig
from eoi.learners import AnyLearner, eoi
from eoi.learners.kl import KLConfig, KLDivergence
from eoi.learners.lfo import LFO, LFOConfig
from eoi.records.record import labelled
from eoi.utils.errors import UserError


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
    for kind, name, registry in (
        ("env", run.env, envs.REGISTRY),
        ("learner", run.learner, learners.REGISTRY),
    ):
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


ADDITIONS = {"lfo": LFO, "kl": KLDivergence}  # by their section
EVERY_RUN = (RunConfig, ControllerConfig, ReplayConfig)  # the parts whose settings every run reads


def _names(*parts: type) -> set[str]:
    return {f.name for part in parts for f in fields(part)}


def readers() -> tuple[set[str], dict[str, set[str]]]:
    """The names of all settings that some part reads: at the top level, and in each section."""
    kinds = learners.REGISTRY.values()
    top = _names(
        *EVERY_RUN,
        *(part for kind in kinds for part in (kind.Config, kind.NetworkConfig, kind.Feed.Config)),
    )
    return top, {
        "eoi": _names(eoi.EOIConfig, *(form.Config for form in eoi.FORMS.values())),
        "lfo": _names(LFOConfig),
        "kl": _names(KLConfig),
    }


def _fitting(kind: type[AnyLearner], additions: Mapping[str, Any]) -> list[str]:
    """The names of those that find in a learner what they need."""
    return sorted(name for name, addition in additions.items() if addition.needs <= kind.accepts)


def _refuse_unread(
    given: Mapping[str, Any], kind: type[AnyLearner], eoi_config: type, name: str
) -> None:
    top = _names(*EVERY_RUN, kind.Config, kind.NetworkConfig, kind.Feed.Config) | {
        "eoi",
        *_fitting(kind, ADDITIONS),
    }
    for key in given:
        if key not in top:
            raise UserError(f"{key}: has no effect with --config={name}")
    known = _names(eoi_config) if eoi_config is not eoi.EOIConfig else {"form"}
    for key in given.get("eoi", {}):
        if key not in known:
            raise UserError(
                f"eoi.{key}: has no effect with --config={name}, which runs EOI in another form or not at all"
            )


def _refuse_misfits(settings: Settings) -> None:
    """Parts that are each in order and do not go together."""
    run, kind = settings.run, learners.REGISTRY[settings.run.learner]
    forms = _fitting(kind, eoi.FORMS)
    if settings.eoi.form not in {*forms, "none"}:
        raise UserError(
            f"eoi.form={settings.eoi.form}: learner={run.learner} takes one of {', '.join(forms)}"
        )
    for section, on in (("lfo", settings.lfo.omega > 0), ("kl", settings.kl.weight > 0)):
        if on and section not in _fitting(kind, ADDITIONS):
            raise UserError(f"{section}: learner={run.learner} cannot take it")
    heads = getattr(settings.network, "attend_heads", 1)
    if settings.controller.hidden_dim % heads:
        raise UserError(
            f"attend_heads: {heads} heads do not divide hidden_dim={settings.controller.hidden_dim}"
        )


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
