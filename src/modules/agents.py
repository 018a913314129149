"""The agents' networks: one for each agent, or one for all.

Axes: N copies, A agents, I inputs, H hidden, J outputs, T time; B any number of rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eoi.components.action_selection import Carry
from eoi.modules.layers import AgentLinear, AgentMLP


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

    def start(self, n: int, device: torch.device) -> Carry:
        """Memory before the first step of N episodes."""
        return {}

    def step(self, x: Float[Tensor, "N A I"], carry: Carry) -> tuple[Float[Tensor, "N A J"], Carry]:
        raise NotImplementedError

    def unroll(self, x: Float[Tensor, "*b A I"]) -> Float[Tensor, "*b A J"]:
        """`step` along whole episodes [B, T]; without memory, of any batch."""
        raise NotImplementedError


class MLPAgent(Agent):
    """Two hidden layers, no memory (EOI, A.3)."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        widths: Sequence[int] = [sizes.inputs, *sizes.hidden, sizes.outputs]
        self.mlp = AgentMLP(sizes.n_agents, widths, sizes.shared, sizes.same_init)

    def step(self, x: Float[Tensor, "N A I"], carry: Carry) -> tuple[Float[Tensor, "N A J"], Carry]:
        return self.mlp(x), carry

    def unroll(self, x: Float[Tensor, "*b A I"]) -> Float[Tensor, "*b A J"]:
        return self.mlp(x)


class GRUAgent(Agent):
    """Linear, ReLU, GRU cell, linear: PyMARL's `rnn` agent (Rashid et al. 2018, appendix C)."""

    remembers = True

    def __init__(self, sizes: Sizes):
        super().__init__()
        agents, size, shared = sizes.n_agents, sizes.hidden[0], sizes.shared
        self.size = size
        self.encode = AgentLinear(agents, sizes.inputs, size, shared)
        self.input_gates = AgentLinear(agents, size, 3 * size, shared)  # reset, update, new
        self.hidden_gates = AgentLinear(agents, size, 3 * size, shared)
        self.head = AgentLinear(agents, size, sizes.outputs, shared)
        self.n_agents = agents
        if sizes.same_init:
            with torch.no_grad():
                for p in self.parameters():
                    p.copy_(p[:1].clone().expand_as(p))

    def start(self, n: int, device: torch.device) -> Carry:
        return {"hidden": torch.zeros(n, self.n_agents, self.size, device=device)}

    def step(self, x: Float[Tensor, "N A I"], carry: Carry) -> tuple[Float[Tensor, "N A J"], Carry]:
        hidden = self._cell(self._inputs(x), carry["hidden"].permute(1, 2, 0))  # [A, H, N]
        return self.head(hidden).permute(2, 0, 1), {"hidden": hidden.permute(2, 0, 1)}

    def unroll(self, x: Float[Tensor, "B T A I"]) -> Float[Tensor, "B T A J"]:
        """The cell alone goes step by step; its inputs and outputs are computed at once."""
        batch, steps, agents, _ = x.shape
        # Time first, so that the inputs of one step lie side by side.
        gates = self._inputs(x.transpose(0, 1).flatten(0, 1))  # [A, 3H, T * B]
        hidden = x.new_zeros(agents, self.size, batch)
        along = []
        for step in gates.unflatten(2, (steps, batch)).unbind(2):
            hidden = self._cell(step, hidden)
            along.append(hidden)
        out = self.head(torch.cat(along, 2))  # [A, J, T * B]
        return out.unflatten(2, (steps, batch)).permute(3, 2, 0, 1)

    def _inputs(self, x: Float[Tensor, "B A I"]) -> Float[Tensor, "A G B"]:
        """What the gates take from the inputs: G = 3 H."""
        return self.input_gates(self.encode(x.permute(1, 2, 0)).relu())

    def _cell(
        self, inputs: Float[Tensor, "A G B"], hidden: Float[Tensor, "A H B"]
    ) -> Float[Tensor, "A H B"]:
        """A GRU cell (Cho et al. 2014), as torch.nn.GRUCell has it."""
        reset, update, new = inputs.chunk(3, 1)
        h_reset, h_update, h_new = self.hidden_gates(hidden).chunk(3, 1)
        reset, update = (reset + h_reset).sigmoid(), (update + h_update).sigmoid()
        new = (new + reset * h_new).tanh()
        return new + update * (hidden - new)


REGISTRY: dict[str, type[MLPAgent] | type[GRUAgent]] = {"mlp": MLPAgent, "gru": GRUAgent}
