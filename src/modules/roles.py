"""ROMA's networks (Wang et al. 2020, section 3): a role is a random vector that generates a layer.

Axes: A agents, G sets of weights (A, or 1 when shared), I inputs, N units, L numbers of a role,
H hidden, U outputs, B rows, R = B rows of a group (B * A where weights are shared).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from eoi.config.schema import setting
from eoi.modules.layers import AgentLinear, apart, grouped
from eoi.utils.shapes import Float


@dataclass(frozen=True, kw_only=True)
class RolesConfig:
    role_dim: int = setting(1)  # L
    role_units: int = setting(1)  # N, hidden units of each network of roles
    role_var_floor: float = setting(1e-8)  # least variance of a role
    role_norm: Literal["layer", "batch", "none"]


class Norm(nn.Module):
    """Zero mean and unit deviation, then a weight and a bias for each unit.

    layer: over the units of a row. batch: over the rows, also when acting, so that one row depends
    on the others. none: no change, and no weights.
    """

    def __init__(self, kind: Literal["layer", "batch", "none"], groups: int, units: int):
        super().__init__()
        self.kind = kind
        if kind != "none":
            self.weight = nn.Parameter(torch.ones(groups, units, 1))
            self.bias = nn.Parameter(torch.zeros(groups, units, 1))

    def forward(self, x: Float[Tensor, "G N R"]) -> Float[Tensor, "G N R"]:
        if self.kind == "none":
            return x
        axis = 1 if self.kind == "layer" else 2
        x = x - x.mean(axis, keepdim=True)
        x = x * (x.square().mean(axis, keepdim=True) + 1e-5).rsqrt()
        return x * self.weight + self.bias


class SmallNet(nn.Module):
    """Linear, norm, leaky ReLU, linear, batch last."""

    def __init__(self, groups: int, n_in: int, n_out: int, cfg: RolesConfig):
        super().__init__()
        self.first = AgentLinear(groups, n_in, cfg.role_units)
        self.norm = Norm(cfg.role_norm, groups, cfg.role_units)
        self.last = AgentLinear(groups, cfg.role_units, n_out)

    def encode(self, x: Float[Tensor, "G I R"]) -> Float[Tensor, "G N R"]:
        """Hidden units."""
        return leaky_relu(self.norm(self.first(x)))

    def forward(self, x: Float[Tensor, "G I R"]) -> Float[Tensor, "G J R"]:
        return self.last(self.encode(x))


class Gaussian(nn.Module):
    """A network that gives a diagonal Gaussian over roles: mean and variance, each [B, A, L]."""

    def __init__(self, groups: int, n_in: int, cfg: RolesConfig):
        super().__init__()
        self.groups, self.floor = groups, cfg.role_var_floor
        self.net = SmallNet(groups, n_in, 2 * cfg.role_dim, cfg)

    def forward(
        self, x: Float[Tensor, "B A I"]
    ) -> tuple[Float[Tensor, "B A L"], Float[Tensor, "B A L"]]:
        out = apart(self.net(grouped(x, self.groups)), x.shape[1])
        mean, log_var = out.chunk(2, -1)
        return mean, log_var.exp().clamp(min=self.floor)


class Roles(nn.Module):
    """Inputs to a random role, and the role to the last layer of the agent's network."""

    def __init__(self, groups: int, n_in: int, hidden: int, outputs: int, cfg: RolesConfig):
        super().__init__()
        self.groups, self.size, self.outputs = groups, cfg.role_dim, outputs
        self.encoder = Gaussian(groups, n_in, cfg)
        # Weights of the generated layer, then its biases: [H + 1, U].
        self.decoder = SmallNet(groups, cfg.role_dim, (hidden + 1) * outputs, cfg)

    def forward(
        self,
        x: Float[Tensor, "B A I"],
        noise: Float[Tensor, "B A L"],
        hidden: Float[Tensor, "B A H"],
    ) -> tuple[Float[Tensor, "B A U"], dict[str, Float[Tensor, "B A L"]]]:
        """Outputs; the role, its mean and its variance. `noise` is standard normal."""
        mean, var = self.encoder(x)
        role = mean + var.sqrt() * noise
        out = self._generated(grouped(role, self.groups), grouped(hidden, self.groups))
        return apart(out, x.shape[1]), {"role": role, "role_mean": mean, "role_var": var}

    def _generated(
        self, role: Float[Tensor, "G L R"], hidden: Float[Tensor, "G H R"]
    ) -> Float[Tensor, "G U R"]:
        """[h, 1] W with W = V z + c, where z are the decoder's hidden units.

        Computed as the bilinear form [h, 1] (V, c) [z, 1], without W for each row.
        """
        rows, last = (-1, self.outputs), self.decoder.last
        table = torch.cat([last.weight, last.bias], 2)  # [G, (H + 1) U, N + 1]
        table = table.unflatten(1, rows).permute(0, 2, 3, 1).flatten(1, 2)  # [G, U (N + 1), H + 1]
        one = torch.ones_like(hidden[:, :1])
        by_unit = (table @ torch.cat([hidden, one], 1)).unflatten(1, (self.outputs, -1))
        units = torch.cat([self.decoder.encode(role), one], 1)  # [G, N + 1, R]
        return (by_unit * units[:, None]).sum(2)
