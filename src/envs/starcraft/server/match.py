"""One game on a marine map: a sequence of fights, and the record of them.

A fight is a function of (map, seed, its number, its orders), as in the lite engine with
`fight_key`. When both squads are dead, the map respawns them after a wait. The loops of the wait
belong to no fight, so each fight begins at its loop 0 with the next step request.
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

RESPAWN = 2  # game loops between the death of all units and the next fight
KEPT = 100  # number of latest fights in a replay
_MAGIC = b"EOI marines, replay 1\n"


def fight_key(seed: int, number: int) -> Int[Tensor, "1"]:
    return fold(root_key(seed, "starcraft"), number)[None]


class Order(NamedTuple):
    unit: int
    kind: int  # of physics' orders
    goal: tuple[float, float] = (0.0, 0.0)
    target: int = 0  # unit


class Unit(NamedTuple):
    """A living unit."""

    number: int
    x: float
    y: float
    health: float
    cooldown: float  # loops
    focus: int  # number of its target; its own number: no target


class Match:
    def __init__(self, map_name: str, seed: int):
        """Raises UserError for an unknown map."""
        if map_name not in MAPS:
            raise UserError(f"there is no map {map_name!r}.{nearest(map_name, MAPS)}")
        self.map_name, self.seed, self.map = map_name, seed, MAPS[map_name]
        self.loops = 0  # of the whole game
        self._combat = Combat(self.map.scenario, 1)
        self._record: deque[tuple[int, list[list]]] = deque(maxlen=KEPT)
        self.begin(0)

    def begin(self, number: int) -> None:
        """Start the fight of that number."""
        self.fight, self._wait = number, RESPAWN
        self._combat.spawn(fight_key(self.seed, number))
        self._record.append((number, []))

    def order(self, orders: Iterable[Order]) -> None:
        """Give orders to units. Of several orders to one unit the last counts."""
        given = {order.unit: order for order in orders}
        self._note("order", *given.values())
        units = range(self._combat.n_units)
        complete = [given.get(unit, Order(unit, CARRY_ON)) for unit in units]
        _, kind, goal, target = zip(*complete, strict=True)
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
        """The living units, agents first."""
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

    def _note(self, verb: str, *arguments: object) -> None:
        self._record[-1][1].append([verb, *arguments])

    def replay(self) -> bytes:
        """Content of a file with the latest fights."""
        content = {"map": self.map_name, "seed": self.seed, "fights": list(self._record)}
        return _MAGIC + zlib.compress(json.dumps(content).encode())


def replayed(data: bytes) -> Iterator[Match]:
    """Play a replay again. Yields the match at the beginning of each fight and after each step.

    Raises UserError if the data are not a replay.
    """
    if not data.startswith(_MAGIC):
        raise UserError("this is not a replay of the API server")
    try:
        content = json.loads(zlib.decompress(data.removeprefix(_MAGIC)))
    except (zlib.error, ValueError) as error:
        raise UserError(f"the replay is damaged: {error}") from None
    if not isinstance(content, dict) or {"map", "seed", "fights"} - content.keys():
        raise UserError("the replay is damaged: no map, seed and fights in it")
    match = Match(content["map"], content["seed"])
    for number, record in content["fights"]:
        match.begin(number)
        yield match
        for verb, *arguments in record:
            if verb == "step":
                match.step(*arguments)
                yield match
            elif verb == "kill":
                match.kill(arguments)
            else:
                match.order(Order(*order) for order in arguments)
