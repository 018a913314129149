"""Episodes cut into segments of equal length, in each of which an agent holds one skill.

The last segment of an episode may be shorter. A segment is one step of those who choose skills
(a semi-Markov decision process: Sutton, Precup and Singh 1999).

Axes: B batch, T time (T1 = T + 1), S segments, L steps of a segment, A agents, O observation,
K skills.
"""

import torch
from torch import Tensor

from eoi.components.batch import Batch
from eoi.utils.shapes import Bool, Float, Int

Scalar = Float[Tensor, ""]


def cut(x: Tensor, hold: int) -> Tensor:
    """[B, T, ...] as [B, S, L, ...], with zeros past the end; `hold` is L."""
    missing = -x.shape[1] % hold
    padded = torch.cat([x, torch.zeros_like(x[:, :1]).expand(-1, missing, *x.shape[2:])], 1)
    return padded.unflatten(1, (-1, hold))


def inside(batch: Batch, hold: int) -> Float[Tensor, "B S L"]:
    """1 for the steps of each segment, 0 past the end of its episode."""
    return cut(torch.ones_like(batch.reward) if batch.valid is None else batch.valid, hold)


def segments(batch: Batch, hold: int, gamma: Scalar, skills: Bool[Tensor, " K"]) -> Batch:
    """Each segment of episodes [B, T] as one transition [B, S], whose action is the skill held.

    The reward is sum_k gamma^k r_k. `terminated` is such that gamma (1 - terminated) is the
    discount of what follows: gamma^L, or 0 at the end of a task. `skills`: those to choose from.
    """
    within = inside(batch, hold)
    steps = torch.arange(hold, device=gamma.device)
    discounts = gamma**steps * within  # [B, S, L]
    first = hold * torch.arange(within.shape[1], device=gamma.device)  # [S]
    length = within.sum(-1).long()
    last = first + (length - 1).clamp(min=0)  # [B, S]
    task_goes_on = 1 - batch.terminated.gather(1, last)
    terminated = 1 - gamma ** (length - 1).clamp(min=0) * task_goes_on
    avail = skills.expand(*length.shape, batch.obs.shape[2], -1)
    rewards = batch.rewards
    if rewards is not None:
        rewards = (cut(rewards, hold) * discounts[..., None]).sum(2)
    return Batch(
        obs=batch.obs[:, first],
        state=batch.state[:, first],
        avail=avail,
        actions=batch.kept["skill"][:, first],
        reward=(cut(batch.reward, hold) * discounts).sum(-1),
        terminated=terminated,
        next_obs=_at(batch.next_obs, last),
        next_state=_at(batch.next_state, last),
        next_avail=avail,
        rewards=rewards,
        valid=(length > 0).float(),
    )


def _at(x: Tensor, step: Int[Tensor, "B S"]) -> Tensor:
    """Entries of [B, T, ...] at a step of each segment: [B, S, ...]."""
    index = step.view(*step.shape, *(1 for _ in x.shape[2:]))
    return x.gather(1, index.expand(*step.shape, *x.shape[2:]))


def at_ends(x: Float[Tensor, "B S A"], batch: Batch, hold: int) -> Float[Tensor, "B T A"]:
    """Each segment's number at the segment's last step, and 0 at all other steps."""
    within = inside(batch, hold)
    following = torch.cat([within[..., 1:], torch.zeros_like(within[..., :1])], -1)
    ends = within * (1 - following)  # [B, S, L]
    return (x[:, :, None] * ends[..., None]).flatten(1, 2)[:, : batch.reward.shape[1]]
