"""The protocol of StarCraft's API for one client: its requests, responses and statuses.

A request that fails changes neither the match nor the status. If the protocol has a code for the
problem, such as a missing map, the response has the code. Otherwise it has a line in `error`.
"""

import pathlib
from collections.abc import Callable, Iterator

import torch
from s2clientprotocol import sc2api_pb2
from s2clientprotocol.sc2api_pb2 import (
    Request,
    Response,
    ResponseCreateGame,
    ResponseJoinGame,
    Status,
)

from eoi.envs.starcraft.maps import MAPS
from eoi.envs.starcraft.server import messages
from eoi.envs.starcraft.server.match import Match
from eoi.envs.starcraft.server.orders import read
from eoi.utils.errors import UserError

LAUNCHED, INIT_GAME = sc2api_pb2.launched, sc2api_pb2.init_game
IN_GAME, QUIT = sc2api_pb2.in_game, sc2api_pb2.quit
MOST_LOOPS = 10_000  # in one step, because all other clients wait for it


class Refusal(Exception):
    """A request that fails, with the line for the `error` of its response."""


class Session:
    def __init__(self, seeds: Iterator[int]):
        """`seeds`: for games whose client chooses none."""
        self.status: Status.ValueType = LAUNCHED
        self._seeds = seeds
        self._match: Match  # from create_game on
        self._options = sc2api_pb2.InterfaceOptions()
        self._seen: set[int] = set()  # tags of the units in the latest observation

    @torch.inference_mode()
    def answer(self, message: bytes) -> bytes:
        """The response to a request. Raises google.protobuf's DecodeError if it is no Request."""
        request, response = Request.FromString(message), Response()
        if request.HasField("id"):
            response.id = request.id
        try:
            self._serve(request, response)
        except Refusal as refusal:
            response.error.append(str(refusal))
        response.status = self.status
        return response.SerializeToString()

    def _serve(self, request: Request, response: Response) -> None:
        name = request.WhichOneof("request")
        if name is None:
            raise Refusal("the request is empty")
        if name not in _REQUESTS:
            raise Refusal(f"{name}: not supported by this server")
        valid, serve = _REQUESTS[name]
        if valid and self.status not in valid:
            words = [Status.Name(status) for status in (self.status, *valid)]
            raise Refusal(
                f"{name}: not allowed in status {words[0]}, only in {' or '.join(words[1:])}"
            )
        getattr(response, name).CopyFrom(serve(self, getattr(request, name)))

    def _ping(self, _: sc2api_pb2.RequestPing) -> sc2api_pb2.ResponsePing:
        build = messages.BUILD
        return sc2api_pb2.ResponsePing(
            game_version=messages.VERSION,
            data_version=messages.DATA_VERSION,
            data_build=build,
            base_build=build,
        )

    def _available_maps(
        self, _: sc2api_pb2.RequestAvailableMaps
    ) -> sc2api_pb2.ResponseAvailableMaps:
        return sc2api_pb2.ResponseAvailableMaps(local_map_paths=map(messages.map_path, MAPS))

    def _create_game(self, asked: sc2api_pb2.RequestCreateGame) -> ResponseCreateGame:
        if asked.realtime:
            raise Refusal("create_game: realtime is not supported; time advances by steps")
        if not (asked.local_map.map_path or asked.battlenet_map_name):
            return ResponseCreateGame(error=ResponseCreateGame.MissingMap)
        players = sorted(player.type for player in asked.player_setup)
        if players.count(sc2api_pb2.Participant) > 1:
            return ResponseCreateGame(error=ResponseCreateGame.MultiplayerUnsupported)
        if players != [sc2api_pb2.Participant, sc2api_pb2.Computer]:
            return ResponseCreateGame(
                error=ResponseCreateGame.InvalidPlayerSetup,
                error_details="expected one participant against one computer",
            )
        # A Windows path accepts either separator.
        path = pathlib.PureWindowsPath(asked.local_map.map_path or asked.battlenet_map_name)
        seed = asked.random_seed if asked.HasField("random_seed") else next(self._seeds)
        try:
            self._match = Match(path.stem, seed)
        except UserError as error:
            return ResponseCreateGame(
                error=ResponseCreateGame.InvalidMapName, error_details=str(error)
            )
        self.status = INIT_GAME
        return ResponseCreateGame()

    def _join_game(self, asked: sc2api_pb2.RequestJoinGame) -> ResponseJoinGame:
        if not asked.HasField("race"):
            return ResponseJoinGame(
                error=ResponseJoinGame.MissingParticipation,
                error_details="a race is required; observers are not supported",
            )
        if (
            not asked.options.raw
            or asked.options.HasField("feature_layer")
            or asked.options.HasField("render")
        ):
            return ResponseJoinGame(
                error=ResponseJoinGame.FeatureUnsupported,
                error_details="only raw observations are supported, no pictures",
            )
        self._options, self._seen, self.status = asked.options, set(), IN_GAME
        return ResponseJoinGame(player_id=messages.AGENTS)

    def _restart_game(self, _: sc2api_pb2.RequestRestartGame) -> sc2api_pb2.ResponseRestartGame:
        self._match.loops = 0
        self._match.begin(self._match.fight + 1)
        return sc2api_pb2.ResponseRestartGame()

    def _leave_game(self, _: sc2api_pb2.RequestLeaveGame) -> sc2api_pb2.ResponseLeaveGame:
        self.status = LAUNCHED
        return sc2api_pb2.ResponseLeaveGame()

    def _quit(self, _: sc2api_pb2.RequestQuit) -> sc2api_pb2.ResponseQuit:
        self.status = QUIT
        return sc2api_pb2.ResponseQuit()

    def _game_info(self, _: sc2api_pb2.RequestGameInfo) -> sc2api_pb2.ResponseGameInfo:
        return messages.game_info(self._match, self._options)

    def _data(self, asked: sc2api_pb2.RequestData) -> sc2api_pb2.ResponseData:
        return messages.data(asked)

    def _observation(self, _: sc2api_pb2.RequestObservation) -> sc2api_pb2.ResponseObservation:
        response = messages.observation(self._match)
        seen = {unit.tag for unit in response.observation.raw_data.units}
        response.observation.raw_data.event.dead_units.extend(sorted(self._seen - seen))
        self._seen = seen
        return response

    def _step(self, asked: sc2api_pb2.RequestStep) -> sc2api_pb2.ResponseStep:
        if not 1 <= asked.count <= MOST_LOOPS:
            raise Refusal(f"step: count must be 1 to {MOST_LOOPS}, got {asked.count}")
        self._match.step(asked.count)
        return sc2api_pb2.ResponseStep(simulation_loop=self._match.loops)

    def _debug(self, asked: sc2api_pb2.RequestDebug) -> sc2api_pb2.ResponseDebug:
        if any(command.WhichOneof("command") != "kill_unit" for command in asked.debug):
            raise Refusal("debug: only kill_unit is supported")
        living = messages.living(self._match)
        self._match.kill(
            living[tag] for command in asked.debug for tag in command.kill_unit.tag if tag in living
        )
        return sc2api_pb2.ResponseDebug()

    def _save_replay(self, _: sc2api_pb2.RequestSaveReplay) -> sc2api_pb2.ResponseSaveReplay:
        return sc2api_pb2.ResponseSaveReplay(data=self._match.replay())

    def _action(self, asked: sc2api_pb2.RequestAction) -> sc2api_pb2.ResponseAction:
        orders, results = read(asked.actions, self._match)
        if orders:
            self._match.order(orders)
        return sc2api_pb2.ResponseAction(result=results)


_PLAYING = (IN_GAME,)
# Statuses in which each request is valid (): all, and the method that answers it
_REQUESTS: dict[str, tuple[tuple[Status.ValueType, ...], Callable]] = {
    "ping": ((), Session._ping),
    "available_maps": ((), Session._available_maps),
    "quit": ((), Session._quit),
    "create_game": ((LAUNCHED, IN_GAME), Session._create_game),
    "join_game": ((INIT_GAME,), Session._join_game),
    "restart_game": (_PLAYING, Session._restart_game),
    "leave_game": (_PLAYING, Session._leave_game),
    "game_info": (_PLAYING, Session._game_info),
    "data": (_PLAYING, Session._data),
    "observation": (_PLAYING, Session._observation),
    "action": (_PLAYING, Session._action),
    "step": (_PLAYING, Session._step),
    "debug": (_PLAYING, Session._debug),
    "save_replay": (_PLAYING, Session._save_replay),
}
