"""EDTI, exploration via decision-theoretic influence (Wang et al., ICLR 2020), on independent PPO.

Each agent is rewarded for what it has seldom seen, for the others' rewards, and for changing where
the others get to, as far as that is worth much to them:

    R_i = r + u_i + I_i
    I_i = sum_j c_r (r_e r + r_c u_j) + c_v gamma F_ij (b_e V_j^e(s') + b_c V_j^c(s'))

with sums over j other than i, curiosity u_i = eta / sqrt(visits of s_i'), and influence
F_ij = 1 - p(s_j' | s_j, a_j) / p(s_j' | s_j, a_j, s_i, a_i). Probabilities are shares of counts.

Differences to the authors' code: docs/algorithms/edti.md.

Axes: N copies, T time (T1 = T + 1), A agents, O observation; *b is B transitions or B T episodes.
Of two axes A, the first is the influenced agent j, the second the influencing agent i.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from eoi.components.batch import Batch
from eoi.components.episodes import Episodes
from eoi.components.returns import gae
from eoi.config.schema import setting
from eoi.learners.base import Context, Extra, Group, Losses, Minibatch, Scalar, Stats, scalar
from eoi.modules.counts import Counts, code, later
from eoi.modules.layers import AgentMLP
from eoi.utils.seeding import fold
from eoi.utils.shapes import Float, Int


@dataclass(frozen=True, kw_only=True)
class EDTIConfig:
    eta: float = setting(0, varies=True)
    reward_weight: float = setting(0, varies=True)  # c_r
    value_weight: float = setting(0, varies=True)  # c_v
    reward_ext: float = setting(0, varies=True)  # r_e
    reward_int: float = setting(0, varies=True)  # r_c
    value_ext: float = setting(0, varies=True)  # b_e
    value_int: float = setting(0, varies=True)  # b_c
    state: Literal["observation", "position"]
    buckets: int = setting(1, 2**31 - 1)
    gae_lambda: float = setting(0, 1, varies=True)
    value_lr: float = setting(0, varies=True)


class Codes(NamedTuple):
    """Codes of the counted things at each step."""

    visit: Int[Tensor, "*b A"]  # (i, s_i')
    alone: Int[Tensor, "*b A"]  # (j, s_j, a_j)
    alone_then: Int[Tensor, "*b A"]  # that, and s_j'
    together: Int[Tensor, "*b A A"]  # (j, s_j, a_j, i, s_i, a_i)
    together_then: Int[Tensor, "*b A A"]  # that, and s_j'


def codes(
    state: Int[Tensor, "*b A"], actions: Int[Tensor, "*b A"], then: Int[Tensor, "*b A"]
) -> Codes:
    """Codes of transitions from `state` to `then`; no agent shares its counts with another."""
    agents = torch.arange(state.shape[-1], device=state.device)
    visit, alone, together = fold(torch.zeros_like(agents[:1]), torch.arange(3).to(agents))
    visit, alone = fold(visit, agents), fold(alone, agents)  # [A]
    together = fold(fold(together, agents[:, None]), agents)  # [A, A]
    for x in (state, actions):
        alone = fold(alone, x)
        together = fold(fold(together, x[..., :, None]), x[..., None, :])
    return Codes(
        visit=fold(visit, then),
        alone=alone,
        alone_then=fold(alone, then),
        together=together,
        together_then=fold(together, then[..., :, None]),
    )


def influence(
    alone: Float[Tensor, "*b A"], together: Float[Tensor, "*b A A"]
) -> Float[Tensor, "*b A A"]:
    """F = 1 - p / p' of the probabilities of s_j' alone and together; 0 of an agent on itself."""
    return _others(alone) * (1 - alone[..., :, None] / together)


def _others(x: Float[Tensor, "*b A"]) -> Float[Tensor, "A A"]:
    """1 for pairs of different agents, else 0."""
    return 1 - torch.eye(x.shape[-1], device=x.device)


def of_others(x: Float[Tensor, "*b A"]) -> Float[Tensor, "*b A"]:
    """Sum over the other agents."""
    return x.sum(-1, keepdim=True) - x


class EDTI(Extra[Minibatch]):
    """Curiosity and influence, with values of the task's reward and of curiosity."""

    Config = EDTIConfig
    view = Minibatch
    gamma: Tensor
    eta: Tensor
    reward_weight: Tensor
    value_weight: Tensor
    reward_ext: Tensor
    reward_int: Tensor
    value_ext: Tensor
    value_int: Tensor
    gae_lambda: Tensor

    def __init__(self, cfg: EDTIConfig, context: Context):
        super().__init__()
        spec = context.spec
        self.state, self.value_lr = cfg.state, cfg.value_lr
        # Visits have a table of their own, so that they stay exact when that of moves is full.
        self.visits, self.moves = Counts(-(-cfg.buckets // 4)), Counts(cfg.buckets)
        sizes = [spec.obs_size, *context.hidden, 1]
        streams = ("external", "curious")
        self.values = nn.ModuleDict({name: AgentMLP(spec.n_agents, sizes) for name in streams})
        scalar(self, "gamma", context.gamma)
        for name in (
            "eta",
            "reward_weight",
            "value_weight",
            "reward_ext",
            "reward_int",
            "value_ext",
            "value_int",
            "gae_lambda",
        ):
            scalar(self, name, getattr(cfg, name))

    @classmethod
    def active(cls, cfg: object) -> bool:
        assert isinstance(cfg, EDTIConfig)
        return max(cfg.eta, cfg.reward_weight, cfg.value_weight) > 0

    @classmethod
    def reads_cells(cls, cfg: object) -> bool:
        assert isinstance(cfg, EDTIConfig)
        return cfg.state == "position"

    def observe(self, episodes: Episodes) -> None:
        batch = episodes.batch()
        assert batch.valid is not None
        alone = batch.valid[..., None].expand_as(batch.actions)  # [N, T, A]
        together = alone[..., None] * _others(alone)
        visit, *moves = self._codes(batch)
        self.visits.add(visit, alone)
        for each in moves:
            self.moves.add(each, alone if each.dim() == alone.dim() else together)

    def _codes(self, batch: Batch) -> Codes:
        if self.state == "observation":
            return codes(code(batch.obs), batch.actions, code(batch.next_obs))
        assert batch.cells is not None and batch.next_cells is not None
        return codes(batch.cells, batch.actions, batch.next_cells)

    def rewards(self, batch: Batch, t: Scalar) -> dict[str, Float[Tensor, "N T A"]]:
        """u_i and I_i along a rollout that has been counted."""
        found = self._codes(batch)
        curiosity = self.curiosity(found.visit, batch)
        external = batch.earned.expand_as(curiosity)
        shared = self.reward_ext * of_others(external) + self.reward_int * of_others(curiosity)
        worth = self.value_ext * self._along(batch, "external")[:, 1:]
        worth = worth + self.value_int * self._along(batch, "curious")[:, 1:]  # [N, T, A]
        worth = self.gamma * (1 - batch.terminated[..., None]) * worth
        changed = (self.influences(found) * worth[..., :, None]).sum(-2)
        influenced = self.reward_weight * shared + self.value_weight * changed
        return {"curiosity": curiosity, "influence": influenced}

    def curiosity(self, visit: Int[Tensor, "N T A"], batch: Batch) -> Float[Tensor, "N T A"]:
        """u_i = eta / sqrt(k) at the k-th visit of a state, this one included.

        The rollout's visits count one after the other: step by step, copy after copy.
        """
        assert batch.valid is not None
        running = batch.valid[..., None] > 0
        in_time = torch.where(running, visit, 0).transpose(0, 1)
        following = later(in_time.flatten()).view(in_time.shape).transpose(0, 1)
        number = (self.visits.of(visit) - following).clamp(min=1)
        return self.eta / number.float().sqrt()

    def influences(self, found: Codes) -> Float[Tensor, "N T A A"]:
        """F_ij at [j, i], by all counts up to now; 0 for pairs that are not counted."""
        alone = self._share(found.alone_then, found.alone)
        together = self._share(found.together_then, found.together)
        known = (alone[..., :, None] > 0) & (together > 0)
        return torch.where(known, influence(alone, together.clamp(min=1e-6)), 0.0)

    def _share(self, then: Int[Tensor, "*b"], context: Int[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """Estimate of p(then | context); 0 where either is not counted."""
        tries = self.moves.of(context)
        return torch.where(tries > 0, self.moves.of(then) / tries.clamp(min=1), 0.0)

    def _along(self, batch: Batch, stream: str) -> Float[Tensor, "N T1 A"]:
        """A stream's values at all observations of a rollout."""
        obs = torch.cat([batch.obs, batch.next_obs[:, -1:]], 1)
        return self.values[stream](obs).squeeze(-1)

    def study(self, rollout: Batch, t: Scalar) -> dict[str, Float[Tensor, "N T A"]]:
        """Targets of both values."""
        assert rollout.valid is not None
        found: dict[str, Tensor] = {}
        streams = {"external": rollout.earned, "curious": rollout.kept["curiosity_reward"]}
        for name, reward in streams.items():
            value = self._along(rollout, name)
            advantage = gae(
                reward.expand_as(value[:, 1:]),
                value,
                rollout.terminated.bool(),
                rollout.valid.bool(),
                self.gamma,
                self.gae_lambda,
            )
            found[f"{name}_returns"] = advantage + value[:, :-1]
        return found

    def losses(self, batch: Batch, view: Minibatch, t: Scalar) -> Losses:
        """Regression of both values."""
        batch = view.batch
        terms = {}
        for name in self.values:
            error = self.values[name](batch.obs).squeeze(-1) - batch.kept[f"{name}_returns"]
            terms[f"{name}_value"] = batch.mean(error.square()).sum()
        stats = {f"{name}_loss": term.detach() for name, term in terms.items()}
        return Losses(terms, stats)

    def groups(self) -> Sequence[Group]:
        return [Group([self.values], self.value_lr)]

    def diagnose(self, batch: Batch, view: Minibatch) -> Stats:
        """Shares of the tables of counts in use; close to 1, new things are not counted."""
        return {"visits_filled": self.visits.filled(), "moves_filled": self.moves.filled()}
