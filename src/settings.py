"""The whole configuration of a run, checked, and each part as its reader needs it.

Learners, agents, mixers and extras declare their own settings. This file names those of them that
two parts must agree on.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from eoi import envs, learners
from eoi.components.replay import ReplayConfig
from eoi.config.schema import OWN, nearest, parse, setting
from eoi.controllers.controller import ControllerConfig
from eoi.learners import Learner
from eoi.learners.base import Extra, LearnerConfig, hooks
from eoi.learners.extras import sections
from eoi.modules import agents
from eoi.records.record import labelled
from eoi.utils.errors import UserError


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    name: str
    label: str
    seed: int = setting(0, 2**31 - 1)
    use_cuda: bool
    cuda_graphs: bool = setting(default=True)
    threads: int = setting(1, 1024)
    batch_size_run: int = setting(1)
    t_max: int = setting(1)
    test_interval: int = setting(1)  # environment steps
    test_nepisode: int = setting(1)
    absolute_nepisode: int = setting(0, default=0)  # with the best networks, after training
    log_interval: int = setting(1)  # environment steps
    local_results_path: str
    save_model: bool
    save_interval: float = setting(0, default=5.0)  # minutes; 0: no checkpoints
    checkpoint_path: str
    evaluate: bool
    save_replay: bool
    plugins: tuple[str, ...]
    learner: str
    env: str
    world: str = setting(default="")
    env_args: dict


@dataclass(frozen=True)
class ChosenExtra:
    """An extra that is switched on, with its settings."""

    section: str
    kind: type[Extra]
    cfg: object


@dataclass(frozen=True)
class Settings:
    """A checked configuration."""

    run: RunConfig
    env: Any  # the world's own dataclass
    controller: ControllerConfig
    agent: object  # the settings of the agents' kind of network
    learner: LearnerConfig
    replay: ReplayConfig
    extras: tuple[ChosenExtra, ...]

    @property
    def world(self) -> str:
        """The environment's name for titles and tables."""
        return labelled(self.run.world or self.run.env, vars(self.env))

    @property
    def title(self) -> str:
        return f"{self.world} {self.run.name} seed {self.run.seed}"

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if self.run.use_cuda else "cpu")

    @property
    def modules(self) -> tuple[str, ...]:
        """The user's modules that every command on the run needs: plugins, and the world's."""
        return (*self.run.plugins, *getattr(self.env, "modules", ()))

    @property
    def reads_cells(self) -> bool:
        """True: an extra reads the agents' cells."""
        return any(chosen.kind.reads_cells(chosen.cfg) for chosen in self.extras)

    def extra(self, section: str) -> ChosenExtra | None:
        """The extra of a section, where it is switched on."""
        return next((chosen for chosen in self.extras if chosen.section == section), None)


NONE = "none"  # the form of a section that is switched off


def configure(config: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> Settings:
    """Checks everything that can be checked before anything is created.

    `given`: keys that the user typed; one that belongs to no part of this run is refused.
    Raises UserError.
    """
    run = parse(RunConfig, config, strict=False)
    for key, name, registry in (
        ("env", run.env, envs.REGISTRY),
        ("learner", run.learner, learners.REGISTRY),
    ):
        if name not in registry:
            near = nearest(name, registry)
            raise UserError(f"{key}={name}: there is no such {key}.{near}{OWN}")
    kind = learners.REGISTRY[run.learner]
    extras = tuple(_chosen(config))
    controller = parse(ControllerConfig, config, strict=False)
    agent = agents.REGISTRY[controller.agent]
    _refuse_unread(given or {}, (kind, agent), {c.section: c for c in extras}, run)
    _refuse_overruled(given or {}, config, run.name)
    settings = Settings(
        run=run,
        env=envs.configured(run.env, run.env_args),
        controller=controller,
        agent=parse(agent.Config, config, strict=False),
        learner=parse(kind.Config, config, strict=False),
        replay=parse(ReplayConfig, config, strict=False),
        extras=extras,
    )
    _refuse_switched_off(given or {}, settings)
    _refuse_nonsense(settings)
    _refuse_misfits(settings, kind)
    return settings


def _chosen(config: Mapping[str, Any]) -> Iterator[ChosenExtra]:
    """Extras that are switched on, those that others require among them."""
    forms = {section: _form(section, config) for section in sections()}
    for section, kinds in sections().items():
        kind = kinds.get(forms[section])
        if kind is None or not kind.requires:
            continue
        cfg = parse(kind.Config, config[section], f"{section}.", strict=False)
        required, _, form = kind.requires.partition(".")
        if kind.active(cfg) and forms[required] == NONE:
            forms[required] = form
    for section, kinds in sections().items():
        if forms[section] == NONE:
            continue
        kind, content = kinds[forms[section]], dict(config[section])
        if "" not in kinds:
            content["form"] = forms[section]
        cfg = parse(kind.Config, content, f"{section}.", strict=False)
        if kind.active(cfg):
            yield ChosenExtra(section, kind, cfg)


def _form(section: str, config: Mapping[str, Any]) -> str:
    """The form that a section asks for; '' where it has only one."""
    kinds = sections()[section]
    if "" in kinds:
        return ""
    form = config[section]["form"]
    if form not in (NONE, *kinds):
        choices = ", ".join(repr(each) for each in (NONE, *kinds))
        raise UserError(f"{section}.form: expected one of {choices}, got {form!r}.{OWN}")
    return form


EVERY_RUN = (RunConfig, ControllerConfig, ReplayConfig)  # parts whose settings every run reads


def _names(*parts: type) -> set[str]:
    return {f.name for part in parts for f in dataclasses.fields(part)}


def readers() -> tuple[set[str], dict[str, set[str]]]:
    """Names of all settings that some part reads: at the top level, and in each section."""
    kinds = (*learners.REGISTRY.values(), *agents.REGISTRY.values())
    top = _names(*EVERY_RUN, *(kind.Config for kind in kinds))
    return top, {
        section: _names(*(kind.Config for kind in kinds.values()))
        for section, kinds in sections().items()
    }


def fits(extra: type[Extra], kind: type[Learner]) -> bool:
    """False: the learner lacks a hook, the view, or a held tensor that the extra needs."""
    held = extra.keeps <= kind.holds.keys()
    return hooks(extra) <= kind.serves and issubclass(kind.lends, extra.view) and held


def _refuse_unread(
    given: Mapping[str, Any],
    kinds: tuple[type[Learner], type[agents.Agent]],
    chosen: Mapping[str, ChosenExtra],
    run: RunConfig,
) -> None:
    """Raises UserError. `kinds`: the run's learner and agents' network."""
    (learner, agent), name = kinds, run.name
    fitting = {
        section
        for section, forms in sections().items()
        if any(fits(extra, learner) for extra in forms.values())
    }
    top = _names(*EVERY_RUN, learner.Config, agent.Config) | fitting
    for key in given:
        if key not in top:
            reasons = {_misfit(extra, learner) for extra in sections().get(key, {}).values()}
            why = f"; learner={run.learner} {reasons.pop()}" if len(reasons) == 1 else ""
            raise UserError(f"{key}: has no effect with --config={name}{why}")
    for section, forms in sections().items():
        if "" in forms or section not in given:
            continue
        known = _names(chosen[section].kind.Config) if section in chosen else {"form"}
        for key in given[section]:
            if key not in known:
                raise UserError(
                    f"{section}.{key}: has no effect with --config={name}, "
                    f"which runs {section.upper()} in another form or not at all"
                )


def _refuse_switched_off(given: Mapping[str, Any], settings: Settings) -> None:
    """A typed setting of an extra that is off; typing its switch is fine. Raises UserError."""
    for section, forms in sections().items():
        switch = forms[""].switch if "" in forms else ""
        if not switch or section not in given or settings.extra(section) is not None:
            continue
        if switch not in given[section]:
            key, name = f"{section}.{min(given[section])}", settings.run.name
            raise UserError(
                f"{key}: has no effect with --config={name}, which has {section}.{switch}=0; "
                f"set {section}.{switch} too"
            )


# Settings without effect where the second is above 0
_OVERRULED = {
    "update_interval": "update_interval_episodes",
    "target_update_tau": "target_update_interval",
}


def _refuse_overruled(given: Mapping[str, Any], config: Mapping[str, Any], name: str) -> None:
    """A typed setting that another one leaves without effect. Raises UserError."""
    for key, by in _OVERRULED.items():
        if key in given and config[by]:
            fix = "give one of them" if by in given else f"{name} has {config[by]}; add {by}=0"
            raise UserError(f"{key}: has no effect with {by}; {fix}")


def _refuse_misfits(settings: Settings, kind: type[Learner]) -> None:
    """Parts that are each in order and do not go together. Raises UserError."""
    learner = settings.run.learner
    for section, extra, _ in ((c.section, c.kind, c.cfg) for c in settings.extras):
        if fits(extra, kind):
            continue
        forms = [name for name, each in sections()[section].items() if fits(each, kind)]
        if "" in sections()[section]:
            raise UserError(f"{section}: learner={learner} {_misfit(extra, kind)}")
        form = next(name for name, each in sections()[section].items() if each is extra)
        takes = f"takes one of {', '.join(sorted(forms))}" if forms else _misfit(extra, kind)
        raise UserError(f"{section}.form={form}: learner={learner} {takes}")
    _refuse_agents(settings, kind)
    if settings.reads_cells and not hasattr(envs.REGISTRY[settings.run.env], "position"):
        named = [c.section for c in settings.extras if c.kind.reads_cells(c.cfg)]
        raise UserError(
            f"{named[0]}: env={settings.run.env} has no cells for its agents' positions"
        )
    controller = settings.controller
    heads = getattr(settings.learner, "attend_heads", 1)
    if controller.hidden_dim % heads:
        raise UserError(
            f"attend_heads: {heads} heads do not divide hidden_dim={controller.hidden_dim}"
        )


def _refuse_agents(settings: Settings, kind: type[Learner]) -> None:
    """Networks of agents that the learner, or an extra, cannot use. Raises UserError."""
    learner, name = settings.run.learner, settings.controller.agent
    agent = agents.REGISTRY[name]
    if agent.remembers and not kind.memory:
        raise UserError(f"agent={name}: learner={learner} takes agents without memory")
    if agent.draws and not kind.noise:
        raise UserError(f"agent={name}: learner={learner} takes agents that draw nothing")
    for chosen in settings.extras:
        if missing := sorted(chosen.kind.reads - agent.gives):
            fitting = [k for k, each in agents.REGISTRY.items() if chosen.kind.reads <= each.gives]
            raise UserError(
                f"{chosen.section}: agent={name} gives no {missing[0]}; "
                f"set agent to one of {', '.join(fitting)}"
            )


def _misfit(extra: type[Extra], kind: type[Learner]) -> str:
    """Reason why a learner cannot take an extra, and the learners that can."""
    if missing := sorted(hooks(extra) - kind.serves):
        reason = f"does not call its hook {' and '.join(missing)}"
    elif not issubclass(kind.lends, extra.view):
        reason = f"lends its loss terms no {extra.view.__name__}"
    else:
        reason = f"holds no {min(extra.keeps - kind.holds.keys())!r}"
    others = [name for name, each in learners.REGISTRY.items() if fits(extra, each)]
    return f"{reason}; it goes with {' or '.join(others)}" if others else reason


def _refuse_nonsense(settings: Settings) -> None:
    run = settings.run
    if not run.name:
        raise UserError("name: empty; tables and pictures know the algorithm by it")
    if run.use_cuda and not torch.cuda.is_available():
        raise UserError("use_cuda: there is no CUDA device here; set use_cuda=False")
    if run.evaluate and not run.checkpoint_path:
        raise UserError("evaluate: set checkpoint_path to the folder of the run to evaluate")
    if run.absolute_nepisode and not run.save_model:
        raise UserError("absolute_nepisode: plays the best networks; it requires save_model=True")
    if run.save_replay and not run.evaluate:
        raise UserError("save_replay: goes with evaluate=True and a checkpoint_path")
    if settings.controller.same_init and settings.controller.share_params:
        raise UserError("same_init: has no effect with share_params=True")
