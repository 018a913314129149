"""One game on a marine map: fights that follow each other, and the record of them.

A fight is a function of (map, seed, its number, its orders), as in the lite engine with `fight_key`. When both squads are dead the map
puts both back; the loops of that wait belong to no fight, so that each one begins at its loop 0 with the step request after.
"""

import json
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from eoi.config.schema import nearest
from eoi.envs.starcraft.maps import MAPS
from eoi.envs.starcraft.physics import CARRY_ON, Combat, Orders
from eoi.utils.errors import UserError
from eoi.utils.seeding import fold, root_key
from eoi.utils.shapes import Int

RESPAWN = 2  # game loops that a field of dead waits
KEPT = 100  # fights in a replay, the latest
_MAGIC = b"EOI marines, replay 1\n"


def fight_key(seed: int, number: int) -> Int[Tensor, "1"]:
    return fold(root_key(seed, "starcraft"), number)[None]


class Order(NamedTuple):
    unit: int
    kind: int  # of physics' orders
    goal: tuple[float, float] = (0.0, 0.0)
    target: int = 0  # unit


class Unit(NamedTuple):
    """One of those alive."""

    number: int
    x: float
    y: float
    health: float
    cooldown: float  # loops
    focus: int  # the unit it fights; itself: nobody


class Match:
    def __init__(self, map_name: str, seed: int):
        """Raises UserError for a map that the engine does not know."""
        if map_name not in MAPS:
            raise UserError(f"there is no map {map_name!r}.{nearest(map_name, MAPS)}")
        self.map_name, self.seed, self.map = map_name, seed, MAPS[map_name]
        self.loops = 0  # of the whole game
        self._combat = Combat(self.map.scenario, 1)
        self._record: deque[tuple[int, list[list]]] = deque(maxlen=KEPT)
        self.begin(0)

    def begin(self, number: int) -> None:
        """Starts that fight."""
        self.fight, self._wait = number, RESPAWN
        self._combat.spawn(fight_key(self.seed, number))
        self._record.append((number, []))

    def order(self, orders: Iterable[Order]) -> None:
        """Of two orders to one unit the later counts."""
        told = {order.unit: order for order in orders}
        self._note("order", *told.values())
        everyone = [told.get(unit, Order(unit, CARRY_ON)) for unit in range(self._combat.n_units)]
        _, kind, goal, target = zip(*everyone, strict=True)
        self._combat.command(
            Orders(torch.tensor([kind]), torch.tensor([goal]), torch.tensor([target]))
        )

    def kill(self, units: Iterable[int]) -> None:
        units = list(units)
        self._note("kill", *units)
        fallen = torch.zeros(1, self._combat.n_units, dtype=torch.bool)
        fallen[0, units] = True
        self._combat.kill(fallen)

    def step(self, loops: int) -> None:
        self.loops += loops
        if not self._combat.health.any():
            waited = min(loops, self._wait)
            self._wait -= waited
            loops -= waited
            if self._wait == 0:
                self.begin(self.fight + 1)
        if loops:
            self._note("step", loops)
            self._combat.advance(loops)

    def units(self) -> list[Unit]:
        """The living, the agents first."""
        combat = self._combat
        columns = (
            v[0].tolist() for v in (combat.position, combat.health, combat.cooldown, combat.focus)
        )
        rows = enumerate(zip(*columns, strict=True))
        return [
            Unit(i, x, y, health, cooldown, focus)
            for i, ((x, y), health, cooldown, focus) in rows
            if health > 0
        ]

    def _note(self, verb: str, *what: object) -> None:
        self._record[-1][1].append([verb, *what])

    def replay(self) -> bytes:
        """The latest fights as a file."""
        content = {"map": self.map_name, "seed": self.seed, "fights": list(self._record)}
        return _MAGIC + zlib.compress(json.dumps(content).encode())


def replayed(data: bytes) -> Iterator[Match]:
    """Plays a replay again: the match at the beginning of each fight and after each of its steps. Raises UserError."""
    if not data.startswith(_MAGIC):
        raise UserError("this is not a replay of the API server")
    try:
        content = json.loads(zlib.decompress(data.removeprefix(_MAGIC)))
    except (zlib.error, ValueError) as error:
        raise UserError(f"the replay is damaged: {error}") from None
    match = Match(content["map"], content["seed"])
    for number, record in content["fights"]:
        match.begin(number)
        yield match
        for verb, *what in record:
            if verb == "step":
                match.step(*what)
                yield match
            elif verb == "kill":
                match.kill(what)
            else:
                match.order(Order(*order) for order in what)
