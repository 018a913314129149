"""The agents' networks behind one call: `step` to act, `now` and `following` to learn.

Networks that draw random numbers get them as inputs, from a key: those of the step when acting, and
the batch's when learning.

Axes: N copies, A agents, O observation, U actions, I inputs; *b is B transitions or B T episodes.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from eoi.components.action_selection import Carry, Choice
from eoi.components.batch import Batch
from eoi.components.episodes import Kept
from eoi.config.schema import setting
from eoi.envs.base import EnvSpec
from eoi.modules.agents import REGISTRY, Agent, Sizes
from eoi.utils.seeding import named, normal
from eoi.utils.shapes import Float, Int


@dataclass(frozen=True, kw_only=True)
class ControllerConfig:
    agent: str = setting(among=REGISTRY, own=True)
    hidden_dim: int = setting(1)  # units of each hidden layer, and of a GRU
    share_params: bool
    obs_agent_id: bool
    obs_last_action: bool
    same_init: bool

    @property
    def hidden(self) -> tuple[int, int]:
        return (self.hidden_dim, self.hidden_dim)

    @property
    def remembers(self) -> bool:
        """True: agents have memory, and learn from whole episodes."""
        return REGISTRY[self.agent].remembers


class Outputs(NamedTuple):
    """Outputs along a batch."""

    now: Float[Tensor, "*b A U"]
    following: Float[Tensor, "*b A U"]  # at the next observations, without a graph
    given: dict[str, Tensor]  # further tensors of the network (see `Agent.explain`)


class Controller(nn.Module):
    """Q_i^a(o_i, .), or the logits of pi_i(.|o_i), for every agent i.

    An agent's input is its observation, then its last action, then its id, where the settings ask
    for them, then random numbers, where its network draws.
    """

    ids: Tensor | None

    def __init__(
        self,
        spec: EnvSpec,
        cfg: ControllerConfig,
        own: object = None,
        kind: type[Agent] | None = None,
    ):
        """`own`: settings of the agents' network; `kind`: its class; None: as `cfg` names it."""
        super().__init__()
        self.n_agents, self.n_actions = spec.n_agents, spec.n_actions
        self.hidden = cfg.hidden
        self.sees_last_action = cfg.obs_last_action
        inputs = spec.obs_size
        inputs += spec.n_actions if cfg.obs_last_action else 0
        inputs += spec.n_agents if cfg.obs_agent_id else 0
        sizes = Sizes(
            n_agents=spec.n_agents,
            inputs=inputs,
            hidden=cfg.hidden,
            outputs=spec.n_actions,
            shared=cfg.share_params,
            same_init=cfg.same_init,
            own=own,
        )
        self.agents = (kind or REGISTRY[cfg.agent])(sizes)
        self.remembers = self.agents.remembers
        ids = torch.eye(spec.n_agents) if cfg.obs_agent_id else None
        self.register_buffer("ids", ids, persistent=False)

    @property
    def reads_last_action(self) -> bool:
        """True: its batches need the last actions."""
        return self.sees_last_action

    def keeps(self) -> dict[str, Kept]:
        """Tensors of `Choice.keep` that its losses need."""
        return {}

    def marks(self, choice: Choice) -> dict[str, Tensor]:
        """Quantities of each agent that films show beside it, by name: [N, A] or [N, A, D]."""
        return {}

    def start(self, n: int, device: torch.device) -> Carry:
        """Memory before the first step of N episodes."""
        carry = self.agents.start(n, device)
        if self.sees_last_action:
            carry["last_action"] = torch.full((n, self.n_agents), -1, device=device)
        return carry

    def step(
        self, obs: Float[Tensor, "N A O"], carry: Carry, key: Int[Tensor, " N"] | None = None
    ) -> tuple[Float[Tensor, "N A U"], Carry]:
        """Outputs at one step. `took` has to complete the memory when actions are chosen."""
        return self.agents.step(self._inputs(obs, carry.get("last_action"), key), carry)

    def took(self, carry: Carry, actions: Int[Tensor, "N A"]) -> Carry:
        """Memory after the agents took `actions`."""
        return carry | {"last_action": actions} if self.sees_last_action else carry

    def now(self, batch: Batch) -> Float[Tensor, "*b A U"]:
        """Outputs at each transition's observation."""
        return self(batch.obs, batch.last_actions, batch.length, self._key(batch, "now"))

    def explained(self, batch: Batch) -> tuple[Float[Tensor, "*b A U"], dict[str, Tensor]]:
        """`now`, and further tensors of the network (see `Agent.explain`)."""
        key = self._key(batch, "now")
        return self.explain(batch.obs, batch.last_actions, batch.length, key)

    def following(self, batch: Batch, stream: str = "following") -> Float[Tensor, "*b A U"]:
        """Outputs at each transition's next observation, without a graph.

        `stream`: name of the random numbers that it draws.
        """
        if self.remembers:
            return self.both(batch, stream).following
        with torch.no_grad():
            return self(batch.next_obs, batch.actions, key=self._key(batch, stream))

    def both(self, batch: Batch, stream: str = "both") -> Outputs:
        """`now` and the further tensors of the network, with their graph, and `following`."""
        if not self.remembers:
            now, given = self.explained(batch)
            return Outputs(now, self.following(batch), given)
        obs = torch.cat([batch.obs, batch.next_obs[:, -1:]], 1)  # [B, T1, A, O]
        first = torch.full_like(batch.actions[:, :1], -1)
        length = None if batch.length is None else batch.length + 1
        actions = torch.cat([first, batch.actions], 1)
        out, given = self.explain(obs, actions, length, self._key(batch, stream))
        given = {name: x[:, :-1] for name, x in given.items()}
        return Outputs(out[:, :-1], out[:, 1:].detach(), given)

    def forward(
        self,
        obs: Float[Tensor, "*b A O"],
        last_actions: Int[Tensor, "*b A"] | None = None,
        length: Int[Tensor, " B"] | None = None,
        key: Int[Tensor, "*k"] | None = None,
    ) -> Float[Tensor, "*b A U"]:
        """Outputs of any batch of observations; agents with memory take episodes [B, T].

        `length`: steps of each episode, where they differ. `key`: of the leading axes of `obs`, or
        of none; without it, random numbers are 0, their mean.
        """
        return self.agents.unroll(self._inputs(obs, last_actions, key), length)

    def explain(
        self,
        obs: Float[Tensor, "*b A O"],
        last_actions: Int[Tensor, "*b A"] | None = None,
        length: Int[Tensor, " B"] | None = None,
        key: Int[Tensor, "*k"] | None = None,
    ) -> tuple[Float[Tensor, "*b A U"], dict[str, Tensor]]:
        """`forward`, and further tensors of the network (see `Agent.explain`)."""
        return self.agents.explain(self._inputs(obs, last_actions, key), length)

    def _key(self, batch: Batch, stream: str) -> Int[Tensor, ""] | None:
        if batch.key is None or not self.agents.draws:
            return None
        return named(batch.key, f"agents {stream}")

    def _inputs(
        self,
        obs: Float[Tensor, "*b A O"],
        last_actions: Int[Tensor, "*b A"] | None,
        key: Int[Tensor, "*k"] | None,
    ) -> Float[Tensor, "*b A I"]:
        parts = [obs]
        if self.sees_last_action:
            assert last_actions is not None, "obs_last_action: the batch has no last actions"
            actions = torch.arange(self.n_actions, device=obs.device)
            parts.append((last_actions[..., None] == actions).to(obs.dtype))  # -1: all zero
        if self.ids is not None:
            parts.append(self.ids.expand(*obs.shape[:-1], -1))
        if self.agents.draws:
            parts.append(self._noise(obs, key))
        return torch.cat(parts, -1) if len(parts) > 1 else obs

    def _noise(
        self, obs: Float[Tensor, "*b A O"], key: Int[Tensor, "*k"] | None
    ) -> Float[Tensor, "*b A L"]:
        if key is None:
            return obs.new_zeros(*obs.shape[:-1], self.agents.noise)
        return normal(key, *obs.shape[key.dim() : -1], self.agents.noise).to(obs.dtype)
