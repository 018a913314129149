"""Agents with skills: one network chooses a skill, another acts by the skill that is held.

Axes: N copies, A agents, O observation, K skills; *b is B transitions or B T episodes.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from eoi.components.action_selection import Carry, Choice
from eoi.components.episodes import Kept
from eoi.config.schema import setting
from eoi.controllers.controller import Controller, ControllerConfig
from eoi.envs.base import EnvSpec
from eoi.modules.agents import Agent
from eoi.utils.errors import UserError
from eoi.utils.shapes import Float, Int


@dataclass(frozen=True, kw_only=True)
class SkillsConfig:
    n_skills: int = setting(1)  # K, of each agent
    hold: int = setting(1)  # environment steps for which a chosen skill is held


def refuse_hold(cfg: SkillsConfig, spec: EnvSpec) -> None:
    """Raises UserError when a skill would be held longer than an episode lasts."""
    if cfg.hold > spec.episode_limit:
        raise UserError(
            f"hold={cfg.hold}: longer than an episode, which has at most {spec.episode_limit} steps"
        )


class Hierarchy(Controller):
    """Values or logits of skills; `low` has those of actions, given the skill held.

    `low` sees the observation and the skill, one-hot. An agent's memory is the skill that it holds
    and the number of steps left, 0 where it has to choose.
    """

    def __init__(
        self,
        spec: EnvSpec,
        cfg: ControllerConfig,
        n_skills: int,
        kind: type[Agent] | None = None,
    ):
        """`kind`: the network that chooses skills; None: the one that the settings name."""
        blind = replace(cfg, obs_last_action=False)
        super().__init__(replace(spec, n_actions=n_skills), blind, kind=kind)
        self.n_skills = n_skills
        self.low = Controller(replace(spec, obs_size=spec.obs_size + n_skills), cfg)

    @property
    def reads_last_action(self) -> bool:
        return self.low.sees_last_action

    def keeps(self) -> dict[str, Kept]:
        return {"skill": Kept((self.n_agents,), torch.int64)}

    def marks(self, choice: Choice) -> dict[str, Tensor]:
        return {"skill": choice.carry["skill"]}

    def start(self, n: int, device: torch.device) -> Carry:
        none = torch.zeros(n, self.n_agents, dtype=torch.int64, device=device)
        return self.low.start(n, device) | {"skill": none, "left": none.clone()}

    def held(
        self, carry: Carry, chosen: Int[Tensor, "N A"], hold: int | Int[Tensor, ""]
    ) -> tuple[Int[Tensor, "N A"], Carry]:
        """The skill of this step, `chosen` where none is left, and the memory of it.

        `hold`: steps for which a chosen skill is held.
        """
        free = carry["left"] == 0
        skill = torch.where(free, chosen, carry["skill"])
        left = torch.where(free, hold, carry["left"]) - 1
        return skill, {"skill": skill, "left": left}

    def with_skill(
        self, obs: Float[Tensor, "*b A O"], skill: Int[Tensor, "*b A"]
    ) -> Float[Tensor, "*b A I"]:
        """Observations as `low` sees them: with the skill, one-hot."""
        return torch.cat([obs, nn.functional.one_hot(skill, self.n_skills).to(obs.dtype)], -1)
