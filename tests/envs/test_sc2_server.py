"""The API server: by its messages, through pysc2's client, and, if installed, through SMAC."""

import asyncio
import contextlib
import importlib.util
import itertools
import os
import queue
import signal
import subprocess
import sys
import threading
import zlib

import numpy as np
import pytest
import torch
import websocket
from absl import flags
from google.protobuf.message import DecodeError
from marines import aggressive, at_random, in_line
from pysc2 import run_configs
from pysc2.lib import remote_controller
from s2clientprotocol import common_pb2, debug_pb2, error_pb2, raw_pb2, sc2api_pb2

from eoi import sc2_server
from eoi.envs.starcraft.lite import LiteConfig, LiteStarCraft
from eoi.envs.starcraft.maps import MAPS
from eoi.envs.starcraft.server import match as matches
from eoi.envs.starcraft.server.match import Match, fight_key, replayed
from eoi.envs.starcraft.server.network import GameServer
from eoi.envs.starcraft.server.session import MOST_LOOPS, Session
from eoi.utils.seeding import fold

STOP, MOVE, ATTACK = 4, 16, 23
PLAYERS = (at_random, aggressive, in_line)
OPTIONS = sc2api_pb2.InterfaceOptions(raw=True)
flags.FLAGS(["pysc2"])


def new_game(name="8m", seed=None, players=(sc2api_pb2.Participant, sc2api_pb2.Computer), **more):
    setup = [sc2api_pb2.PlayerSetup(type=player) for player in players]
    path = f"SMAC_Maps/{name}.SC2Map" if name else None
    return sc2api_pb2.RequestCreateGame(
        local_map=sc2api_pb2.LocalMap(map_path=path), player_setup=setup, random_seed=seed, **more
    )


def order(ability, *tags, to=None, at=None, queue=False):
    point = None if to is None else common_pb2.Point2D(x=to[0], y=to[1])
    command = raw_pb2.ActionRawUnitCommand(
        ability_id=ability,
        unit_tags=tags,
        target_world_space_pos=point,
        target_unit_tag=at,
        queue_command=queue,
    )
    return sc2api_pb2.Action(action_raw=raw_pb2.ActionRaw(unit_command=command))


class Player:
    """A client without a network, which passes its requests to a session. It plays as SMAC does."""

    def __init__(self, map_name="8m", seed=None, seeds=None, join=True):
        self.session, self.map = Session(seeds or itertools.count(100)), MAPS[map_name]
        self.ask("create_game", new_game(map_name, seed))
        if join:
            self.ask(
                "join_game", sc2api_pb2.RequestJoinGame(race=common_pb2.Terran, options=OPTIONS)
            )

    def response(self, name, request=None):
        kind = sc2api_pb2.Request.DESCRIPTOR.fields_by_name[name].message_type._concrete_class
        message = sc2api_pb2.Request(id=7, **{name: request or kind()}).SerializeToString()
        response = sc2api_pb2.Response.FromString(self.session.answer(message))
        assert response.id == 7 and response.HasField("status")
        return response

    def ask(self, name, request=None):
        response = self.response(name, request)
        assert not response.error and response.WhichOneof("response") == name
        return getattr(response, name)

    @property
    def observation(self):
        return self.ask("observation").observation

    @property
    def units(self):
        return list(self.observation.raw_data.units)

    def act(self, *actions):
        return list(self.ask("action", sc2api_pb2.RequestAction(actions=actions)).result)

    def step(self, loops):
        return self.ask("step", sc2api_pb2.RequestStep(count=loops)).simulation_loop

    def kill(self, tags):
        self.ask("debug", killing(tags))

    def reset(self):
        """SMAC's way to a new episode."""
        self.kill([unit.tag for unit in self.units])
        self.step(2)

    def orders(self, actions, tags, move=2.0):
        """SMAC's request for the agents' actions. `tags`: of all units when the fight started."""
        living = {unit.tag: unit.pos for unit in self.units}
        for tag, action in zip(tags[: self.map.n_agents], actions, strict=True):
            if action == 1:
                yield order(STOP, tag)
            elif 2 <= action <= 5:
                dx, dy = ((0, move), (0, -move), (move, 0), (-move, 0))[action - 2]
                yield order(MOVE, tag, to=(living[tag].x + dx, living[tag].y + dy))
            elif action >= 6:
                yield order(ATTACK, tag, at=tags[self.map.n_agents + action - 6])


def killing(tags):
    return sc2api_pb2.RequestDebug(
        debug=[debug_pb2.DebugCommand(kill_unit=debug_pb2.DebugKillUnit(tag=tags))]
    )


# --- one physics core


@pytest.mark.parametrize("map_name", ["3m", "8m", "5m_vs_6m"])
def test_same_trajectory_as_lite(map_name):
    player, lite = Player(map_name, seed=5), LiteStarCraft(LiteConfig(map_name=map_name), 1)
    endings = []
    for episode in range(3):
        if episode:
            player.reset()
        moment, tags = lite.reset(fight_key(5, episode)), [unit.tag for unit in player.units]
        while True:
            shown = {
                unit.tag: (unit.pos.x, unit.pos.y, unit.health, unit.weapon_cooldown)
                for unit in player.units
            }
            combat = lite.combat
            rows = torch.cat(
                [combat.position, combat.health[..., None], combat.cooldown[..., None]], 2
            )[0].tolist()
            assert shown == {
                tag: tuple(row) for tag, row in zip(tags, rows, strict=True) if row[2] > 0
            }
            if moment.done:
                break
            actions = PLAYERS[episode](lite, moment, fold(fight_key(6, episode), lite.combat.loops))
            assert set(player.act(*player.orders(actions[0].tolist(), tags))) <= {error_pb2.Success}
            player.step(8)
            moment = lite.step(actions)
        endings.append(sum(lite.combat.health[0].tolist()))
    assert len(set(endings)) == 3, "each episode is another fight"


def test_a_replay_holds_the_trajectory():
    player, rng, seen = Player("3m", seed=1), np.random.default_rng(1), []

    def look():
        seen.append([(round(u.pos.x, 4), round(u.pos.y, 4), u.health) for u in player.units])

    look()
    for _ in range(2):
        tags = [unit.tag for unit in player.units]
        for _ in range(25):
            alive = [unit.tag for unit in player.units]
            player.act(
                *player.orders(
                    [int(rng.integers(1, 6)) if tag in alive else 0 for tag in tags[:3]], tags
                )
            )
            player.step(8)
            look()
        player.reset()
        look()
    player.kill([player.units[0].tag])
    player.step(40)
    look()
    data = player.ask("save_replay").data
    again = [
        [(round(u.x, 4), round(u.y, 4), u.health) for u in match.units()]
        for match in replayed(data)
    ]
    assert again == seen and len(data) < 10_000


def test_a_replay_holds_the_latest_fights(monkeypatch):
    monkeypatch.setattr(matches, "KEPT", 2)
    match = Match("3m", 0)
    for _ in range(3):
        match.kill(range(6))
        match.step(2)
        match.step(8)
    assert [again.fight for again in replayed(match.replay())] == [2, 2, 3, 3]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"MPQ" + data,
        lambda data: data[:-9],
        lambda data: data[:40] + b"?" + data[41:],
        lambda data: data[: data.index(b"\n") + 1] + zlib.compress(b'{"map": "3m"}'),
    ],
)
def test_what_is_no_replay(damage, tmp_path, capsys):
    path = tmp_path / "x.SC2Replay"
    path.write_bytes(damage(Match("3m", 0).replay()))
    assert sc2_server.main(["replay", str(path)]) == 2
    assert "replay" in capsys.readouterr().err


def test_the_replay_command(tmp_path, capsys):
    match, path = Match("3m", 0), tmp_path / "x.SC2Replay"
    match.kill([0, 1, 2])
    match.step(8)
    match.kill([3, 4, 5])
    match.step(3)
    path.write_bytes(match.replay())
    assert sc2_server.main(["replay", str(path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "3m, fight 0: 8 loops, then 0 agents and 3 enemies",
        "3m, fight 1: 1 loops, then 3 agents and 3 enemies",
    ]


# --- the map


def test_what_smac_reads_of_the_map():
    info = Player("8m").ask("game_info").start_raw
    assert (info.map_size.x, info.map_size.y) == (32, 32)
    area = info.playable_area
    assert (area.p0.x, area.p0.y, area.p1.x, area.p1.y) == (0, 0, 32, 32)
    assert info.pathing_grid.bits_per_pixel == 1
    rows = np.unpackbits(np.frombuffer(info.pathing_grid.data, np.uint8)).reshape(32, 32)
    assert rows[8:24].all() and not rows[:8].any() and not rows[24:].any()
    assert len(set(info.terrain_height.data)) == 1 and len(info.terrain_height.data) == 32 * 32


def test_units_as_they_are_shown():
    units = Player("5m_vs_6m").units
    ours, theirs = units[:5], units[5:]
    assert [unit.owner for unit in units] == [1] * 5 + [2] * 6
    assert {unit.alliance for unit in ours} == {raw_pb2.Self} and {
        unit.alliance for unit in theirs
    } == {raw_pb2.Enemy}
    assert {
        (unit.health, unit.health_max, unit.shield_max, unit.weapon_cooldown) for unit in units
    } == {(45, 45, 0, 0)}
    assert len({unit.tag for unit in units}) == 11
    assert {unit.unit_type for unit in ours}.isdisjoint(unit.unit_type for unit in theirs)
    assert [(unit.pos.x, unit.pos.y) for unit in ours] == sorted(
        (unit.pos.x, unit.pos.y) for unit in ours
    )


def test_the_field_is_filled_again_two_loops_after_all_are_dead():
    player = Player("3m")
    first = player.units
    player.kill([unit.tag for unit in first[:3]])
    left = player.observation.raw_data
    assert [unit.tag for unit in left.units] == [unit.tag for unit in first[3:]]
    assert list(left.event.dead_units) == [unit.tag for unit in first[:3]]
    player.step(100)
    assert len(player.units) == 3, "one squad is not enough"
    player.kill([unit.tag for unit in first])
    player.step(1)
    assert player.units == []
    assert player.step(1) == 102
    again = player.units
    assert len(again) == 6 and {unit.tag for unit in again}.isdisjoint(unit.tag for unit in first)
    assert [unit.health for unit in again] == [45] * 6 and (again[0].pos.x, again[0].pos.y) != (
        first[0].pos.x,
        first[0].pos.y,
    )
    player.step(1)
    assert player.units[3].pos.x < again[3].pos.x, "the enemies come at once"


def test_seeds():
    def places(**arguments):
        return [(unit.pos.x, unit.pos.y) for unit in Player("3m", **arguments).units]

    assert places(seed=4) == places(seed=4) != places(seed=5)
    seeds = itertools.count(4)
    assert [places(seeds=seeds), places(seeds=seeds)] == [places(seed=4), places(seed=5)]
    assert (
        len(
            {
                tuple(Player("3m", seeds=GameServer()._seeds).units[0].pos.ListFields()[0])
                for _ in range(3)
            }
        )
        == 3
    )


def test_a_restart_is_another_fight():
    player = Player("3m", seed=2)
    first = player.units
    player.step(50)
    player.ask("restart_game")
    assert player.observation.game_loop == 0
    assert [unit.pos for unit in player.units] != [unit.pos for unit in first] and player.units[
        0
    ].health == 45


# --- orders


def test_orders():
    player = Player("3m")
    one, two, three, *enemies = [unit.tag for unit in player.units]
    goal = (9.0, 20.0)
    assert (
        player.act(
            order(MOVE, one, to=goal),
            order(ATTACK, two, at=enemies[0]),
            order(ATTACK, three, to=(9.0, 12.0)),
        )
        == [error_pb2.Success] * 3
    )
    player.step(8)
    shown = player.units
    assert shown[1].engaged_target_tag == enemies[0] and not shown[0].engaged_target_tag
    player.act(order(STOP, one))
    halted = player.units[0].pos
    player.step(8)
    assert player.units[0].pos == halted
    player.step(100)
    assert min(unit.health for unit in player.units if unit.owner == 2) < 45, (
        "units that attack, or attack-move, shoot"
    )


@pytest.mark.parametrize(("special", "general"), [(4, 3665), (16, 3794), (23, 3674)])
def test_general_abilities_stand_for_the_marines_own(special, general):
    def after(ability):
        player = Player("3m", seed=0)
        tags = [unit.tag for unit in player.units]
        player.act(order(MOVE, *tags[:3], to=(16, 16)))
        player.step(8)
        assert player.act(order(ability, *tags[:3], to=(3, 10))) == [error_pb2.Success]
        player.step(60)
        return [(unit.pos.x, unit.pos.y, unit.health) for unit in player.units]

    assert after(special) == after(general)


def refused_orders(own, enemy, dead):
    """Action, and the game's result code for it."""
    nowhere = float("nan"), 3.0
    yield order(MOVE, enemy, to=(3, 3)), error_pb2.YouCantControlThatUnit
    yield order(MOVE, own, enemy, to=(3, 3)), error_pb2.YouCantControlThatUnit
    yield order(MOVE, dead, to=(3, 3)), error_pb2.YouCantControlThatUnit
    yield order(MOVE, to=(3, 3)), error_pb2.YouCantControlThatUnit
    yield order(MOVE, own, to=(3, 3), queue=True), error_pb2.CantQueueThatOrder
    yield order(386, own, at=enemy), error_pb2.NotSupported
    yield order(0, own), error_pb2.NotSupported
    yield order(ATTACK, own, at=dead), error_pb2.CantTargetThatUnit
    yield order(ATTACK, own, at=own), error_pb2.CantTargetThatUnit
    yield order(ATTACK, own, at=2**64 - 1), error_pb2.CantTargetThatUnit
    yield order(MOVE, own, at=enemy), error_pb2.CantTargetThatUnit
    yield order(MOVE, own), error_pb2.MustTargetVisibleLocation
    yield order(MOVE, own, to=nowhere), error_pb2.MustTargetVisibleLocation
    yield order(ATTACK, own, to=(float("inf"), 0)), error_pb2.MustTargetVisibleLocation
    yield (
        sc2api_pb2.Action(action_chat=sc2api_pb2.ActionChat(message="glhf")),
        error_pb2.NotSupported,
    )
    yield sc2api_pb2.Action(), error_pb2.Success


def test_orders_that_cannot_be_followed_change_nothing():
    def moved(disturb):
        player = Player("3m", seed=0)
        own, dead, enemy = (player.units[i].tag for i in (0, 1, 3))
        player.kill([dead, 12345])
        player.act(order(MOVE, own, to=(12, 18)))
        if disturb:
            actions, expected = zip(*refused_orders(own, enemy, dead), strict=True)
            assert player.act(*actions) == list(expected)
        player.step(8)
        return [unit.pos for unit in player.units]

    assert moved(True) == moved(False)


def test_a_point_outside_is_the_nearest_inside():
    player = Player("3m")
    player.act(order(MOVE, player.units[0].tag, to=(-1e30, 1e30)))
    player.step(200)
    assert (player.units[0].pos.x, player.units[0].pos.y) == (0.375, 23.625)


# --- the protocol


PLAYING = [
    "game_info",
    "data",
    "observation",
    "action",
    "step",
    "debug",
    "save_replay",
    "restart_game",
    "leave_game",
]
TIMES = {name: ["in_game"] for name in PLAYING} | {  # request: the statuses in which it is answered
    "create_game": ["launched", "in_game"],
    "join_game": ["init_game"],
    "ping": ["launched", "init_game", "in_game"],
    "available_maps": ["launched", "init_game", "in_game"],
}


@pytest.mark.parametrize(("name", "valid"), TIMES.items())
@pytest.mark.parametrize("status", ["launched", "init_game", "in_game"])
def test_each_request_has_its_time(name, valid, status):
    player = Player("3m", join=status == "in_game")
    if status == "launched":
        player.session = Session(itertools.count())
    requests = {
        "step": sc2api_pb2.RequestStep(count=1),
        "create_game": new_game("3m"),
        "join_game": sc2api_pb2.RequestJoinGame(race=common_pb2.Terran, options=OPTIONS),
    }
    response = player.response(name, requests.get(name))
    if status in valid:
        assert not response.error
    else:
        assert response.error == [
            f"{name}: not allowed in status {status}, only in {' or '.join(valid)}"
        ]
        assert (
            response.status == sc2api_pb2.Status.Value(status)
            and response.WhichOneof("response") is None
        )


@pytest.mark.parametrize(
    "name",
    [
        "query",
        "start_replay",
        "map_command",
        "quick_save",
        "quick_load",
        "obs_action",
        "save_map",
        "replay_info",
    ],
)
def test_what_the_server_cannot_do_is_said(name):
    player = Player("3m")
    response = player.response(name)
    assert (
        response.error == [f"{name}: not supported by this server"]
        and response.status == sc2api_pb2.in_game
    )
    assert len(player.units) == 6


@pytest.mark.parametrize("count", [0, MOST_LOOPS + 1, 2**32 - 1])
def test_a_step_too_long_or_none(count):
    response = Player("3m").response("step", sc2api_pb2.RequestStep(count=count))
    assert response.error == [f"step: count must be 1 to {MOST_LOOPS}, got {count}"]


def test_debug_knows_kill_unit_only():
    player = Player("3m")
    commands = [
        *killing([player.units[0].tag]).debug,
        debug_pb2.DebugCommand(game_state=debug_pb2.god),
    ]
    assert player.response("debug", sc2api_pb2.RequestDebug(debug=commands)).error == [
        "debug: only kill_unit is supported"
    ]
    assert len(player.units) == 6


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        (new_game("8m_vs_8m"), "InvalidMapName", "'8m_vs_9m'"),
        (new_game("MMM"), "InvalidMapName", "no map 'MMM'"),
        (new_game(None), "MissingMap", ""),
        (new_game(players=[1]), "InvalidPlayerSetup", "one participant"),
        (new_game(players=[1, 1]), "MultiplayerUnsupported", ""),
        (new_game(players=[]), "InvalidPlayerSetup", "one participant"),
    ],
)
def test_games_that_cannot_be(request_, error, words):
    session = Player("3m", join=False)
    session.session = Session(itertools.count())
    response = session.response("create_game", request_)
    assert response.create_game.error == sc2api_pb2.ResponseCreateGame.Error.Value(error)
    assert words in response.create_game.error_details and response.status == sc2api_pb2.launched


def test_no_realtime():
    assert "realtime" in Player("3m").response("create_game", new_game(realtime=True)).error[0]


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"options": OPTIONS}, "MissingParticipation"),
        ({"race": 1}, "FeatureUnsupported"),
        (
            {
                "race": 1,
                "options": sc2api_pb2.InterfaceOptions(raw=True, feature_layer={"width": 24}),
            },
            "FeatureUnsupported",
        ),
        ({"observed_player_id": 1, "options": OPTIONS}, "MissingParticipation"),
    ],
)
def test_who_cannot_join(asked, error):
    response = Player("3m", join=False).response("join_game", sc2api_pb2.RequestJoinGame(**asked))
    assert (
        response.join_game.error == sc2api_pb2.ResponseJoinGame.Error.Value(error)
        and response.status == sc2api_pb2.init_game
    )


def test_empty_and_unreadable():
    session = Session(itertools.count())
    response = sc2api_pb2.Response.FromString(session.answer(b""))
    assert (
        response.error == ["the request is empty"]
        and not response.HasField("id")
        and response.status == sc2api_pb2.launched
    )
    with pytest.raises(DecodeError):
        session.answer(b"\xff\xff")


def test_data():
    data = Player("3m").ask("data", sc2api_pb2.RequestData(unit_type_id=True, ability_id=True))
    assert {unit.name for unit in data.units} == {"Marine", "MarineRL"}
    assert {
        (unit.weapons[0].damage, unit.weapons[0].range, unit.sight_range, unit.movement_speed)
        for unit in data.units
    } == {(6, 5, 9, 2.25)}
    assert {ability.ability_id for ability in data.abilities} == {4, 16, 23, 3665, 3794, 3674}
    assert not Player("3m").ask("data", sc2api_pb2.RequestData(upgrade_id=True)).units


# --- the network


@contextlib.contextmanager
def served(seed=0):
    """A server in a thread: its port, and the event that tells that it ended."""
    server, started = GameServer(seed), queue.Queue()

    async def live():
        async with server.listening("127.0.0.1", 0) as port:
            started.put((port, asyncio.get_running_loop()))
            await server.ended.wait()

    thread = threading.Thread(target=asyncio.run, args=[live()], daemon=True)
    thread.start()
    port, loop = started.get(timeout=30)
    try:
        yield port, server.ended
    finally:
        if thread.is_alive():
            loop.call_soon_threadsafe(server.ended.set)
        thread.join(30)
        assert not thread.is_alive()


def controller(port, name="3m", seed=None):
    """pysc2's own client, in a game."""
    client = remote_controller.RemoteController("127.0.0.1", port, timeout_seconds=30)
    client.create_game(new_game(name, seed))
    client.join_game(sc2api_pb2.RequestJoinGame(race=common_pb2.Terran, options=OPTIONS))
    return client


def tags_of(client):
    return [unit.tag for unit in client.observe().observation.raw_data.units]


@contextlib.contextmanager
def socket_to(port, path="/sc2api"):
    client = websocket.create_connection(f"ws://127.0.0.1:{port}{path}", timeout=30)
    try:
        yield client
    finally:
        client.shutdown()


def test_clients_have_their_own_games():
    with served(seed=8) as (port, ended):
        one, two = controller(port), controller(port, "8m")
        one.step(10)
        two.debug(killing(tags_of(two)[:3]).debug)
        assert (len(tags_of(one)), len(tags_of(two))) == (6, 13)
        assert (one.observe().observation.game_loop, two.observe().observation.game_loop) == (10, 0)
        one.quit()
        assert len(tags_of(two)) == 13 and not ended.is_set(), "the others play on"
        with contextlib.closing(controller(port, "8m", seed=9)) as three:
            assert len(tags_of(three)) == 16
        two.quit()


def test_unreadable_bytes_close_that_connection_only():
    with (
        served() as (port, _),
        contextlib.closing(controller(port)) as good,
        socket_to(port) as bad,
        socket_to(port) as rude,
    ):
        bad.send_binary(b"\xff\xff\xff")
        assert bad.recv_data()[0] == websocket.ABNF.OPCODE_CLOSE
        rude.sock.sendall(b"\x00this is no frame" * 10)
        assert rude.recv_data()[0] == websocket.ABNF.OPCODE_CLOSE
        with socket_to(port):
            pass  # gone without a word
        assert len(tags_of(good)) == 6


def test_only_the_api_is_there():
    with (
        served() as (port, _),
        pytest.raises(websocket.WebSocketBadStatusException) as error,
        socket_to(port, "/"),
    ):
        pass
    assert error.value.status_code == 404


def test_a_port_that_is_taken(capfd):
    with served() as (port, _):
        assert sc2_server.main(["serve", "--port", str(port)]) == 2
    assert capfd.readouterr().err == (
        "error: cannot listen: error while attempting to bind on address "
        f"('127.0.0.1', {port}): address already in use\n"
    )


# --- in the game's place


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("games") / "Star Craft II"
    assert sc2_server.main(["install", str(folder)]) == 0
    return folder


def launched(home, monkeypatch):
    monkeypatch.setenv("SC2PATH", str(home))
    config = run_configs.get()
    return config, config.start(want_rgb=False)


def test_pysc2_launches_it_plays_and_leaves_nothing(home, monkeypatch):
    config, process = launched(home, monkeypatch)
    with process as client:
        assert client.ping().base_build == 75689
        create = new_game("3m", seed=1)
        create.local_map.map_data = config.map_data(create.local_map.map_path)
        client.create_game(create)
        client.join_game(sc2api_pb2.RequestJoinGame(race=common_pb2.Terran, options=OPTIONS))
        assert client.data().units[48] == "Marine"
        tags = tags_of(client)
        for _ in range(2):
            while len(units := client.observe().observation.raw_data.units) and {
                unit.owner for unit in units
            } == {1, 2}:
                attack = order(
                    ATTACK,
                    *(u.tag for u in units if u.owner == 1),
                    at=next(u.tag for u in units if u.owner == 2),
                )
                client.actions(sc2api_pb2.RequestAction(actions=[attack]))
                client.step(8)
            assert units, "some units are left"
            client.debug(killing([unit.tag for unit in units]).debug)
            client.step(2)
            assert len(tags_of(client)) == 6 and tags_of(client) != tags
        saved = config.save_replay(client.save_replay(), replay_dir="", prefix="3m")
        popen = process._proc
    assert popen.returncode == 0
    assert sc2_server.main(["replay", saved]) == 0


def test_it_can_be_killed_and_started_again(home, monkeypatch):
    _, process = launched(home, monkeypatch)
    process._proc.send_signal(signal.SIGKILL)
    process._proc.wait(30)
    process.close()
    _, process = launched(home, monkeypatch)
    popen = process._proc
    popen.terminate()
    assert popen.wait(30) == 0
    process.close()


def test_it_ends_with_the_program_that_started_it(home):
    """The server inherits the pipe, which ends with its last holder."""
    launcher = home / "Versions" / "Base75689" / "SC2_x64"
    command = [str(launcher), "-listen", "127.0.0.1", "-port", "0"]
    program = f"import subprocess; subprocess.Popen({command!r}); input()"
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert (
        parent.stdout is not None
        and b"not StarCraft II, listens at ws://127.0.0.1:" in parent.stdout.readline()
    )
    parent.kill()
    assert parent.communicate(timeout=60)[0] == b""


def test_installing(tmp_path, capsys):
    folder = tmp_path / "sc2"
    (folder / "Maps" / "SMAC_Maps").mkdir(parents=True)
    (folder / "Maps" / "SMAC_Maps" / "8m.SC2Map").write_bytes(b"MPQ\x1b")
    for _ in range(2):
        assert sc2_server.main(["install", str(folder)]) == 0
        assert capsys.readouterr().out.startswith(f"export SC2PATH={folder}")
    assert (folder / "Maps" / "SMAC_Maps" / "8m.SC2Map").read_bytes() == b"MPQ\x1b", (
        "a real map stays"
    )
    assert os.access(folder / "Versions" / "Base75689" / "SC2_x64", os.X_OK)
    assert {path.stem for path in (folder / "Maps" / "SMAC_Maps").iterdir()} == set(MAPS)


@pytest.mark.parametrize(
    "part", [".build.info", "SC2Data", "Versions/Base75689/SC2_x64", "Versions/Base80188/SC2_x64"]
)
def test_a_real_game_is_left_alone(part, tmp_path, capsys):
    (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / part).write_bytes(b"\x7fELF")
    assert sc2_server.main(["install", str(tmp_path)]) == 2
    assert f"contains StarCraft II ({part})" in capsys.readouterr().err
    assert (tmp_path / part).read_bytes() == b"\x7fELF" and not (tmp_path / "Maps").exists()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "required"),
        (["serve"], "--port"),
        (["serve", "--port", "0"], "1 to 65535"),
        (["serve", "--port", "5000", "--speed", "3"], "--speed"),
        (["game", "-listen", "127.0.0.1"], "-port: expected a number"),
    ],
)
def test_bad_calls(argv, words, capsys):
    assert sc2_server.main(argv) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_what_is_not_installed_is_said(monkeypatch, capsys):
    monkeypatch.setattr(sc2_server, "_NEEDED", ("s2clientprotocol", "no_such_package"))
    assert sc2_server.main(["install", "x"]) == 2
    assert (
        capsys.readouterr().err == "error: no_such_package is not installed: "
        "bash run.sh pip install -r requirements-sc2.txt\n"
    )


# --- SMAC itself


def has_smac():
    with contextlib.suppress(ModuleNotFoundError):
        return importlib.util.find_spec("smac.env.starcraft2") is not None
    return False


@pytest.mark.skipif(not has_smac(), reason="oxwhirl's SMAC is not installed (it is not on PyPI)")
@pytest.mark.parametrize(
    ("map_name", "episodes", "keys"),
    [
        ("8m", 30, {}),
        ("5m_vs_6m", 5, {"obs_last_action": True, "state_timestep_number": True}),
        (
            "3m",
            5,
            {
                "reward_only_positive": False,
                "obs_instead_of_state": True,
                "step_mul": 5,
                "move_amount": 0.3,
            },
        ),
        (
            "3m",
            5,
            {
                "reward_sparse": True,
                "obs_all_health": False,
                "obs_own_health": False,
                "state_last_action": False,
            },
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_lite_is_what_smac_makes_of_the_server(home, monkeypatch, map_name, episodes, keys):
    monkeypatch.setenv("SC2PATH", str(home))
    from smac.env import StarCraft2Env

    smac, lite = (
        StarCraft2Env(map_name=map_name, seed=3, **keys),
        LiteStarCraft(LiteConfig(map_name=map_name, **keys), 1),
    )
    with contextlib.closing(smac):
        for episode in range(episodes):
            smac.reset()
            moment = lite.reset(fight_key(3, episode))
            while True:
                np.testing.assert_array_equal(np.array(smac.get_obs()), moment.obs[0])
                np.testing.assert_array_equal(smac.get_state(), moment.state[0])
                np.testing.assert_array_equal(np.array(smac.get_avail_actions()), moment.avail[0])
                if moment.done:
                    break
                actions = PLAYERS[episode % 3](
                    lite, moment, fold(fight_key(4, episode), smac._episode_steps)
                )
                reward, terminated, info = smac.step(actions[0].tolist())
                moment = lite.step(actions)
                assert reward == pytest.approx(float(moment.reward), abs=1e-6)
                assert terminated == bool(moment.done)
                assert {name: float(info[name]) for name in info} == {
                    name: float(moment.info[name]) for name in info
                }
        assert smac.force_restarts == 0 and (keys or smac.battles_won > 0)
