"""A match as messages of StarCraft's API (s2clientprotocol).

Facts about marines come from `physics`; units of time and length are the game's.
"""

import numpy as np
from s2clientprotocol import common_pb2, data_pb2, raw_pb2, sc2api_pb2

from eoi.envs.starcraft import physics
from eoi.envs.starcraft.maps import AGENTS_START, ENEMIES_START, GROUND, SIZE
from eoi.envs.starcraft.server.match import Match, Unit

# The version of the game that the server replaces
VERSION, BUILD, DATA_VERSION = "4.10.0", 75689, "B89B5D6FA7CBF6452E721311BFBC6CB2"
AGENTS, ENEMIES = 1, 2  # players
# Unit types. On SMAC's maps, the agents' marines shoot only on orders. The number of this type is
# arbitrary.
MARINE, OBEDIENT_MARINE = 48, 2000
_NAMES = {MARINE: "Marine", OBEDIENT_MARINE: "MarineRL"}
# Abilities: the marine's own, and the general ability that it is an instance of
STOPS, MOVES, ATTACKS = (4, 3665), (16, 3794), (23, 3674)
_HEIGHT = 127  # of the terrain: the maps are flat


def tag(match: Match, unit: int) -> int:
    """Tag of a unit, unique in the game: a unit gets a new one in each fight."""
    return (match.fight + 1 << 32) + unit + 1


def living(match: Match) -> dict[int, int]:
    """Numbers of the living units by their tags."""
    return {tag(match, unit.number): unit.number for unit in match.units()}


def game_info(match: Match, options: sc2api_pb2.InterfaceOptions) -> sc2api_pb2.ResponseGameInfo:
    cells = np.mgrid[:SIZE, :SIZE][::-1]  # x and y of each cell, row by row from below
    (west, south), (east, north) = GROUND
    walkable = (cells[0] >= west) & (cells[0] < east) & (cells[1] >= south) & (cells[1] < north)
    bits, heights = np.packbits(walkable).tobytes(), bytes([_HEIGHT]) * SIZE**2
    size = common_pb2.Size2DI(x=SIZE, y=SIZE)
    corners = common_pb2.PointI(x=0, y=0), common_pb2.PointI(x=SIZE, y=SIZE)
    players = ((AGENTS, sc2api_pb2.Participant), (ENEMIES, sc2api_pb2.Computer))
    race = common_pb2.Terran
    return sc2api_pb2.ResponseGameInfo(
        map_name=match.map_name,
        local_map_path=map_path(match.map_name),
        player_info=[
            sc2api_pb2.PlayerInfo(
                player_id=player, type=kind, race_requested=race, race_actual=race
            )
            for player, kind in players
        ],
        start_raw=raw_pb2.StartRaw(
            map_size=size,
            pathing_grid=common_pb2.ImageData(bits_per_pixel=1, size=size, data=bits),
            terrain_height=common_pb2.ImageData(bits_per_pixel=8, size=size, data=heights),
            placement_grid=common_pb2.ImageData(bits_per_pixel=1, size=size, data=bytes(len(bits))),
            playable_area=common_pb2.RectangleI(p0=corners[0], p1=corners[1]),
            start_locations=[common_pb2.Point2D(x=ENEMIES_START[0], y=ENEMIES_START[1])],
        ),
        options=options,
    )


def map_path(map_name: str) -> str:
    """Path of one of SMAC's maps, within the game's Maps folder."""
    return f"SMAC_Maps/{map_name}.SC2Map"


def observation(match: Match) -> sc2api_pb2.ResponseObservation:
    response, units = sc2api_pb2.ResponseObservation(), match.units()
    seen, n_agents = response.observation, match.map.n_agents
    seen.game_loop = match.loops
    seen.player_common.player_id = AGENTS
    seen.player_common.army_count = seen.player_common.food_used = seen.player_common.food_army = (
        sum(u.number < n_agents for u in units)
    )
    seen.raw_data.player.camera.x, seen.raw_data.player.camera.y = AGENTS_START
    for unit in units:
        _show(seen.raw_data.units.add(), match, unit)
    return response


def _show(shown: raw_pb2.Unit, match: Match, unit: Unit) -> None:
    ours = unit.number < match.map.n_agents
    shown.display_type = raw_pb2.Visible
    shown.alliance = raw_pb2.Self if ours else raw_pb2.Enemy
    shown.tag = tag(match, unit.number)
    shown.unit_type = OBEDIENT_MARINE if ours else MARINE
    shown.owner = AGENTS if ours else ENEMIES
    shown.pos.x, shown.pos.y = unit.x, unit.y
    shown.radius = physics.RADIUS
    shown.build_progress = 1
    shown.health, shown.health_max = unit.health, physics.HEALTH
    shown.weapon_cooldown = unit.cooldown
    if unit.focus != unit.number:
        shown.engaged_target_tag = tag(match, unit.focus)


def data(asked: sc2api_pb2.RequestData) -> sc2api_pb2.ResponseData:
    """Data of the marines and of their abilities."""
    response = sc2api_pb2.ResponseData()
    if asked.ability_id:
        for names, numbers, target in (
            ("stop", STOPS, data_pb2.AbilityData.Target.Value("None")),
            ("move", MOVES, data_pb2.AbilityData.Point),
            ("attack", ATTACKS, data_pb2.AbilityData.PointOrUnit),
        ):
            special, general = numbers
            response.abilities.add(
                ability_id=special,
                link_name=names,
                friendly_name=names.title(),
                remaps_to_ability_id=general,
                available=True,
                target=target,
            )
            response.abilities.add(
                ability_id=general,
                link_name=names,
                friendly_name=names.title(),
                available=True,
                target=target,
            )
    if asked.unit_type_id:
        weapon = data_pb2.Weapon(
            type=data_pb2.Weapon.Any,
            damage=physics.DAMAGE,
            attacks=1,
            range=physics.RANGE,
            speed=physics.PERIOD / physics.LOOPS_PER_SECOND,
        )
        for number, name in _NAMES.items():
            response.units.add(
                unit_id=number,
                name=name,
                available=True,
                race=common_pb2.Terran,
                food_required=1,
                attributes=[data_pb2.Light, data_pb2.Biological],
                sight_range=physics.SIGHT,
                movement_speed=physics.SPEED * physics.LOOPS_PER_SECOND,
                weapons=[weapon],
            )
    return response
