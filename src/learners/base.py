"""The contract of learners, and of everything that attaches to one.

A learner is an nn.Module that owns all its networks. `forward(batch, t, phase)` is pure: it draws
nothing but from the batch's key, reads nothing back from the device and writes no state; numbers
that may differ from run to run (discount, alpha, ...) are 0-dim buffers. So the same code serves
one run, or many at once: learners/stack.py maps it over stacked parameters, and
learners/graphs.py replays it on a GPU.

An update descends a learner's phases one after the other (a critic, then the actors); a phase moves
the parameters that its loss reaches. Most learners have one.

An `Extra` adds to a learner at named hooks: rewards, loss terms, exploration, and so on. A learner
lists the hooks that it calls in `serves`; an extra that overrides another one is refused.

Axes: N copies, A agents, U actions, O observation, S state, M joint values (1, or A); *b is
B transitions or B T episodes.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from eoi.components.action_selection import Carry, Choice, Keys
from eoi.components.batch import Batch, mean_of
from eoi.components.episodes import Episodes, Kept
from eoi.components.replay import Replay, Wants
from eoi.config.schema import setting
from eoi.controllers.controller import Controller, ControllerConfig
from eoi.envs.base import EnvSpec
from eoi.modules.agents import Agent
from eoi.utils.errors import UserError
from eoi.utils.shapes import Bool, Float, Int

Scalar = Float[Tensor, ""]
PerRun = Float[Tensor, "*r"]  # [] in one run, [R] in a fleet
Stats = dict[str, Scalar]


class Losses(NamedTuple):
    """Terms of one loss, whose sum is descended, and statistics without gradient. Both PerRun."""

    terms: dict[str, Scalar]
    stats: Stats
    # Terms of `scaled`: their gradient is scaled to this share of the norm of the main terms'
    # gradient, agent by agent.
    shares: dict[str, Scalar] = {}  # noqa: RUF012 # a NamedTuple's default is never written to


class Group(NamedTuple):
    """Parameters with one learning rate, whose gradients are clipped together."""

    modules: Sequence[nn.Module]
    lr: float
    clip: float = 0.0  # largest gradient norm; 0: any
    axes: int = 0  # leading axes of a parameter that are clipped apart; 1: agent by agent


class Pair(NamedTuple):
    """A target network and the network it follows."""

    target: nn.Module
    online: nn.Module
    tau: float  # share taken over at each update
    interval: int = 0  # episodes between copies; 0: soft, at every update
    phase: int | None = None  # it moves after updates of this phase; None: after every update


Given = dict[str, Tensor]  # [*b, A, ...]; further tensors of an agents' network


class Values(NamedTuple):
    """View of a value learner for the loss terms of its extras."""

    q: Float[Tensor, "*b A U"]  # Q^a(o), with its graph
    next_q: Float[Tensor, "*b A U"]  # target network at the next observation
    given: Given = {}  # noqa: RUF012 # beside q, with its graph
    of: Callable[[Tensor], Given] | None = None  # the same of any observations, without memory


class Policies(NamedTuple):
    """View of a policy learner for the loss terms of its extras."""

    log_p: Float[Tensor, "*b A U"]  # log pi_i(. | o_i), with its graph
    of: Callable[[Tensor, Tensor, Tensor | None], Tensor]  # obs, avail, last actions -> log pi


class Minibatch(NamedTuple):
    """View of an on-policy learner for the loss terms of its extras."""

    batch: Batch  # of the last rollout, with the fields that `study` gave


class Context(NamedTuple):
    """Facts that an extra may need to make its networks."""

    spec: EnvSpec
    hidden: tuple[int, int]  # units of both hidden layers of the agents' networks
    gamma: float  # the learner's discount
    others: Mapping[str, "Extra"]  # extras made before, by their section
    agents: Agent | None = None  # the agents' network, to read its sizes


View = TypeVar("View", contravariant=True)
Cfg = TypeVar("Cfg", bound="LearnerConfig")


class Extra(nn.Module, Generic[View]):
    """An addition to a learner. Override the hooks that it needs; the learner calls those.

    A subclass gets its own section of the settings by a line in learners/extras.py.
    """

    Config: ClassVar[type]  # its section of the settings, a frozen dataclass
    view: ClassVar[type] = object  # view of the learner that `losses` reads: Values, Policies
    keeps: frozenset[str] = frozenset()  # tensors of `Choice.keep` that it reads
    reads: ClassVar[frozenset[str]] = frozenset()  # further tensors of the agents' network
    switch: ClassVar[str] = ""  # setting that switches it on when above 0; "": always on
    requires: ClassVar[str] = ""  # SECTION.FORM to switch on where that section is off
    # Side terms: loss terms whose gradient meets the main terms' agent by agent. They train the
    # agents' networks alone.
    projected: frozenset[str] = frozenset()  # those that give up what opposes the main terms
    scaled: frozenset[str] = frozenset()  # those that `Losses.shares` scales
    notice: str = ""  # printed once, when a run starts
    remedy: str = ""  # printed where values have diverged and the return is gone
    window: int = 0  # steps back that `Batch.earlier` may lie; 0: it is not read
    last_obs: bool = False  # True: it reads `Batch.last_obs`

    @classmethod
    def active(cls, cfg: object) -> bool:
        """False: with these settings the extra is left out."""
        return not cls.switch or getattr(cfg, cls.switch) > 0

    @classmethod
    def reads_cells(cls, cfg: object) -> bool:
        """True: with these settings it reads the agents' cells, which only grid worlds have."""
        return False

    def observe(self, episodes: Episodes) -> None:
        """Sees new episodes before the updates; the one hook that may change buffers."""

    def rewards(self, batch: Batch, t: Scalar) -> dict[str, Float[Tensor, "*b A"]]:
        """Rewards of each agent by name, added to the task's; their means are logged."""
        return {}

    def study(self, rollout: Batch, t: Scalar) -> dict[str, Float[Tensor, "N T ..."]]:
        """Fields of a rollout [N, T] that its updates find in `Batch.kept`.

        Each stream NAME of `rewards` is kept there already, as NAME_reward.
        """
        return {}

    def rearrange(self, batch: Batch, t: Scalar) -> tuple[Batch, Stats]:
        """Another batch to learn from."""
        return batch, {}

    def choose(
        self,
        best: Int[Tensor, "N A"],
        obs: Float[Tensor, "N A O"],
        avail: Bool[Tensor, "N A U"],
        keys: Keys,
        t: Scalar,
    ) -> Int[Tensor, "N A"]:
        """Training actions at environment step t, in place of the greedy ones, `best`."""
        return best

    def losses(self, batch: Batch, view: View, t: Scalar) -> Losses:
        """Further terms of the learner's loss, by name, and statistics.

        Terms are tensors without axes. They are added to the learner's own, and the sum is
        descended: a term to be raised has a minus sign.
        """
        return Losses({}, {})

    def groups(self) -> Sequence[Group]:
        """Its parameters."""
        return []

    def targets(self) -> Sequence[Pair]:
        """Its target networks."""
        return []

    def diagnose(self, batch: Batch, view: View) -> Stats:
        """Statistics that cost too much for every update."""
        return {}

    def marks(self, choice: Choice) -> dict[str, Tensor]:
        """Quantities of each agent that films show beside it, by name: [N, A] or [N, A, D]."""
        return {}


HOOKS = ("observe", "rewards", "study", "rearrange", "choose", "losses", "diagnose")


def hooks(kind: type[Extra]) -> frozenset[str]:
    """Hooks that a class of extras overrides."""
    return frozenset(name for name in HOOKS if getattr(kind, name) is not getattr(Extra, name))


class Reuse(NamedTuple):
    """Networks that a learner takes from an earlier run in the same world."""

    setting: str  # its name
    run: str  # a Sacred id or a folder
    networks: tuple[str, ...]  # beginnings of their names
    alike: tuple[str, ...]  # settings that both runs must have in common


@dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    gamma: float = setting(0, 1, varies=True)
    optimizer: Literal["adam", "rmsprop"]
    optim_alpha: float = setting(0, 1)  # rmsprop: decay of the squared gradients' mean
    optim_eps: float = setting(0)

    def reuses(self) -> Sequence[Reuse]:
        """Networks to take from earlier runs before the training."""
        return []


@runtime_checkable
class Experience(Protocol):
    """Source of a learner's batches."""

    def insert(self, episodes: Episodes) -> None:
        """Takes in new episodes."""
        ...

    def batches(self, key: Int[Tensor, ""], now: Scalar, at: "Progress") -> Iterator[Batch]:
        """Batches of the updates that are due."""
        ...


class Progress(NamedTuple):
    """How far a run has come."""

    t: int  # environment steps
    episodes: int
    updates: int
    new: int = 0  # environment steps of the last rollout
    new_episodes: int = 0  # of the last rollout

    def due(self, interval: int, since: int = 0) -> int:
        """Ends of intervals of episodes within the last rollout; the first begins at `since`."""
        ends = (self.episodes - self.new_episodes, self.episodes)
        before, after = (max(end - since, 0) for end in ends)
        return after // interval - before // interval


@runtime_checkable
class Trainable(Protocol):
    """A loss over its own networks: one learner, or a stack of them."""

    projected: frozenset[str]
    scaled: frozenset[str]
    phases: int

    @property
    def cfg(self) -> LearnerConfig:
        """Settings of the optimiser."""
        ...

    def __call__(self, batch: Batch, t: Scalar, phase: int = 0) -> Losses:
        """The loss of one phase at environment step `t`; of a batch [R, *b] in a stack."""
        ...

    def shared(self) -> Sequence[nn.Parameter]:
        """The agents' parameters [G, ...], in a stack [R, G, ...]."""
        ...

    def groups(self) -> Sequence[Group]:
        """All parameters that the optimiser moves."""
        ...

    def targets(self) -> Sequence[Pair]:
        """All target networks, in the same order at every call."""
        ...


class Learner(nn.Module, Generic[View, Cfg]):
    """Agents that act, and the loss they learn by. A subclass writes its own terms."""

    Config: ClassVar[type[LearnerConfig]]
    serves: ClassVar[frozenset[str]] = frozenset({"observe"})  # hooks of extras that are called
    lends: ClassVar[type] = object  # view that it gives to the loss terms of extras
    # Tensors of its `Choice.keep` that extras may ask for, without the axis N.
    holds: ClassVar[Mapping[str, Callable[[EnvSpec], Kept]]] = {}
    memory: ClassVar[bool] = False  # True: it can train agents that remember
    noise: ClassVar[bool] = False  # True: it can train agents that draw random numbers
    phases: int = 1

    gamma: Tensor

    def __init__(
        self,
        spec: EnvSpec,
        cfg: Cfg,
        controller: Controller,
        extras: Sequence[Extra[View]] = (),
    ):
        super().__init__()
        self.cfg, self.controller = cfg, controller
        scalar(self, "gamma", cfg.gamma)
        self.extras = nn.ModuleList(extras)
        self.projected = frozenset(name for extra in extras for name in extra.projected)
        self.scaled = frozenset(name for extra in extras for name in extra.scaled)
        self._hooks = {
            name: [k for k, extra in enumerate(extras) if name in hooks(type(extra))]
            for name in HOOKS
        }

    @classmethod
    def make_controller(
        cls, spec: EnvSpec, cfg: ControllerConfig, agent: object, own: Cfg
    ) -> Controller:
        """The agents' networks.

        `agent`: settings of the agents' kind of network; `own`: the learner's settings.
        """
        return Controller(spec, cfg, agent)

    @classmethod
    def refuse_world(cls, cfg: Cfg, spec: Callable[[], EnvSpec]) -> None:
        """Raises UserError where the settings do not fit a world.

        `spec`: makes a copy of the world for its facts, so it is called where they matter.
        """

    def notices(self) -> list[str]:
        """Warnings of the extras."""
        return [extra.notice for extra in self._extras() if extra.notice]

    def remedies(self) -> list[str]:
        """Advice of the extras for a run whose values have diverged."""
        return [extra.remedy for extra in self._extras() if extra.remedy]

    def with_hook(self, name: str) -> list[Extra[View]]:
        """Extras that override the hook."""
        every = self._extras()
        return [every[k] for k in self._hooks[name]]

    # Acting

    def start(self, n: int, device: torch.device) -> Carry:
        """The agents' memory before the first step of N episodes."""
        return self.controller.start(n, device)

    def act(
        self,
        obs: Float[Tensor, "N A O"],
        avail: Bool[Tensor, "N A U"],
        carry: Carry,
        keys: Keys,
        t: Scalar,
        greedy: bool,
    ) -> Choice:
        """Actions at environment step `t`; `greedy` for tests."""
        raise NotImplementedError

    def policy(
        self,
        obs: Float[Tensor, "*b A O"],
        avail: Bool[Tensor, "*b A U"],
        last_actions: Int[Tensor, "*b A"] | None = None,
    ) -> Float[Tensor, "*b A U"]:
        """Distribution over actions of each agent. Agents that remember take episodes [B, T]."""
        raise NotImplementedError

    def marks(self, choice: Choice) -> dict[str, Tensor]:
        """Quantities of each agent that films show beside it, by name: [N, A] or [N, A, D].

        For example a skill's number, or a role as a vector.
        """
        found = self.controller.marks(choice)
        for extra in self._extras():
            found |= extra.marks(choice)
        return found

    def keeps(self, spec: EnvSpec) -> dict[str, Kept]:
        """Tensors of `Choice.keep` that the replay must store.

        Raises UserError where an extra reads another one than the learner holds.
        """
        for extra in self._extras():
            if unknown := sorted(extra.keeps - self.holds.keys()):
                kind, own = type(extra).__name__, type(self).__name__
                raise UserError(f"{kind}.keeps: {own} holds no {unknown[0]!r}")
        asked = {name for extra in self._extras() for name in extra.keeps}
        return {name: self.holds[name](spec) for name in asked} | self.controller.keeps()

    # Learning

    @property
    def replays(self) -> bool:
        """False: it learns from the last rollout alone, without a replay."""
        return True

    @property
    def wants(self) -> Wants:
        """Optional fields of the batches that it reads."""
        window = max((extra.window for extra in self._extras()), default=0)
        last_obs = any(extra.last_obs for extra in self._extras())
        return Wants(self.controller.reads_last_action, window, last_obs)

    def observe(self, episodes: Episodes) -> None:
        """Sees new episodes before the updates; the one method that may change its buffers."""

    def experience(self, replay: Replay) -> Experience:
        """Source of its batches."""
        raise NotImplementedError

    def forward(self, batch: Batch, t: Scalar, phase: int = 0) -> Losses:
        """The loss of a batch [*b] at environment step `t`, with the extras' terms.

        `phase`: the part of an update, 0 to `phases` - 1, each with terms of its own. Raises
        UserError where an extra returns a name that exists already, or rewards of another shape.
        """
        raise NotImplementedError

    def shared(self) -> Sequence[nn.Parameter]:
        """The agents' parameters, which several terms reach."""
        return list(self.controller.parameters())

    def own_groups(self) -> Sequence[Group]:
        """Parameters of the learner itself."""
        raise NotImplementedError

    def own_targets(self) -> Sequence[Pair]:
        """Target networks of the learner itself."""
        return []

    def groups(self) -> Sequence[Group]:
        """All parameters that the optimiser moves: the learner's, then those of each extra."""
        extras = (group for extra in self._extras() for group in extra.groups())
        return [*self.own_groups(), *extras]

    def targets(self) -> Sequence[Pair]:
        """All target networks: the learner's, then those of each extra."""
        extras = (pair for extra in self._extras() for pair in extra.targets())
        return [*self.own_targets(), *extras]

    def diagnose(self, batch: Batch, t: Scalar) -> Stats:
        """Statistics that cost too much for every update."""
        return {}

    def _extras(self) -> list[Extra[View]]:
        return list(self.extras)  # pyright: ignore[reportReturnType] # a ModuleList of Modules

    def rearranged(self, batch: Batch, t: Scalar) -> tuple[Batch, Stats]:
        """The batch to learn from."""
        stats: Stats = {}
        for extra in self.with_hook("rearrange"):
            batch, more = extra.rearrange(batch, t)
            refuse_twice(extra, "rearrange", stats, more)
            stats |= more
        return batch, stats

    def streams(self, batch: Batch, t: Scalar) -> dict[str, Float[Tensor, "*b A"]]:
        """Rewards of the extras by name. Raises UserError for one of another shape."""
        found: dict[str, Tensor] = {}
        for extra in self.with_hook("rewards"):
            more = extra.rewards(batch, t)
            refuse_misshapen(extra, more, batch.actions.shape)
            refuse_twice(extra, "rewards", found, more)
            found |= more
        return found

    def reward(
        self, batch: Batch, streams: Mapping[str, Float[Tensor, "*b A"]], joint: int
    ) -> Float[Tensor, "*b M"]:
        """The task's reward and the streams, for `joint` values: summed where M = 1."""
        reward = batch.earned
        for stream in streams.values():
            alike = joint == stream.shape[-1]
            reward = reward + (stream if alike else stream.sum(-1, keepdim=True))
        return reward

    def with_extras(self, losses: Losses, batch: Batch, view: View, t: Scalar) -> Losses:
        """`losses` and the terms of the extras."""
        terms, stats, shares = losses
        for extra in self.with_hook("losses"):
            more = extra.losses(batch, view, t)
            refuse_twice(extra, "losses", terms, more.terms)
            refuse_twice(extra, "losses", stats, more.stats)
            terms, stats = terms | more.terms, stats | more.stats
            shares = shares | more.shares
        return Losses(terms, stats, shares)

    def reward_means(self, batch: Batch, t: Scalar) -> Stats:
        """Mean of each stream of rewards."""
        streams = self.streams(batch, t)
        return {f"{name}_reward_mean": mean_of(batch, x.detach()) for name, x in streams.items()}

    def diagnosed(self, batch: Batch, view: View) -> Stats:
        """Statistics of the extras."""
        stats: Stats = {}
        for extra in self.with_hook("diagnose"):
            more = extra.diagnose(batch, view)
            refuse_twice(extra, "diagnose", stats, more)
            stats |= more
        return stats


def scalar(module: nn.Module, name: str, value: int | float) -> None:
    """Makes a number that may differ between stacked runs: a buffer outside of checkpoints."""
    module.register_buffer(name, torch.tensor(float(value)), persistent=False)


Module = TypeVar("Module", bound=nn.Module)


def frozen_copy(module: Module) -> Module:
    """A target network: equal at the start, and never descended."""
    return copy.deepcopy(module).requires_grad_(False)


def refuse_misshapen(extra: Extra, rewards: object, shape: torch.Size) -> None:
    """Raises UserError unless `rewards` are one reward for each agent, by name."""
    hook = f"{type(extra).__name__}.rewards"
    if not isinstance(rewards, Mapping):
        raise UserError(f"{hook}: return a dictionary, such as {{'mine': reward}}")
    for name, stream in rewards.items():
        if stream.shape != shape:
            raise UserError(
                f"{hook}: {name!r} has the shape {tuple(stream.shape)}; "
                f"a reward for each agent has {tuple(shape)}"
            )


def refuse_twice(extra: Extra, hook: str, there: Mapping[str, Tensor], more: Mapping) -> None:
    """Raises UserError where an extra would replace what is there already."""
    if twice := sorted(there.keys() & more.keys()):
        kind = type(extra).__name__
        raise UserError(f"{kind}.{hook}: {twice[0]!r} exists already; give yours another name")


def norm(gradients: Sequence[Tensor]) -> Scalar:
    """Euclidean norm of all gradients as one vector."""
    return torch.stack([g.square().sum() for g in gradients]).sum().sqrt()


def cosine(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Scalar:
    """Cosine of the angle between two gradients."""
    dot = torch.stack([(a * b).sum() for a, b in zip(ours, theirs, strict=True)]).sum()
    return dot / (norm(ours) * norm(theirs)).clamp(min=1e-20)


def gradient(term: PerRun, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Gradient of a term, whose graph stays; 0 for parameters that it does not reach.

    Empty where it reaches none of them.
    """
    if not term.requires_grad:
        return []
    found = torch.autograd.grad(term.sum(), parameters, retain_graph=True, allow_unused=True)
    if all(g is None for g in found):
        return []
    pairs = zip(found, parameters, strict=True)
    return [torch.zeros_like(p) if g is None else g for g, p in pairs]


def term_gradients(
    terms: Mapping[str, Scalar], parameters: Sequence[nn.Parameter], main: str
) -> Stats:
    """Gradient norm of each loss term that reaches `parameters`, and its cosine with `main`'s."""
    every = {name: gradient(term, parameters) for name, term in terms.items()}
    gradients = {name: found for name, found in every.items() if found}
    stats = {f"{name}_grad_norm": norm(g) for name, g in gradients.items()}
    return stats | {
        f"{name}_{main}_cosine": cosine(g, gradients[main])
        for name, g in gradients.items()
        if name != main
    }
