"""The agents' networks: one for each agent, or one for all.

Axes: N copies, A agents, I inputs, H hidden, J outputs, T time; B any number of rows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from eoi.components.action_selection import Carry
from eoi.modules.layers import AgentLinear, AgentMLP, mlp
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


class Agent(nn.Module):
    """Inputs of each agent to outputs of each agent, with or without memory."""

    remembers: ClassVar[bool] = False

    def __init__(self, sizes: Sizes):
        super().__init__()

    def start(self, n: int, device: torch.device) -> Carry:
        """Memory before the first step of N episodes."""
        return {}

    def step(self, x: Float[Tensor, "N A I"], carry: Carry) -> tuple[Float[Tensor, "N A J"], Carry]:
        raise NotImplementedError

    def unroll(
        self, x: Float[Tensor, "*b A I"], length: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "*b A J"]:
        """`step` along whole episodes [B, T] of `length` steps; without memory, of any batch."""
        raise NotImplementedError


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


class GRUAgent(Agent):
    """Linear, ReLU, GRU cell, linear: PyMARL's `rnn` agent (Rashid et al. 2018, appendix C).

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
        self.head = AgentLinear(groups, size, sizes.outputs)
        if sizes.same_init:
            with torch.no_grad():
                for p in self.parameters():
                    p.copy_(p[:1].clone().expand_as(p))

    def start(self, n: int, device: torch.device) -> Carry:
        return {"hidden": torch.zeros(n, self.n_agents, self.size, device=device)}

    def step(self, x: Float[Tensor, "N A I"], carry: Carry) -> tuple[Float[Tensor, "N A J"], Carry]:
        hidden = self._cell(self._inputs(self._rows(x)), self._rows(carry["hidden"]))
        return self._apart(self.head(hidden)), {"hidden": self._apart(hidden)}

    def unroll(
        self, x: Float[Tensor, "B T A I"], length: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B T A J"]:
        """The cell alone goes step by step; its inputs and outputs are computed at once.

        `length`: steps of each episode; nothing is computed for the padding, whose outputs are 0.
        """
        batch, steps, agents, _ = x.shape
        places, counts = _packed(batch, steps, length, x.device)
        gates = self._inputs(self._rows(x.flatten(0, 1)[places]))  # [G, 3H, rows]
        each = agents // self.groups  # rows of one step of one episode
        hidden = x.new_zeros(self.groups, self.size, batch * each)
        along = []
        for step in gates.split([count * each for count in counts], 2):
            hidden = self._cell(step, hidden[..., : step.shape[-1]])
            along.append(hidden)
        out = self._apart(self.head(torch.cat(along, 2)))  # [rows, A, J]
        whole = out.new_zeros(batch * steps, *out.shape[1:])
        return whole.index_copy(0, places, out).unflatten(0, (batch, steps))

    def _rows(self, x: Float[Tensor, "B A I"]) -> Float[Tensor, "G I R"]:
        """One set of weights a group, batch last: R = B, or B * A where weights are shared."""
        return x.reshape(-1, self.groups, x.shape[-1]).permute(1, 2, 0)

    def _apart(self, x: Float[Tensor, "G J R"]) -> Float[Tensor, "B A J"]:
        """Inverse of `_rows`."""
        return x.permute(2, 0, 1).reshape(-1, self.n_agents, x.shape[1])

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


def _packed(
    batch: int, steps: int, length: Int[Tensor, " B"] | None, device: torch.device
) -> tuple[Int[Tensor, " rows"], list[int]]:
    """Places in [B * T] of all steps in order of time, and their number at each time.

    Longer episodes come first, so that those still running are always the first ones.
    """
    every = torch.arange(batch * steps, device=device).view(batch, steps)
    if length is None:
        return every.T.reshape(-1), [batch] * steps
    ordered, longest_first = length.sort(descending=True, stable=True)
    running = torch.arange(steps, device=device)[:, None] < ordered  # [T, B]
    return every[longest_first].T[running], running.sum(1).tolist()


REGISTRY: dict[str, type[Agent]] = {"mlp": MLPAgent, "gru": GRUAgent}
