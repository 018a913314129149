"""SMAC's marine maps on the embedded simulator (`physics`): its observation, state, actions, reward and info, in N copies at once.

The order of a step is SMAC's: orders, `step_mul` game loops, then observation, end and reward. Geometry is computed in double from
the game's single-precision positions, as SMAC does.

Axes: N copies, A agents, E enemies, J = A + E units (agents first), V = J - 1 units that an agent may see (enemies first), U actions,
O observation, S state. Inside, as in `physics`, copies come last.
"""

import math
import string
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from config.schema import nearest, setting
from envs.base import EnvSpec, TimeStep
from envs.grid import AGENT_COLOURS, FLOOR, WALL
from envs.starcraft.maps import GROUND, MAPS, SIZE
from envs.starcraft.physics import ATTACK, CARRY_ON, HEALTH, MOVE, RADIUS, REACH, SIGHT, STOP, Combat, Orders
from utils.errors import UserError

NO_OP, ATTACKS = 0, 6  # actions: no-op (the dead), stop, north, south, east, west, then attack enemy 0, 1, ...
_DIRECTIONS = ((0, 1), (0, -1), (1, 0), (-1, 0))
SHOOT_RANGE = 6.0  # centre to centre: who may be ordered to attack; the weapon reaches a little less
MAX_COOLDOWN = 15.0  # loops; only scales the state
_ENEMY, _BAR = (48, 44, 52), (96, 200, 96)
_DIGITS, _CAPITALS = "0123456789" + string.ascii_lowercase, string.ascii_uppercase


@dataclass(frozen=True)
class LiteConfig:
    map_name: str = "8m"
    difficulty: Literal["7"] = "7"  # the enemies have one way to fight
    step_mul: int = setting(1, default=8)  # game loops a step
    move_amount: float = setting(0, default=2.0)  # cells from a unit to where a move sends it
    obs_all_health: bool = True
    obs_own_health: bool = True  # obs_all_health includes it
    obs_last_action: bool = False  # of the allies in sight
    obs_timestep_number: bool = False  # SMAC's own observation is then one longer than it says (a 0 before the time)
    obs_instead_of_state: bool = False  # the state is all observations
    state_last_action: bool = True
    state_timestep_number: bool = False
    reward_sparse: bool = False  # 1 for a victory, -1 for a defeat, instead of what follows
    reward_only_positive: bool = True  # nothing is taken off for the agents' own losses
    reward_death_value: float = setting(0, default=10.0)  # a kill
    reward_win: float = setting(0, default=200.0)
    reward_defeat: float = 0.0
    reward_negative_scale: float = setting(0, default=0.5)  # of the agents' own losses
    reward_scale: bool = True
    reward_scale_rate: float = setting(1e-6, default=20.0)  # the best return after scaling


class LiteStarCraft:
    """N copies of a marine map on one device."""

    Config = LiteConfig
    bounds = ((GROUND[0][0], GROUND[1][0]), (GROUND[0][1], GROUND[1][1]))  # x and y, for position maps

    def __init__(self, cfg: LiteConfig, n_envs: int, device: torch.device | str = "cpu"):
        if cfg.map_name not in MAPS:
            raise UserError(f"env_args.map_name: the lite engine has no map {cfg.map_name!r}.{nearest(cfg.map_name, MAPS)}")
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
            notice=f"{cfg.map_name} is played on the embedded engine, not on StarCraft II: its results are not SMAC's",
        )
        self._kinds = torch.tensor([CARRY_ON, STOP] + [MOVE] * 4 + [ATTACK] * enemies, device=device)
        self._moves = torch.zeros(2, actions, device=device)  # from a unit to the goal of its order
        self._moves[:, 2:ATTACKS] = cfg.move_amount * torch.tensor(_DIRECTIONS).T
        self._probes = cfg.move_amount / 2 * torch.tensor(_DIRECTIONS, dtype=torch.float64, device=device).T[:, None, :, None]
        self._ground = torch.tensor(GROUND, dtype=torch.float64, device=device)[..., None, None, None]
        others = [[*range(agents, agents + enemies), *(b for b in range(agents) if b != a)] for a in range(agents)]
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
        return 4 * agents + 3 * enemies + agents * (ATTACKS + enemies) * cfg.state_last_action + cfg.state_timestep_number

    def reset(self, keys: Int[Tensor, " N"]) -> TimeStep:
        self.combat.spawn(keys)
        self._t = torch.zeros(self.n_envs, dtype=torch.int64, device=self.device)
        self._last_action = torch.zeros(self.spec.n_agents, self.spec.n_actions, self.n_envs, device=self.device)
        self._done = torch.zeros(self.n_envs, dtype=torch.bool, device=self.device)
        return self._moment(self.combat.health.T)

    def step(self, actions: Int[Tensor, "N A"]) -> TimeStep:
        frozen = self._done
        actions = actions.masked_fill(frozen[:, None], NO_OP)
        if self.device.type == "cpu":  # elsewhere the check would make the host wait for the device
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
        allowed = self._avail.gather(2, actions.clamp(0, self.spec.n_actions - 1)[..., None]).squeeze(2)
        wrong = ~(inside & allowed) & ~frozen[:, None]
        if wrong.any():
            copy, agent = wrong.nonzero()[0].tolist()
            raise ValueError(f"copy {copy}: action {int(actions[copy, agent])} is not available to agent {agent}")

    def _orders(self, actions: Int[Tensor, "A N"]) -> Orders:
        agents, goal = self.spec.n_agents, self.combat.position.permute(2, 1, 0).clone()
        kind = torch.full(goal.shape[1:], CARRY_ON, device=self.device)
        target = torch.zeros_like(kind)
        kind[:agents] = self._kinds[actions]
        target[:agents] = agents + (actions - ATTACKS).clamp(min=0)
        goal[:, :agents] += self._moves[:, actions]
        return Orders(kind.T, goal.permute(2, 1, 0), target.T)

    def _moment(self, before: Float[Tensor, "J N"]) -> TimeStep:
        """The present; `before` is everyone's health a step ago."""
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
        return TimeStep(_copies_first(obs), _copies_first(state), self._avail, reward, terminated, truncated, info)

    def _reward(self, before: Float[Tensor, "J N"], won: Float[Tensor, " N"], lost: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
        """Of the step that ended here. Sums are of whole numbers, with SMAC's settings, and so exact in any order."""
        cfg, after, agents = self.cfg, self.combat.health.T, self.spec.n_agents
        if cfg.reward_sparse:
            return (won - lost) / self._reward_unit
        hurt, killed = before - after, (before > 0) & (after <= 0)  # [J, N]
        losses = hurt + cfg.reward_death_value * killed
        reward = losses[agents:].sum(0) + cfg.reward_win * won + cfg.reward_defeat * lost
        if not cfg.reward_only_positive:
            reward = reward - cfg.reward_negative_scale * losses[:agents].sum(0)
        return reward / self._reward_unit

    def _observe(self, alive: Bool[Tensor, "J N"]) -> tuple[Float[Tensor, "A O N"], Bool[Tensor, "A U N"]]:
        """Observations and available actions. The dead are far away (`Combat`), and so out of sight and range without a mask."""
        cfg, agents, enemies = self.cfg, self.map.n_agents, self.map.n_enemies
        health = self.combat.health.T / HEALTH
        position = self.combat.position.permute(2, 1, 0).double()  # [2, J, N]
        way = position.index_select(1, self._others).unflatten(1, (agents, -1)) - position[:, :agents, None]  # [2, A, V, N]
        distance = (way[0].square() + way[1].square()).sqrt()  # [A, V, N]
        near, seen = distance[:, :enemies] <= SHOOT_RANGE, (distance < SIGHT).float()
        walkable = self._walkable(position, alive)
        avail = torch.cat([~alive[:agents, None], alive[:agents, None], walkable, near], 1)
        features = [torch.cat([near.float(), seen[:, enemies:]], 1)]
        features += [(length / SIGHT).float() * seen for length in (distance, *way)]
        if cfg.obs_all_health:
            features.append(health.index_select(0, self._others).view_as(seen) * seen)
        others = torch.stack(features, 2)  # [A, V, 4 or 5, N]
        parts = [walkable.float(), others[:, :enemies].flatten(1, 2), others[:, enemies:].flatten(1, 2)]
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

    def _walkable(self, position: Float[Tensor, "2 J N"], alive: Bool[Tensor, "J N"]) -> Bool[Tensor, "A 4 N"]:
        """Whether the cell half a move away is walkable. SMAC finds cells by truncation, so that x > -1 counts as inside."""
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
        """Where the agents stand, y upwards; not a number for the dead."""
        agents = self.spec.n_agents
        living = self.combat.health[:, :agents, None] > 0
        return self.combat.position[:, :agents].masked_fill(~living, torch.nan)

    @property
    def action_names(self) -> tuple[str, ...]:
        enemies = (f"attack {_CAPITALS[i % len(_CAPITALS)]}" for i in range(self.map.n_enemies))
        return ("no-op", "stop", "north", "south", "east", "west", *enemies)

    def render(self, copy: int = 0) -> np.ndarray:
        """Agents in colours, enemies dark; bars are health, lines run from those who fight to those they can shoot."""
        position, health, focus = (v[copy].numpy(force=True) for v in (self.combat.position, self.combat.health, self.combat.focus))
        return _picture(position, health, focus, self.map.n_agents)

    def text(self, copy: int = 0) -> str:
        """The ground from above, agents as digits and small letters, enemies as capitals; then everyone's health."""
        agents, enemies = self.map.n_agents, self.map.n_enemies
        names = [*_DIGITS[:agents], *(_CAPITALS[i % len(_CAPITALS)] for i in range(enemies))]
        units = list(zip(names, self.combat.position[copy].tolist(), self.combat.health[copy].tolist(), strict=True))
        canvas = np.full((SIZE, 2 * SIZE + len(units)), " ")  # two characters to a cell, and room for who is shifted
        for name, (x, y), health in units:
            if health > 0:
                column = int(2 * x)
                while canvas[int(y), column] != " ":
                    column += 1
                canvas[int(y), column] = name
        (_, bottom), (_, top), edge = *GROUND, "-" * 2 * SIZE
        ground = ["".join(row).rstrip() for row in canvas[int(bottom) : int(top)][::-1]]
        bars = [" ".join(f"{name}:{health:.0f}" for name, _, health in side) for side in (units[:agents], units[agents:])]
        return "\n".join([edge, *ground, edge, *bars])

    def close(self) -> None: ...


def _picture(
    position: Float[np.ndarray, "J 2"], health: Float[np.ndarray, " J"], focus: Int[np.ndarray, " J"], n_agents: int, scale: int = 20
) -> UInt8[np.ndarray, "height width 3"]:
    bottom, top = int(GROUND[0][1]) - 1, int(GROUND[1][1]) + 1  # a wall above and below
    image = np.full(((top - bottom) * scale, SIZE * scale, 3), FLOOR, dtype=np.uint8)
    image[:scale] = image[-scale:] = WALL
    centre = np.stack([top - position[:, 1], position[:, 0]], 1) * scale  # rows grow downwards
    colours = [AGENT_COLOURS[i % len(AGENT_COLOURS)] if i < n_agents else np.array(_ENEMY) for i in range(len(health))]
    living = np.flatnonzero(health > 0)
    for i in living:
        if focus[i] != i and np.hypot(*(position[focus[i]] - position[i])) <= REACH:
            way = np.linspace(centre[i], centre[focus[i]], 8 * scale).astype(int)
            image[way[:, 0], way[:, 1]] = colours[i]
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    radius = int(RADIUS * scale)
    for i in living:
        image[(rows - centre[i, 0]) ** 2 + (columns - centre[i, 1]) ** 2 <= radius**2] = colours[i]
    for i in living:
        row, column = centre[i].astype(int) - radius
        image[row - 4 : row - 1, column : column + 2 * radius] = WALL
        image[row - 4 : row - 1, column : column + math.ceil(2 * radius * health[i] / HEALTH)] = _BAR
    return image


def _copies_first(values: Tensor) -> Tensor:
    """[N, ...] from [..., N]."""
    return values.flatten(0, -2).T.contiguous().view(-1, *values.shape[:-1])
