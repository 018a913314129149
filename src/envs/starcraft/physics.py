"""Marine combat in N copies of one scenario. Time is in game loops, 16 per game second.

This module holds all rules of the fight. The environment and the API server only give orders and
read units. A copy's fight is a function of its key and its orders. It does not depend on N, nor on
how `advance` divides the loops. For this reason no floating-point sum runs over a long axis, where
the order of the terms would matter.

From the map file: speed, radius, health and sight; marines shoot only under ATTACK or ATTACK_MOVE.
From the game: attack period, damage and range. Reconstructed: formation and numbering at the
spawn, collisions, choice of targets, jitter of the attack period. Simplified: no acceleration,
turning or flight of bullets; a unit killed in a loop still shoots in it.

Axes: N copies, U units, the first squad before the second. Inside, all units lie in one row of M =
U * N, with unit u of copy n at the address u * N + n. Operations then run along memory, and one
index addresses any unit. A row is a tensor, or an ndarray if it is short; `arrays` has the
operations of both.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from eoi.envs.starcraft.arrays import NUMPY, TORCH, Array
from eoi.utils.seeding import fold, uniform
from eoi.utils.shapes import Bool, Float, Int, Shaped

LOOPS_PER_SECOND = 16
SPEED = 2.25 / LOOPS_PER_SECOND  # cells a loop
RADIUS = 0.375
HEALTH = 45.0
SIGHT = 9.0
DAMAGE = 6.0
RANGE = 5.0  # between the edges of two marines
REACH = RANGE + 2 * RADIUS  # the same between their centres
# A hunter notices foes at this distance; once it has been hit, all foes within REACH
SCAN = RANGE + RADIUS
PERIOD = 0.8608 * LOOPS_PER_SECOND  # loops from one shot to the next
PERIOD_JITTER = (-1.0, 2.0)  # loops; a draw between the two is added to each period

# Kinds of order; CARRY_ON keeps the earlier order
CARRY_ON, STOP, MOVE, ATTACK, ATTACK_MOVE = range(5)

_SPACING = 0.8  # cells between places of a formation
_OFF = 0.02  # cells, the largest offset from a place along each axis
# Dead units lie this far from all others and from each other, out of every range without a mask.
_AFAR = 1000.0
_SHORT = 4096  # below this number of addresses, numpy is faster on a CPU
_FARTHEST = 0x7F000000  # the bits of a float near 10^38
# Steps of this size, modulo 1, fill [0, 1) evenly: jitter without a draw at each shot
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Squad:
    size: int
    start: tuple[float, float]
    # Where the squad attack-moves after the spawn; None: it waits for orders
    goal: tuple[float, float] | None = None


@dataclass(frozen=True)
class Scenario:
    squads: tuple[Squad, Squad]
    # The lower left and the upper right corner of the walkable band
    ground: tuple[tuple[float, float], tuple[float, float]]

    @property
    def n_units(self) -> int:
        return self.squads[0].size + self.squads[1].size


class Orders(NamedTuple):
    """An order for each unit. Ignored: orders to the dead, or to attack the dead or oneself."""

    kind: Int[Tensor, "N U"]
    goal: Float[Tensor, "N U 2"]  # read by MOVE and ATTACK_MOVE
    target: Int[Tensor, "N U"]  # unit, read by ATTACK


class _State(NamedTuple):
    position: Array  # [2, M], cells; dead units are far away
    health: Array  # [M]
    cooldown: Array  # [M], loops until the weapon is ready
    jitter: Array  # [M], in [0, 1): the next attack period as a fraction of PERIOD_JITTER
    speed: Array  # [M], cells a loop; 0 for a stopped unit
    goal: Array  # [2, M], where the unit walks while it has no target
    focus: Array  # [M], address of the unit's target; its own address: no target
    hunts: Array  # [M], whether the unit chooses its targets itself (ATTACK_MOVE)


class Combat:
    """N copies of a fight between two squads of marines."""

    def __init__(self, scenario: Scenario, n_copies: int, device: torch.device | str = "cpu"):
        self.scenario, self.n_copies, self.n_units = scenario, n_copies, scenario.n_units
        u, n, device = self.n_units, n_copies, torch.device(device)
        self._x = NUMPY if device.type == "cpu" and u * n < _SHORT else TORCH
        own = torch.arange(u * n, dtype=torch.int32, device=device)
        afar = torch.zeros(2, u * n, device=device)
        afar[0] = _AFAR * (1 + own // n)
        low, high = torch.tensor(scenario.ground, device=device)[..., None]
        names = torch.arange(u, dtype=torch.int32)[:, None].repeat(1, u)
        names.fill_diagonal_(_FARTHEST)  # no unit is near itself
        low_bits = (1 << (u - 1).bit_length()) - 1
        bits = torch.tensor([low_bits, ~low_bits, n], dtype=torch.int32, device=device)
        self._own, self._copy, self._afar, self._low, self._high = map(
            self._x.array, (own, own[:n], afar, low + RADIUS, high - RADIUS)
        )
        # names: [U, U, 1]
        self._names, self._low_bits, self._high_bits, self._n = map(
            self._x.array, (names[..., None].to(device), *bits)
        )
        # Numbers as tensors: with a Python number, a small operation takes twice the time.
        numbers = map(
            self._x.array,
            torch.tensor(
                [0, 1, 1e-3, 0.5, _GOLDEN, _AFAR / 2, SIGHT, REACH, REACH**2, SCAN**2],
                device=device,
            ),
        )
        self._zero, self._one, self._tiny, self._half, self._golden, self._far, *ranges = numbers
        self._sight, self._reach, self._reach2, self._scan2 = ranges
        shortest, longest = PERIOD + PERIOD_JITTER[0], PERIOD + PERIOD_JITTER[1]
        numbers = map(
            self._x.array,
            torch.tensor(
                [HEALTH, -DAMAGE, SPEED, 2 * RADIUS, shortest, longest - shortest], device=device
            ),
        )
        self._health, self._damage, self._speed, self._touch, self._shortest, self._range = numbers
        self._places = torch.tensor(
            [place for squad in scenario.squads for place in formation(squad.size, squad.start)],
            device=device,
        )
        self._state = self._fresh(
            self._places[None].expand(n, u, 2), torch.zeros(n, u, device=device)
        )
        self.loops = torch.zeros(n, dtype=torch.int64, device=device)

    def spawn(self, keys: Int[Tensor, " N"]) -> None:
        """Start a new fight in every copy. All random numbers of the fight are drawn here."""
        off = _OFF * (2 * uniform(fold(keys, 0), self.n_units, 2) - 1)
        self._state = self._fresh(
            self._numbered(self._places + off, keys), uniform(fold(keys, 1), self.n_units)
        )
        self.loops = torch.zeros_like(self.loops)

    def _numbered(
        self, position: Float[Tensor, "N U 2"], keys: Int[Tensor, " N"]
    ) -> Float[Tensor, "N U 2"]:
        """Number the first squad from west to east, then south to north; the second at random."""
        first = self.scenario.squads[0].size
        by_y = position[:, :first, 1].argsort(dim=1, stable=True)
        by_x = position[:, :first, 0].gather(1, by_y).argsort(dim=1, stable=True)
        shuffled = uniform(fold(keys, 2), self.n_units - first).argsort(dim=1, stable=True)
        order = torch.cat([by_y.gather(1, by_x), first + shuffled], 1)
        return position.gather(1, order[..., None].expand_as(position))

    def _fresh(self, position: Float[Tensor, "N U 2"], jitter: Float[Tensor, "N U"]) -> _State:
        goal, speed = position.clone(), torch.zeros_like(jitter)
        start = 0
        for squad in self.scenario.squads:
            if squad.goal is not None:
                goal[:, start : start + squad.size] = torch.tensor(squad.goal, device=goal.device)
                speed[:, start : start + squad.size] = SPEED
            start += squad.size
        health, cooldown = torch.full_like(speed, HEALTH), torch.zeros_like(speed)
        rows = [self._row(values) for values in (position, health, cooldown, jitter, speed, goal)]
        return _State(*rows, focus=self._own, hunts=rows[4] > self._zero)

    def _row(self, values: Tensor) -> Array:
        """[M] from [N, U], or [2, M] from [N, U, 2]."""
        return self._x.array(
            values.T.reshape(-1) if values.ndim == 2 else values.permute(2, 1, 0).reshape(2, -1)
        )

    def command(self, orders: Orders) -> None:
        """Replace the orders of all units except those with CARRY_ON."""
        s, x = self._state, self._x
        kind, goal = self._row(orders.kind), self._inside(self._row(orders.goal))
        target = self._row(
            (orders.target * self.n_copies + torch.as_tensor(self._copy)[:, None]).int()
        )
        attack = kind == ATTACK
        refused = attack & ((x.pick(s.health, target) <= self._zero) | (target == self._own))
        given = (kind != CARRY_ON) & (s.health > self._zero) & ~refused
        self._state = s._replace(
            speed=x.where(given, x.where(kind != STOP, self._speed, self._zero), s.speed),
            goal=x.where(given, goal, s.goal),
            focus=x.where(given, x.where(attack, target, self._own), s.focus),
            hunts=x.where(given, kind == ATTACK_MOVE, s.hunts),
        )

    def kill(self, units: Bool[Tensor, "N U"]) -> None:
        """Remove units from the field."""
        s, fallen = self._state, self._row(units)
        self._state = s._replace(
            health=self._x.where(fallen, self._zero, s.health),
            position=self._x.where(fallen, self._afar, s.position),
        )

    def advance(self, loops: int, paused: Bool[Tensor, " N"] | None = None) -> None:
        """Play game loops in all copies except the paused ones."""
        before = state = self._state
        for _ in range(loops):
            state = self._loop(state)
        if paused is not None:
            rest = self._row(paused[:, None].expand(-1, self.n_units))
            state = _State(
                *(self._x.where(rest, old, new) for old, new in zip(before, state, strict=True))
            )
        self._state = state
        self.loops = self.loops + (loops if paused is None else loops * ~paused)

    def _loop(self, s: _State) -> _State:
        """One game loop. All units act at once, on the state at its beginning."""
        x = self._x
        nearest, foe, foe_gap = self._neighbours(s.position)
        fights = s.focus != self._own
        way = x.where(fights, x.pick(s.position, s.focus), s.goal) - s.position
        distance = self._length(way)
        focus, in_reach = self._aim(s, foe, foe_gap, fights, distance)
        stands = in_reach | (distance > self._far)  # dead units, and attackers of dead units
        step = way * (x.where(stands, self._zero, s.speed) / x.maximum(distance, self._speed))
        position = self._inside(s.position + self._shift(s.position, step, nearest))
        fires = in_reach & (s.cooldown <= self._zero)
        # All terms are whole numbers, so the order of the sum does not matter.
        health = x.maximum(
            x.add_at(s.health, focus, x.where(fires, self._damage, self._zero)), self._zero
        )
        return _State(
            position=x.where(health > self._zero, position, self._afar),
            health=health,
            cooldown=x.where(
                fires,
                self._shortest + self._range * s.jitter,
                x.maximum(s.cooldown - self._one, self._zero),
            ),
            jitter=x.fmod(s.jitter + self._golden, self._one),
            speed=s.speed,
            goal=s.goal,
            focus=focus,
            hunts=s.hunts,
        )

    def _neighbours(self, position: Array) -> tuple[Array, Array, Array]:
        """[M] addresses of the nearest unit and the nearest foe, and the foe's squared distance."""
        # The bits of non-negative floats compare as the floats do. The lowest bits of the squared
        # distances are replaced by the unit's number, and one `amin` finds both the nearest unit
        # and its distance. It is many times faster than `min` with indices, and takes the lower
        # number in a tie on every device.
        x, first = self._x, self.scenario.squads[0].size
        place = position.reshape(2, self.n_units, -1)
        way = place[:, :, None] - place[:, None]
        way *= way
        gaps = (way[0] + way[1]).view(x.int32)  # [U, U, N]
        gaps &= self._high_bits
        gaps |= self._names
        # [2U, N]
        least = x.concat(
            [x.amin(gaps, 0), x.amin(gaps[first:, :first], 0), x.amin(gaps[:first, first:], 0)]
        )
        nearest, foe = ((least & self._low_bits) * self._n + self._copy).reshape(2, -1)
        return nearest, foe, least.view(x.float32).reshape(2, -1)[1]

    def _aim(
        self, s: _State, foe: Array, foe_gap: Array, fights: Array, distance: Array
    ) -> tuple[Array, Array]:
        """[M] address of each unit's target, and whether it is in reach.

        A hunter keeps a target in reach. Otherwise it turns to the nearest foe that it notices.
        Otherwise it follows its old target while that is in sight.
        """
        holds = fights & (distance <= self._reach)
        notices = foe_gap <= self._x.where(s.health < self._health, self._reach2, self._scan2)
        turns = s.hunts & notices & ~holds
        gives_up = s.hunts & fights & (distance > self._sight)
        return self._x.where(turns, foe, self._x.where(gives_up, self._own, s.focus)), holds | turns

    def _shift(self, position: Array, step: Array, nearest: Array) -> Array:
        """[2, M]: the step after a collision with the nearest unit.

        Where the two touch, the part of the step towards that unit is removed, and half of their
        overlap is added away from it.
        """
        x, away = self._x, position - self._x.pick(position, nearest)
        gap = x.maximum(self._length(away), self._tiny)
        away, overlap = away / gap, self._touch - gap
        into = x.minimum((step * away).sum(0), self._zero)
        return step + away * x.where(overlap >= self._zero, overlap * self._half - into, self._zero)

    def _length(self, vector: Array) -> Array:
        """[M] from [2, M]."""
        # The last bit of a single-precision root differs between processors; rounded from double
        # precision it does not.
        return self._x.single(self._x.sqrt((vector * vector).sum(0, dtype=self._x.float64)))

    def _inside(self, position: Array) -> Array:
        """The nearest walkable points."""
        return self._x.minimum(self._x.maximum(position, self._low), self._high)

    @property
    def position(self) -> Float[Tensor, "N U 2"]:
        """Positions; meaningless for dead units."""
        return torch.as_tensor(self._state.position).view(2, self.n_units, -1).permute(2, 1, 0)

    @property
    def health(self) -> Float[Tensor, "N U"]:
        return self._table(self._state.health)

    @property
    def cooldown(self) -> Float[Tensor, "N U"]:
        return self._table(self._state.cooldown)

    @property
    def focus(self) -> Int[Tensor, "N U"]:
        """Target of each unit; its own number: no target."""
        return self._table(self._state.focus // self.n_copies)

    def _table(self, row: Array) -> Shaped[Tensor, "N U"]:
        return torch.as_tensor(row).view(self.n_units, -1).T


def formation(size: int, centre: tuple[float, float]) -> list[tuple[float, float]]:
    """The `size` places of a triangular lattice nearest to `centre`."""
    span = range(-size, size + 1)
    lattice = [
        ((column + row % 2 / 2) * _SPACING, row * _SPACING * math.sqrt(3) / 2)
        for row in span
        for column in span
    ]
    lattice.sort(key=lambda place: (round(math.hypot(*place), 6), place))
    return [(centre[0] + x, centre[1] + y) for x, y in lattice[:size]]
