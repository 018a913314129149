"""The network that identifies a skill by its trajectory (HSD: Yang, Borovikov and Zha 2020).

Axes: R rows, L steps, O observation, H units of one direction, K skills.
"""

import torch
from torch import Tensor, nn

from eoi.utils.shapes import Float


class LSTM(nn.Module):
    """One direction of an LSTM (Hochreiter and Schmidhuber 1997), as torch.nn.LSTM has it.

    Its own code, because torch.vmap cannot map torch.nn.LSTM over the runs of a fleet.
    """

    def __init__(self, n_in: int, size: int):
        super().__init__()
        self.inputs = nn.Linear(n_in, 4 * size)  # input, forget, cell, output
        self.hidden = nn.Linear(size, 4 * size, bias=False)

    def forward(
        self, x: Float[Tensor, "R L O"], valid: Float[Tensor, "R L"], backwards: bool
    ) -> Float[Tensor, "R L H"]:
        """Outputs at each step. Steps with `valid` = 0 leave the memory as it is."""
        gates = self.inputs(x)
        hidden = cell = gates.new_zeros(len(x), self.hidden.in_features)
        order = range(x.shape[1])
        found: dict[int, Tensor] = {}
        for step in reversed(order) if backwards else order:
            enter, forget, new, leave = (gates[:, step] + self.hidden(hidden)).chunk(4, -1)
            made = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
            there = valid[:, step, None]
            cell = there * made + (1 - there) * cell
            hidden = there * leave.sigmoid() * made.tanh() + (1 - there) * hidden
            found[step] = hidden
        return torch.stack([found[step] for step in order], 1)


class Decoder(nn.Module):
    """Logits of the skill that a trajectory was made by.

    Both directions of an LSTM, their mean over time, and a linear layer.
    """

    def __init__(self, obs_size: int, size: int, n_skills: int):
        super().__init__()
        self.forwards, self.backwards = LSTM(obs_size, size), LSTM(obs_size, size)
        self.head = nn.Linear(2 * size, n_skills)

    def forward(
        self, x: Float[Tensor, "R L O"], valid: Float[Tensor, "R L"]
    ) -> Float[Tensor, "R K"]:
        both = torch.cat(
            [self.forwards(x, valid, backwards=False), self.backwards(x, valid, backwards=True)], -1
        )
        total = (both * valid[..., None]).sum(1)
        return self.head(total / valid.sum(1, keepdim=True).clamp(min=1))
