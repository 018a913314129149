"""Actions of StarCraft's API as orders of the engine."""

import math
from collections.abc import Iterable, Mapping

from s2clientprotocol import error_pb2
from s2clientprotocol.error_pb2 import ActionResult
from s2clientprotocol.raw_pb2 import ActionRawUnitCommand
from s2clientprotocol.sc2api_pb2 import Action

from eoi.envs.starcraft.physics import ATTACK, ATTACK_MOVE, MOVE, STOP
from eoi.envs.starcraft.server.match import Match, Order
from eoi.envs.starcraft.server.messages import ATTACKS, MOVES, STOPS, living


class _Refused(Exception):
    def __init__(self, result: ActionResult.ValueType):
        self.result = result


def read(
    actions: Iterable[Action], match: Match
) -> tuple[list[Order], list[ActionResult.ValueType]]:
    """Orders, and the game's result code of each action. An impossible action gives no orders."""
    units, orders, results = living(match), [], []
    for action in actions:
        try:
            orders += _orders(action, units, match.map.n_agents)
            results.append(error_pb2.Success)
        except _Refused as refused:
            results.append(refused.result)
    return orders, results


def _orders(action: Action, units: Mapping[int, int], n_agents: int) -> list[Order]:
    if not action.action_raw.HasField("unit_command"):
        if action.ListFields():  # actions on pictures and on the camera
            raise _Refused(error_pb2.NotSupported)
        return []
    command = action.action_raw.unit_command
    chosen = [units[tag] for tag in command.unit_tags if tag in units]  # without dead units
    if not chosen or max(chosen) >= n_agents:
        raise _Refused(error_pb2.YouCantControlThatUnit)
    if command.queue_command:
        raise _Refused(error_pb2.CantQueueThatOrder)
    kind, goal, target = _meaning(command, units)
    if kind == ATTACK and target in chosen:
        raise _Refused(error_pb2.CantTargetThatUnit)
    return [Order(unit, kind, goal, target) for unit in chosen]


def _meaning(
    command: ActionRawUnitCommand, units: Mapping[int, int]
) -> tuple[int, tuple[float, float], int]:
    """Kind, goal and target of the order."""
    ability, aim = command.ability_id, command.WhichOneof("target")
    goal = command.target_world_space_pos.x, command.target_world_space_pos.y
    if ability in STOPS:
        return STOP, goal, 0
    if ability not in MOVES + ATTACKS:
        raise _Refused(error_pb2.NotSupported)
    if aim == "target_world_space_pos" and all(map(math.isfinite, goal)):
        return (MOVE if ability in MOVES else ATTACK_MOVE), goal, 0
    if ability in ATTACKS and command.target_unit_tag in units:
        return ATTACK, goal, units[command.target_unit_tag]
    raise _Refused(
        error_pb2.CantTargetThatUnit
        if aim == "target_unit_tag"
        else error_pb2.MustTargetVisibleLocation
    )
