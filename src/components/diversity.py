"""Measures of diversity: of the agents' policies, positions and observations.

Axes: B observations, A agents, P pairs of agents, U actions, O observation, C cells, K samples.
"""

import torch
from torch import Tensor

from eoi.utils.shapes import Float, Int

Scalar = Float[Tensor, ""]


def _pairs(n: int, device: torch.device) -> Int[Tensor, "2 P"]:
    """Every pair of agents once."""
    return torch.triu_indices(n, n, 1, device=device)


def neural_diversity(policies: Float[Tensor, "B A U"]) -> Scalar:
    """System neural diversity (Bettini et al. 2023) with total variation as the distance.

    Mean over pairs of agents and observations. 0: all agents act alike; 1: no two agents would
    ever act alike. `policies`: of all agents on the same observations.
    """
    return _total_variation(policies).mean()


def policy_distances(policies: Float[Tensor, "B A U"]) -> Float[Tensor, "A A"]:
    """Total variation between the policies of each two agents, mean over observations."""
    return _square(_total_variation(policies).mean(0), policies.shape[1])


def _total_variation(policies: Float[Tensor, "B A U"]) -> Float[Tensor, "B P"]:
    first, second = policies[:, _pairs(policies.shape[1], policies.device)].unbind(
        1
    )  # [B, P, U] each
    return 0.5 * (first - second).abs().sum(-1)


def _square(values: Float[Tensor, " P"], n: int) -> Float[Tensor, "A A"]:
    """A value for each pair as a symmetric matrix with 0 on its diagonal."""
    first, second = _pairs(n, values.device)
    found = torch.zeros(n, n, dtype=values.dtype, device=values.device)
    found[first, second] = found[second, first] = values
    return found


def occupancy(cells: Int[Tensor, "K A"], n_cells: int) -> Float[Tensor, "A C"]:
    """Share of time that each agent spends in each cell."""
    counts = torch.zeros(cells.shape[1], n_cells, device=cells.device)
    counts.scatter_add_(1, cells.T, torch.ones_like(cells.T, dtype=counts.dtype))
    return counts / len(cells)


def overlap(maps: Float[Tensor, "A C"]) -> Scalar:
    """1 - Jensen-Shannon divergence (bits) between two agents' maps, mean over pairs.

    1: alike; 0: apart.
    """
    return 1 - _divergence(maps).mean()


def map_distances(maps: Float[Tensor, "A C"]) -> Float[Tensor, "A A"]:
    """Jensen-Shannon divergence (bits) between the maps of each two agents."""
    return _square(_divergence(maps), len(maps))


def _divergence(maps: Float[Tensor, "A C"]) -> Float[Tensor, " P"]:
    first, second = maps[_pairs(len(maps), maps.device)]  # [P, C] each
    middle = (first + second) / 2
    divergence = (
        sum(torch.special.xlogy(p, p) - torch.special.xlogy(p, middle) for p in (first, second)) / 2
    )
    return torch.as_tensor(divergence).sum(-1) / torch.log(torch.tensor(2.0))


def probe_accuracy(
    seen: Float[Tensor, "K A O"],
    held_out: Float[Tensor, "L A O"],
    units: int = 64,
    ridge: float = 1e-3,
) -> Scalar:
    """Accuracy of a fresh classifier that tells agents by their observations, on held-out ones.

    Ridge regression on a fixed random hidden layer: nothing to tune and no randomness, so that all
    algorithms are measured alike, in milliseconds. 1/A: the agents cannot be told apart.
    """
    agents = seen.shape[1]
    weights = torch.randn(seen.shape[-1], units, generator=torch.Generator().manual_seed(0)).to(
        seen
    )
    mean, scale = seen.mean((0, 1)), seen.std((0, 1)) + 1e-3

    def features(obs: Tensor) -> Tensor:
        x = ((obs - mean) / scale).clamp(-5, 5).flatten(0, 1)
        hidden = (x @ weights / weights.shape[0] ** 0.5).relu()
        return torch.cat([x, hidden, torch.ones_like(x[:, :1])], 1)

    names = torch.arange(agents, device=seen.device)
    x, wanted = (
        features(seen),
        torch.nn.functional.one_hot(names.repeat(len(seen)), agents).to(seen),
    )
    gram = x.T @ x + ridge * len(x) * torch.eye(x.shape[1], device=x.device)
    answer = (features(held_out) @ torch.linalg.solve(gram, x.T @ wanted)).argmax(-1)
    return (answer == names.repeat(len(held_out))).float().mean()
