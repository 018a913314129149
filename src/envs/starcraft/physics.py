"""Marine combat in N copies of one scenario: orders in, unit state out, time in game loops (16 per game second).

This is the whole of the game's rules here; whoever stands in front (a learner's environment, a server of the game's API) only gives
orders and reads units. A copy's fight is a function of its key and its orders: not of N, nor of how the loops are divided over
calls of `advance`. For that, nothing is summed over a long axis in floating point, where the order of terms would show.

Facts: speed, radius, health, sight and passive first squad are the map file's; attack period, damage and range are the game's.
Reconstructions: formation and numbering at the spawn, collisions, choice of targets, spread of the attack period.

Axes: N copies, U units, the first squad's before the second's. Inside, copies come last, so that memory runs along them.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from utils.seeding import fold, uniform

LOOPS_PER_SECOND = 16
SPEED = 2.25 / LOOPS_PER_SECOND  # cells a loop
RADIUS = 0.375
HEALTH = 45.0
SIGHT = 9.0
DAMAGE = 6.0
REACH = 5 + 2 * RADIUS  # range 5 between the edges of two marines, here between their centres
SCAN = 5 + RADIUS  # a hunter notices foes this near by itself; once it has been hit, all in its reach
PERIOD = 0.8608 * LOOPS_PER_SECOND  # loops from one shot to the next
PERIOD_JITTER = (-1.0, 2.0)  # loops; a draw between the two is added to each period

CARRY_ON, STOP, MOVE, ATTACK, ATTACK_MOVE = range(5)  # kinds of order; CARRY_ON leaves the earlier one as it is

_SPACING, _JITTER = 0.8, 0.02  # cells between places of a formation, and the most a unit is off its place along each axis
_AFAR = 1000.0  # the dead lie this far from everything and each other: out of every range without a mask
_SHORTEST, _SPREAD = PERIOD + PERIOD_JITTER[0], PERIOD_JITTER[1] - PERIOD_JITTER[0]
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Squad:
    size: int
    start: tuple[float, float]
    goal: tuple[float, float] | None = None  # where it attack-moves from the spawn on; None: it waits for orders


@dataclass(frozen=True)
class Scenario:
    squads: tuple[Squad, Squad]
    ground: tuple[tuple[float, float], tuple[float, float]]  # walkable: the lower left and the upper right corner

    @property
    def n_units(self) -> int:
        return self.squads[0].size + self.squads[1].size


class Orders(NamedTuple):
    """What each unit is told. The dead, and attackers of the dead or of themselves, carry on."""

    kind: Int[Tensor, "N U"]
    goal: Float[Tensor, "N U 2"]  # read by MOVE and ATTACK_MOVE
    target: Int[Tensor, "N U"]  # unit, read by ATTACK


class _State(NamedTuple):
    position: Tensor  # [2, U, N], cells; the dead are afar
    health: Tensor  # [U, N]
    cooldown: Tensor  # [U, N], loops until the weapon is ready
    spread: Tensor  # [U, N], in [0, 1): place of the last attack period within PERIOD_JITTER
    speed: Tensor  # [U, N], cells a loop: 0 for who has stopped
    goal: Tensor  # [2, U, N], where it walks when it fights nobody
    focus: Tensor  # [U, N], address of whom it fights; its own: nobody
    hunts: Tensor  # [U, N], picks its own targets (ATTACK_MOVE)


class Combat:
    """N copies of a fight between two squads of marines."""

    def __init__(self, scenario: Scenario, n_copies: int, device: torch.device | str = "cpu"):
        self.scenario, self.n_copies, self.n_units = scenario, n_copies, scenario.n_units
        u, n = self.n_units, n_copies
        # A unit of a copy has the address unit * N + copy: its place in a flattened [U, N].
        self._own = torch.arange(u * n, device=device).view(u, n)
        self._copy = torch.arange(n, device=device)
        self._places = torch.tensor([place for squad in scenario.squads for place in formation(squad.size, squad.start)], device=device)
        self._afar = torch.zeros(2, u, 1, device=device)
        self._afar[0, :, 0] = _AFAR * torch.arange(1, u + 1)
        low, high = torch.tensor(scenario.ground, device=device)[..., None, None].unbind(0)
        self._low, self._high = low + RADIUS, high - RADIUS
        self._reach2, self._scan2 = torch.tensor([REACH**2, SCAN**2], device=device)
        self._index_bits = (u - 1).bit_length()
        self._number = torch.arange(u, dtype=torch.int32, device=device)[:, None, None]
        self._state = self._fresh(self._places.T[..., None].expand(2, u, n), torch.zeros(u, n, device=device))
        self.loops = torch.zeros(n, dtype=torch.int64, device=device)

    def spawn(self, keys: Int[Tensor, " N"]) -> None:
        """Starts a new fight in every copy. Nothing random follows that is not drawn here."""
        off = _JITTER * (2 * uniform(fold(keys, 0), self.n_units, 2) - 1)
        position = self._numbered(self._places + off, keys).permute(2, 1, 0).contiguous()
        self._state = self._fresh(position, uniform(fold(keys, 1), self.n_units).T.contiguous())
        self.loops = torch.zeros_like(self.loops)

    def _numbered(self, position: Float[Tensor, "N U 2"], keys: Int[Tensor, " N"]) -> Float[Tensor, "N U 2"]:
        """The first squad counts from west to east (then south to north), the second in a random order."""
        first = self.scenario.squads[0].size
        by_y = position[:, :first, 1].argsort(dim=1, stable=True)
        by_x = position[:, :first, 0].gather(1, by_y).argsort(dim=1, stable=True)
        shuffled = uniform(fold(keys, 2), self.n_units - first).argsort(dim=1, stable=True)
        order = torch.cat([by_y.gather(1, by_x), first + shuffled], 1)
        return position.gather(1, order[..., None].expand_as(position))

    def _fresh(self, position: Tensor, spread: Tensor) -> _State:
        goal, speed = position.clone(), torch.zeros_like(spread)
        start = 0
        for squad in self.scenario.squads:
            if squad.goal is not None:
                goal[:, start : start + squad.size] = torch.tensor(squad.goal, device=goal.device)[:, None, None]
                speed[start : start + squad.size] = SPEED
            start += squad.size
        return _State(position, torch.full_like(spread, HEALTH), torch.zeros_like(spread), spread, speed, goal, self._own, speed > 0)

    def command(self, orders: Orders) -> None:
        """Replaces the orders of all units but those that carry on."""
        s, kind = self._state, orders.kind.T.contiguous()
        target = orders.target.T.contiguous() * self.n_copies + self._copy
        goal = self._inside(orders.goal.permute(2, 1, 0).contiguous())
        attack = kind == ATTACK
        refused = attack & ((self._of(s.health, target) <= 0) | (target == self._own))
        given = (kind != CARRY_ON) & (s.health > 0) & ~refused
        self._state = s._replace(
            speed=torch.where(given, SPEED * (kind != STOP), s.speed),
            goal=torch.where(given, goal, s.goal),
            focus=torch.where(given, torch.where(attack, target, self._own), s.focus),
            hunts=torch.where(given, kind == ATTACK_MOVE, s.hunts),
        )

    def advance(self, loops: int, paused: Bool[Tensor, " N"] | None = None) -> None:
        """Plays game loops in all copies but the paused ones."""
        before = state = self._state
        for _ in range(loops):
            state = self._loop(state)
        if paused is not None:
            state = _State(*(torch.where(paused, old, new) for old, new in zip(before, state, strict=True)))
        self._state = state
        self.loops = self.loops + (loops if paused is None else loops * ~paused)

    def _loop(self, s: _State) -> _State:
        """All units act at once, on what was true at the beginning of the loop."""
        gaps = self._gaps(s.position)
        fights = s.focus != self._own
        way = torch.where(fights, self._of(s.position, s.focus), s.goal) - s.position
        distance = _length(way)
        focus, in_reach = self._aim(s, gaps, fights, distance)
        fires = in_reach & (s.cooldown <= 0)
        stands = in_reach | (distance > _AFAR / 2)  # an attacker stops when its target is dead
        step = way * (s.speed * ~stands / distance.clamp(min=SPEED))
        position = self._inside(s.position + self._shift(s.position, step, gaps))
        health = (s.health - self._hits(fires, focus)).clamp(min=0)
        alive = health > 0
        spread = (s.spread + _GOLDEN * fires).frac()
        return s._replace(
            position=torch.where(alive, position, self._afar),
            health=health,
            cooldown=torch.where(fires, _SHORTEST + _SPREAD * spread, (s.cooldown - 1).clamp(min=0)),
            spread=spread,
            speed=s.speed * alive,
            focus=focus,
        )

    def _aim(self, s: _State, gaps: Tensor, fights: Tensor, distance: Tensor) -> tuple[Tensor, Tensor]:
        """[U, N] whom each unit fights now, and whether that one is in reach.

        A hunter keeps whom it can reach, else turns to the nearest foe if it notices that one, else follows whom it had while it
        sees that one.
        """
        first = self.scenario.squads[0].size
        foe, foe_gap = self._unpack(torch.cat([gaps[first:, :first].amin(0), gaps[:first, first:].amin(0)]))
        holds = fights & (distance <= REACH)
        notices = foe_gap <= torch.where(s.health < HEALTH, self._reach2, self._scan2)
        turns = s.hunts & notices & ~holds
        gives_up = s.hunts & (distance > SIGHT) & fights
        return torch.where(turns, foe, torch.where(gives_up, self._own, s.focus)), holds | turns

    def _inside(self, position: Tensor) -> Tensor:
        """The nearest points that are walkable."""
        return torch.minimum(torch.maximum(position, self._low), self._high)

    def _of(self, values: Tensor, address: Tensor) -> Tensor:
        """[..., U, N]: the values of the units at these addresses."""
        return values.flatten(-2).index_select(-1, address.flatten()).view_as(values)

    def _gaps(self, position: Tensor) -> Tensor:
        """[U, U, N] int32: squared distances between units, ordered as such, with the first unit's number in the lowest bits.

        Bits of floats that are not negative compare as the floats do; so one `amin` tells who is nearest and how near. This is
        many times faster than a `min` with indices, and takes the lower number in a tie on any device.
        """
        x, y = position
        squares = (x[:, None] - x).square_().add_((y[:, None] - y).square_())
        squares.diagonal(dim1=0, dim2=1).fill_(_AFAR**3)  # nobody is near itself
        return squares.view(torch.int32).bitwise_and_(-1 << self._index_bits).bitwise_or_(self._number)

    def _unpack(self, gaps: Tensor) -> tuple[Tensor, Tensor]:
        """[U, N] address and squared distance."""
        unit = gaps & ((1 << self._index_bits) - 1)
        return unit * self.n_copies + self._copy, gaps.view(torch.float32)

    def _shift(self, position: Tensor, step: Tensor, gaps: Tensor) -> Tensor:
        """[2, U, N]: the step, without its part into the nearest unit where the two touch, and half of their overlap away from it."""
        nearest, _ = self._unpack(gaps.amin(0))
        away = position - self._of(position, nearest)
        gap = _length(away).clamp(min=1e-3)
        away = away / gap
        overlap, into = 2 * RADIUS - gap, (step[0] * away[0] + step[1] * away[1]).clamp(max=0)
        return step + away * ((overlap / 2 - into) * (overlap >= 0))

    def _hits(self, fires: Tensor, focus: Tensor) -> Tensor:
        """[U, N] damage taken; whole numbers, so their sum does not depend on the order."""
        damage = torch.zeros(focus.numel(), device=focus.device)
        return damage.index_add_(0, focus.flatten(), (DAMAGE * fires).flatten()).view_as(focus)

    @property
    def position(self) -> Float[Tensor, "N U 2"]:
        """Meaningless for the dead."""
        return self._state.position.permute(2, 1, 0)

    @property
    def health(self) -> Float[Tensor, "N U"]:
        return self._state.health.T

    @property
    def cooldown(self) -> Float[Tensor, "N U"]:
        return self._state.cooldown.T

    @property
    def focus(self) -> Int[Tensor, "N U"]:
        """The unit each one fights; itself: nobody."""
        return self._state.focus.T // self.n_copies


def formation(size: int, centre: tuple[float, float]) -> list[tuple[float, float]]:
    """The places of a triangular lattice nearest to `centre`."""
    span = range(-size, size + 1)
    lattice = [((column + row % 2 / 2) * _SPACING, row * _SPACING * math.sqrt(3) / 2) for row in span for column in span]
    lattice.sort(key=lambda place: (round(math.hypot(*place), 6), place))
    return [(centre[0] + x, centre[1] + y) for x, y in lattice[:size]]


def _length(vector: Tensor) -> Tensor:
    """[U, N] from [2, U, N]. torch's single-precision root differs between processors in the last bit; rounded from double it does not."""
    return (vector[0].square() + vector[1].square()).double().sqrt().float()
