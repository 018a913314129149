"""The agents' networks: one for each agent, or one for all.

Axes: N copies, A agents, I inputs, H hidden, J outputs, T time, L numbers of a role; B any number
of rows, G sets of weights (A, or 1 when shared); *b is any batch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from eoi.components.action_selection import Carry
from eoi.modules.layers import AgentLinear, AgentMLP, apart, grouped, mlp, start_alike
from eoi.modules.roles import Roles, RolesConfig
from eoi.utils.shapes import Float, Int


@dataclass(frozen=True)
class Sizes:
    """Shapes of an agent's network."""

    n_agents: int
    inputs: int
    hidden: tuple[int, int]
    outputs: int
    shared: bool  # one set of weights for all agents
    same_init: bool  # all agents start with the first one's weights
    own: object = None  # settings of its kind of network, an instance of `Agent.Config`


@dataclass(frozen=True, kw_only=True)
class NoConfig:
    """Settings of a network that has none of its own."""


class Agent(nn.Module):
    """Inputs of each agent to outputs of each agent, with or without memory.

    The first axis of every parameter is G, sets of weights, and another one follows: gradients are
    clipped, scaled and projected agent by agent along it. `AgentLinear` and `AgentMLP` have it. A
    network without it is refused where gradients are treated so.
    """

    Config: ClassVar[type] = NoConfig  # its own settings, a frozen dataclass
    remembers: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset()  # names of `explain`'s tensors
    draws: ClassVar[bool] = False  # True: its inputs end with `noise` standard normal numbers
    noise: int = 0

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.sizes = sizes

    def start(self, n: int, device: torch.device) -> Carry:
        """Memory before the first step of N episodes."""
        return {}

    def step(self, x: Float[Tensor, "N A I"], carry: Carry) -> tuple[Float[Tensor, "N A J"], Carry]:
        """Outputs at one step, and the memory after it. `carry`: the memory before it."""
        raise NotImplementedError

    def unroll(
        self, x: Float[Tensor, "*b A I"], length: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "*b A J"]:
        """`step` along whole episodes [B, T] of `length` steps; without memory, of any batch."""
        raise NotImplementedError

    def explain(
        self, x: Float[Tensor, "*b A I"], length: Int[Tensor, " B"] | None = None
    ) -> tuple[Float[Tensor, "*b A J"], dict[str, Tensor]]:
        """`unroll`, and further tensors for loss terms: [*b, A, ...] by name."""
        return self.unroll(x, length), {}


class MLPAgent(Agent):
    """Two hidden layers, no memory (EOI, A.3)."""

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        widths: Sequence[int] = [sizes.inputs, *sizes.hidden, sizes.outputs]
        self.mlp = AgentMLP(sizes.n_agents, widths, sizes.shared, sizes.same_init)

    def step(self, x: Float[Tensor, "N A I"], carry: Carry) -> tuple[Float[Tensor, "N A J"], Carry]:
        return self.mlp(x), carry

    def unroll(
        self, x: Float[Tensor, "*b A I"], length: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "*b A J"]:
        return self.mlp(x)


class CentralAgent(Agent):
    """One network for the whole team: the inputs of all agents to the outputs of all agents."""

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        self.shape = (sizes.n_agents, sizes.outputs)
        self.net = mlp([sizes.n_agents * sizes.inputs, *sizes.hidden, math.prod(self.shape)])

    def step(self, x: Float[Tensor, "N A I"], carry: Carry) -> tuple[Float[Tensor, "N A J"], Carry]:
        return self.unroll(x), carry

    def unroll(
        self, x: Float[Tensor, "*b A I"], length: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "*b A J"]:
        return self.net(x.flatten(-2)).unflatten(-1, self.shape)


class GRUBody(Agent):
    """Linear, ReLU, GRU cell: the part of an agent that remembers.

    Agents that share weights are further rows of one network: G = 1 set of weights, else G = A.
    """

    remembers = True

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        size, groups = sizes.hidden[0], 1 if sizes.shared else sizes.n_agents
        self.n_agents, self.size, self.groups = sizes.n_agents, size, groups
        self.encode = AgentLinear(groups, sizes.inputs, size)
        self.input_gates = AgentLinear(groups, size, 3 * size)  # reset, update, new
        self.hidden_gates = AgentLinear(groups, size, 3 * size)

    def start(self, n: int, device: torch.device) -> Carry:
        return {"hidden": torch.zeros(n, self.n_agents, self.size, device=device)}

    def _remember(self, x: Float[Tensor, "N A I"], carry: Carry) -> Float[Tensor, "G H R"]:
        """Memory after one step."""
        return self._cell(
            self._inputs(grouped(x, self.groups)), grouped(carry["hidden"], self.groups)
        )

    def _along(self, x: Float[Tensor, "B A I"], counts: Sequence[int]) -> Float[Tensor, "G H R"]:
        """Memory after every step of packed episodes.

        The cell alone goes step by step; its inputs are computed at once.
        """
        gates = self._inputs(grouped(x, self.groups))  # [G, 3H, rows]
        each = self.n_agents // self.groups  # rows of one step of one episode
        hidden = x.new_zeros(self.groups, self.size, counts[0] * each)
        along = []
        for step in gates.split([count * each for count in counts], 2):
            hidden = self._cell(step, hidden[..., : step.shape[-1]])
            along.append(hidden)
        return torch.cat(along, 2)

    def _inputs(self, x: Float[Tensor, "G I R"]) -> Float[Tensor, "G K R"]:
        """Share of the inputs in the gates: K = 3 H."""
        return self.input_gates(self.encode(x).relu())

    def _cell(
        self, inputs: Float[Tensor, "G K R"], hidden: Float[Tensor, "G H R"]
    ) -> Float[Tensor, "G H R"]:
        """A GRU cell (Cho et al. 2014), as torch.nn.GRUCell has it."""
        reset, update, new = inputs.chunk(3, 1)
        h_reset, h_update, h_new = self.hidden_gates(hidden).chunk(3, 1)
        reset, update = (reset + h_reset).sigmoid(), (update + h_update).sigmoid()
        new = (new + reset * h_new).tanh()
        return new + update * (hidden - new)


class GRUAgent(GRUBody):
    """Linear, ReLU, GRU cell, linear: PyMARL's `rnn` agent (Rashid et al. 2018, appendix C)."""

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        self.head = AgentLinear(self.groups, self.size, sizes.outputs)
        if sizes.same_init:
            start_alike(self)

    def step(self, x: Float[Tensor, "N A I"], carry: Carry) -> tuple[Float[Tensor, "N A J"], Carry]:
        hidden = self._remember(x, carry)
        return apart(self.head(hidden), self.n_agents), {"hidden": apart(hidden, self.n_agents)}

    def unroll(
        self, x: Float[Tensor, "B T A I"], length: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B T A J"]:
        """`length`: steps of each episode; nothing is computed for padding, whose outputs are 0."""
        steps = Packing(x, length)
        out = self.head(self._along(steps.pack(x), steps.counts))
        return steps.unpack(apart(out, self.n_agents))


class Packing:
    """All steps of whole episodes [B, T, ...] in order of time, without padding: [rows, ...].

    Longer episodes come first, so that those still running are always the first ones.
    """

    def __init__(self, x: Float[Tensor, "B T A I"], length: Int[Tensor, " B"] | None):
        batch, steps = self.shape = x.shape[:2]
        every = torch.arange(batch * steps, device=x.device).view(batch, steps)
        if length is None:
            self.places, self.counts = every.T.reshape(-1), [batch] * steps
            return
        ordered, longest_first = length.sort(descending=True, stable=True)
        running = torch.arange(steps, device=x.device)[:, None] < ordered  # [T, B]
        self.places = every[longest_first].T[running]
        self.counts = running.sum(1).tolist()  # episodes that run at each step

    def pack(self, x: Float[Tensor, "B T A I"]) -> Float[Tensor, "rows A I"]:
        return x.flatten(0, 1)[self.places]

    def unpack(self, x: Float[Tensor, "rows A J"]) -> Float[Tensor, "B T A J"]:
        """Inverse of `pack`; 0 for padding."""
        whole = x.new_zeros(self.shape.numel(), *x.shape[1:])
        return whole.index_copy(0, self.places, x).unflatten(0, self.shape)


# --- ROMA


class RoleMLP(Agent):
    """Two hidden layers, and a last layer that the agent's role generates."""

    Config = RolesConfig
    gives = frozenset({"input", "hidden", "role", "role_mean", "role_var"})
    draws = True

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        self.body = AgentMLP(sizes.n_agents, [sizes.inputs, *sizes.hidden], sizes.shared)
        self.roles = _roles(sizes)
        self.noise = self.roles.size
        if sizes.same_init:
            start_alike(self)

    def step(self, x: Float[Tensor, "N A I"], carry: Carry) -> tuple[Float[Tensor, "N A J"], Carry]:
        out, given = self.explain(x)
        return out, {"role": given["role_mean"]}

    def unroll(
        self, x: Float[Tensor, "*b A I"], length: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "*b A J"]:
        return self.explain(x)[0]

    def explain(
        self, x: Float[Tensor, "*b A I"], length: Int[Tensor, " B"] | None = None
    ) -> tuple[Float[Tensor, "*b A J"], dict[str, Tensor]]:
        seen, noise = x[..., : self.sizes.inputs], x[..., self.sizes.inputs :]
        hidden = self.body(seen).relu()
        lead, rows = x.shape[:-2], [each.flatten(0, -3) for each in (seen, noise, hidden)]
        out, given = self.roles(*rows)
        given = {name: each.unflatten(0, lead) for name, each in given.items()}
        return out.unflatten(0, lead), given | {"input": seen, "hidden": hidden}


class RoleGRU(GRUBody):
    """Linear, ReLU, GRU cell, and a last layer that the agent's role generates (ROMA, figure 1)."""

    Config = RolesConfig
    gives = RoleMLP.gives
    draws = True

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        self.roles = _roles(sizes)
        self.noise = self.roles.size
        if sizes.same_init:
            start_alike(self)

    def step(self, x: Float[Tensor, "N A I"], carry: Carry) -> tuple[Float[Tensor, "N A J"], Carry]:
        """The memory holds the role's mean too, which films show."""
        seen, noise = x[..., : self.sizes.inputs], x[..., self.sizes.inputs :]
        hidden = apart(self._remember(seen, carry), self.n_agents)
        out, given = self.roles(seen, noise, hidden)
        return out, {"hidden": hidden, "role": given["role_mean"]}

    def unroll(
        self, x: Float[Tensor, "B T A I"], length: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B T A J"]:
        return self.explain(x, length)[0]

    def explain(
        self, x: Float[Tensor, "B T A I"], length: Int[Tensor, " B"] | None = None
    ) -> tuple[Float[Tensor, "B T A J"], dict[str, Tensor]]:
        """`hidden` is the memory after each step. Padding is not computed, but 0."""
        steps = Packing(x, length)
        rows = steps.pack(x)
        seen, noise = rows[..., : self.sizes.inputs], rows[..., self.sizes.inputs :]
        hidden = apart(self._along(seen, steps.counts), self.n_agents)
        out, given = self.roles(seen, noise, hidden)
        given |= {"input": seen, "hidden": hidden}
        return steps.unpack(out), {name: steps.unpack(each) for name, each in given.items()}


def _roles(sizes: Sizes) -> Roles:
    assert isinstance(sizes.own, RolesConfig)
    groups = 1 if sizes.shared else sizes.n_agents
    return Roles(groups, sizes.inputs, sizes.hidden[-1], sizes.outputs, sizes.own)


REGISTRY: dict[str, type[Agent]] = {
    "mlp": MLPAgent,
    "gru": GRUAgent,
    "role_mlp": RoleMLP,
    "role_gru": RoleGRU,
}
