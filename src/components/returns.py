"""Advantages from whole episodes. Axes: N copies, T time (T1 = T + 1), A agents."""

import torch
from torch import Tensor

from eoi.utils.shapes import Bool, Float

Scalar = Float[Tensor, ""]


def gae(
    reward: Float[Tensor, "N T A"],
    value: Float[Tensor, "N T1 A"],
    terminated: Bool[Tensor, "N T"] | Float[Tensor, "N T"],
    valid: Bool[Tensor, "N T"],
    gamma: Scalar,
    gae_lambda: Scalar,
) -> Float[Tensor, "N T A"]:
    """Generalised advantages (Schulman et al. 2016, eq. 16): A_t = delta_t + gamma lambda A_{t+1}.

    Nothing is bootstrapped past the end of a task. Where time ran out, the value of the last
    observation stands for the rest. `terminated` may lie between: the share of what follows that is
    lost. 0 where `valid` is False, past an episode's end.
    """
    going = 1 - terminated.float()[..., None]  # [N, T, 1]
    delta = reward + gamma * going * value[:, 1:] - value[:, :-1]
    result, advantage = torch.zeros_like(delta), torch.zeros_like(delta[:, 0])
    for step in reversed(range(delta.shape[1])):
        following = delta[:, step] + gamma * gae_lambda * going[:, step] * advantage
        advantage = torch.where(valid[:, step, None], following, 0.0)
        result[:, step] = advantage
    return result


def standardised(x: Float[Tensor, "B A"], eps: float = 1e-8) -> Float[Tensor, "B A"]:
    """Zero mean and unit deviation for every agent."""
    return (x - x.mean(0)) / (x.std(0, correction=0) + eps)
