"""SMAC's marine maps on the embedded simulator (`physics`), in N copies at once.

Observation, state, actions, reward and info are SMAC's, and so is the order of a step: orders,
`step_mul` game loops, then observation, end and reward. Geometry is computed in double precision
from single-precision positions, as SMAC does.

Axes: N copies, A agents, E enemies, J = A + E units (agents first), V = J - 1 units that an agent
may see (enemies first), U actions, O observation, S state. Inside, as in `physics`, copies are
last.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from eoi.config.schema import nearest
from eoi.envs.base import EnvSpec, TimeStep
from eoi.envs.starcraft.maps import GROUND, MAPS, SIZE
from eoi.envs.starcraft.physics import (
    ATTACK,
    CARRY_ON,
    HEALTH,
    MOVE,
    RADIUS,
    REACH,
    SIGHT,
    STOP,
    Combat,
    Orders,
)
from eoi.envs.starcraft.picture import LEGEND, draw_fight, enemy_letter, write_fight
from eoi.envs.starcraft.rules import Rules
from eoi.utils.errors import UserError
from eoi.utils.places import command
from eoi.utils.shapes import Bool, Float, Int

# Actions: no-op (for dead agents), stop, north, south, east, west, attack enemy 0, enemy 1, ...
NO_OP, ATTACKS = 0, 6
_DIRECTIONS = ((0, 1), (0, -1), (1, 0), (-1, 0))
# Between centres: an attack may be ordered up to this distance; the weapon's range is a bit less
SHOOT_RANGE = 6.0
MAX_COOLDOWN = 15.0  # loops; only scales the state
_ROWS = int(GROUND[1][1] - GROUND[0][1])  # of cells in the walkable band


@dataclass(frozen=True, kw_only=True)
class LiteConfig(Rules):
    engine: Literal["lite"] = "lite"
    difficulty: Literal["7"] = "7"  # the enemies' behaviour is fixed


class LiteStarCraft:
    """N copies of a marine map on one device."""

    Config = LiteConfig
    legend = LEGEND
    ground = np.ones((_ROWS, SIZE), dtype=bool)  # walkable cells, rows from the top
    corner = GROUND[0]  # x and y of the lower left corner of `ground`

    def __init__(self, cfg: LiteConfig, n_envs: int, device: torch.device | str = "cpu"):
        if cfg.map_name not in MAPS:
            raise UserError(
                f"env_args.map_name: the lite engine has no map {cfg.map_name!r}."
                f"{nearest(cfg.map_name, MAPS)}"
            )
        self.cfg, self.n_envs, self.device = cfg, n_envs, torch.device(device)
        self.map = MAPS[cfg.map_name]
        self.combat = Combat(self.map.scenario, n_envs, device)
        agents, enemies = self.map.n_agents, self.map.n_enemies
        actions = ATTACKS + enemies
        best = 1.0 if cfg.reward_sparse else self._max_reward
        self.spec = EnvSpec(
            n_agents=agents,
            n_actions=actions,
            obs_size=self._obs_size(),
            state_size=self._state_size(),
            episode_limit=self.map.limit,
            fixed_length=False,
            obs_dtype=torch.float32,
            metrics=("battle_won", "dead_allies", "dead_enemies"),
            reward_max=best / self._reward_unit,
            notice=f"WARNING: NOT StarCraft II: {cfg.map_name} is played on the lite engine, this "
            "project's simulator. Its results are not SMAC's. "
            f"`{command('doctor')}` lists the parts that the game requires.",
        )
        self._kinds = torch.tensor(
            [CARRY_ON, STOP] + [MOVE] * 4 + [ATTACK] * enemies, device=device
        )
        self._moves = torch.zeros(2, actions, device=device)  # from a unit to the goal of its order
        self._moves[:, 2:ATTACKS] = cfg.move_amount * torch.tensor(_DIRECTIONS).T
        ways = torch.tensor(_DIRECTIONS, dtype=torch.float64, device=device).T
        self._probes = cfg.move_amount / 2 * ways[:, None, :, None]
        ground = torch.tensor(GROUND, dtype=torch.float64, device=device)
        self._ground = ground[..., None, None, None]
        others = [
            [*range(agents, agents + enemies), *(b for b in range(agents) if b != a)]
            for a in range(agents)
        ]
        self._others = torch.tensor(others, device=device).flatten()  # [A * V]

    @property
    def _max_reward(self) -> float:
        return self.map.n_enemies * (self.cfg.reward_death_value + HEALTH) + self.cfg.reward_win

    @property
    def _reward_unit(self) -> float:
        return self._max_reward / self.cfg.reward_scale_rate if self.cfg.reward_scale else 1.0

    def _obs_size(self) -> int:
        cfg, other = self.cfg, 4 + self.cfg.obs_all_health
        ally = other + (ATTACKS + self.map.n_enemies) * cfg.obs_last_action
        own = (cfg.obs_own_health or cfg.obs_all_health) + cfg.obs_timestep_number
        return 4 + self.map.n_enemies * other + (self.map.n_agents - 1) * ally + own

    def _state_size(self) -> int:
        agents, enemies, cfg = self.map.n_agents, self.map.n_enemies, self.cfg
        if cfg.obs_instead_of_state:
            return agents * self._obs_size()
        return (
            4 * agents
            + 3 * enemies
            + agents * (ATTACKS + enemies) * cfg.state_last_action
            + cfg.state_timestep_number
        )

    def reset(self, keys: Int[Tensor, " N"]) -> TimeStep:
        self.combat.spawn(keys)
        self._t = torch.zeros(self.n_envs, dtype=torch.int64, device=self.device)
        self._last_action = torch.zeros(
            self.spec.n_agents, self.spec.n_actions, self.n_envs, device=self.device
        )
        self._done = torch.zeros(self.n_envs, dtype=torch.bool, device=self.device)
        return self._moment(self.combat.health.T)

    def step(self, actions: Int[Tensor, "N A"]) -> TimeStep:
        frozen = self._done
        actions = actions.masked_fill(frozen[:, None], NO_OP)
        if self.device.type == "cpu":  # on a GPU the check would make the host wait
            self._refuse(actions, frozen)
        actions = actions.T.contiguous()
        self.combat.command(self._orders(actions))
        before = self.combat.health.T
        self.combat.advance(self.cfg.step_mul, paused=frozen)
        self._t = self._t + ~frozen
        taken = torch.zeros_like(self._last_action).scatter_(1, actions[:, None], 1)
        self._last_action = torch.where(frozen, self._last_action, taken)
        return self._moment(before)

    def _refuse(self, actions: Int[Tensor, "N A"], frozen: Bool[Tensor, " N"]) -> None:
        inside = (actions >= 0) & (actions < self.spec.n_actions)
        valid = actions.clamp(0, self.spec.n_actions - 1)
        allowed = self._avail.gather(2, valid[..., None]).squeeze(2)
        wrong = ~(inside & allowed) & ~frozen[:, None]
        if wrong.any():
            copy, agent = wrong.nonzero()[0].tolist()
            raise ValueError(
                f"copy {copy}: action {int(actions[copy, agent])} is not available to agent {agent}"
            )

    def _orders(self, actions: Int[Tensor, "A N"]) -> Orders:
        agents, goal = self.spec.n_agents, self.combat.position.permute(2, 1, 0).clone()
        kind = torch.full(goal.shape[1:], CARRY_ON, device=self.device)
        target = torch.zeros_like(kind)
        kind[:agents] = self._kinds[actions]
        target[:agents] = agents + (actions - ATTACKS).clamp(min=0)
        goal[:, :agents] += self._moves[:, actions]
        return Orders(kind.T, goal.permute(2, 1, 0), target.T)

    def _moment(self, before: Float[Tensor, "J N"]) -> TimeStep:
        """The current time step. `before`: health of all units one step ago."""
        agents = self.spec.n_agents
        alive = self.combat.health.T > 0
        agents_left, enemies_left = alive[:agents].any(0), alive[agents:].any(0)
        terminated = ~(agents_left & enemies_left)
        truncated = ~terminated & (self._t >= self.spec.episode_limit)
        won, lost = (agents_left & ~enemies_left).float(), (enemies_left & ~agents_left).float()
        reward = self._reward(before, won, lost) * ~self._done
        self._done = terminated | truncated
        obs, avail = self._observe(alive)
        self._avail = _copies_first(avail)
        state = obs.flatten(0, 1) if self.cfg.obs_instead_of_state else self._global_state(alive)
        info = {
            "battle_won": won,
            "dead_allies": (~alive[:agents]).sum(0).float(),
            "dead_enemies": (~alive[agents:]).sum(0).float(),
            "timed_out": truncated.float(),
        }
        return TimeStep(
            _copies_first(obs),
            _copies_first(state),
            self._avail,
            reward,
            terminated,
            truncated,
            info,
        )

    def _reward(
        self, before: Float[Tensor, "J N"], won: Float[Tensor, " N"], lost: Float[Tensor, " N"]
    ) -> Float[Tensor, " N"]:
        """Reward of the current step."""
        # With SMAC's settings all terms are whole numbers, so their sum is exact in any order.
        cfg, after, agents = self.cfg, self.combat.health.T, self.spec.n_agents
        if cfg.reward_sparse:
            return (won - lost) / self._reward_unit
        hurt, killed = before - after, (before > 0) & (after <= 0)  # [J, N]
        losses = hurt + cfg.reward_death_value * killed
        reward = losses[agents:].sum(0) + cfg.reward_win * won + cfg.reward_defeat * lost
        if not cfg.reward_only_positive:
            reward = reward - cfg.reward_negative_scale * losses[:agents].sum(0)
        return reward / self._reward_unit

    def _observe(
        self, alive: Bool[Tensor, "J N"]
    ) -> tuple[Float[Tensor, "A O N"], Bool[Tensor, "A U N"]]:
        """Observations and available actions."""
        # Dead units lie far away (`Combat`), so that they are out of sight and range without a
        # mask.
        cfg, agents, enemies = self.cfg, self.map.n_agents, self.map.n_enemies
        health = self.combat.health.T / HEALTH
        position = self.combat.position.permute(2, 1, 0).double()  # [2, J, N]
        way = (
            position.index_select(1, self._others).unflatten(1, (agents, -1))
            - position[:, :agents, None]
        )  # [2, A, V, N]
        distance = (way[0].square() + way[1].square()).sqrt()  # [A, V, N]
        near, seen = distance[:, :enemies] <= SHOOT_RANGE, (distance < SIGHT).float()
        walkable = self._walkable(position, alive)
        avail = torch.cat([~alive[:agents, None], alive[:agents, None], walkable, near], 1)
        features = [torch.cat([near.float(), seen[:, enemies:]], 1)]
        features += [(length / SIGHT).float() * seen for length in (distance, *way)]
        if cfg.obs_all_health:
            features.append(health.index_select(0, self._others).view_as(seen) * seen)
        others = torch.stack(features, 2)  # [A, V, 4 or 5, N]
        parts = [
            walkable.float(),
            others[:, :enemies].flatten(1, 2),
            others[:, enemies:].flatten(1, 2),
        ]
        if cfg.obs_last_action:
            parts[2] = torch.cat([others[:, enemies:], self._allies_actions(seen)], 2).flatten(1, 2)
        if cfg.obs_own_health or cfg.obs_all_health:
            parts.append(health[:agents, None])
        if cfg.obs_timestep_number:
            parts.append(self._clock.expand(agents, 1, -1))
        return torch.cat(parts, 1), avail

    def _allies_actions(self, seen: Float[Tensor, "A V N"]) -> Float[Tensor, "A others U N"]:
        agents, enemies = self.map.n_agents, self.map.n_enemies
        allies = self._others.view(agents, -1)[:, enemies:]  # [A, A - 1]
        return self._last_action[allies] * seen[:, enemies:, None]

    def _walkable(
        self, position: Float[Tensor, "2 J N"], alive: Bool[Tensor, "J N"]
    ) -> Bool[Tensor, "A 4 N"]:
        """Whether the cell half a move away is walkable, for each direction."""
        # SMAC truncates positions to cells, so x > -1 counts as inside.
        agents, (low, high) = self.map.n_agents, self._ground
        cell = (position[:, :agents, None] + self._probes).trunc()  # [2, A, 4, N]
        inside = (cell >= low) & (cell < high)
        return inside[0] & inside[1] & alive[:agents, None]

    def _global_state(self, alive: Bool[Tensor, "J N"]) -> Float[Tensor, "S N"]:
        agents = self.map.n_agents
        x, y = ((self.combat.position.permute(2, 1, 0).double() - SIZE / 2) / SIZE).float()
        health, cooldown = self.combat.health.T / HEALTH, self.combat.cooldown.T / MAX_COOLDOWN
        units = torch.stack([health, cooldown, x, y], 1) * alive[:, None]  # [J, 4, N]
        parts = [units[:agents].flatten(0, 1), units[agents:, [0, 2, 3]].flatten(0, 1)]
        if self.cfg.state_last_action:
            parts.append(self._last_action.flatten(0, 1))
        if self.cfg.state_timestep_number:
            parts.append(self._clock[None])
        return torch.cat(parts, 0)

    @property
    def _clock(self) -> Float[Tensor, " N"]:
        return self._t / self.spec.episode_limit

    @property
    def xy(self) -> Float[Tensor, "N A 2"]:
        """Positions of the agents, y upwards; NaN for dead agents."""
        agents = self.spec.n_agents
        living = self.combat.health[:, :agents, None] > 0
        return self.combat.position[:, :agents].masked_fill(~living, torch.nan)

    @property
    def action_names(self) -> tuple[str, ...]:
        enemies = (f"attack {enemy_letter(i)}" for i in range(self.map.n_enemies))
        return ("no-op", "stop", "north", "south", "east", "west", *enemies)

    def render(self, copy: int = 0) -> np.ndarray:
        """RGB picture. Lines run from units to the targets in their range."""
        position, health, focus = (
            v[copy].numpy(force=True)
            for v in (self.combat.position, self.combat.health, self.combat.focus)
        )
        near = np.hypot(*(position[focus] - position).T) <= REACH
        focus = np.where(near, focus, np.arange(len(focus)))
        return draw_fight(
            np.pad(self.ground, ((1, 1), (0, 0))),  # a wall above and one below
            position - self.corner + (0, 1),
            health / HEALTH,
            np.full(len(health), RADIUS),
            focus,
            self.map.n_agents,
        )

    def text(self, copy: int = 0) -> str:
        """Drawing of the walkable band."""
        position, health = (
            v[copy].numpy(force=True) for v in (self.combat.position, self.combat.health)
        )
        return write_fight(_ROWS, SIZE, position - GROUND[0], health, self.map.n_agents)

    def close(self) -> None: ...


def _copies_first(values: Tensor) -> Tensor:
    """[N, ...] from [..., N]."""
    return values.flatten(0, -2).T.contiguous().view(-1, *values.shape[:-1])
