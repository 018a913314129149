"""Sessions over websockets, one for each connection, all in one thread."""

import asyncio
import contextlib
import http
import itertools
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator

from google.protobuf.message import DecodeError
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from eoi.envs.starcraft.server.session import QUIT, Session
from eoi.utils.errors import UserError

PATH = "/sc2api"
_ENDS = (signal.SIGTERM, signal.SIGINT)
_PATIENCE = 0.5  # seconds for a client to close its connection
_LARGEST = 1 << 26  # bytes of a message: create_game holds the map file


class GameServer:
    def __init__(self, seed: int | None = None):
        """`seed`: for games whose client chooses none, counted up for each; None: random."""
        self._seeds: Iterator[int] = _at_random() if seed is None else itertools.count(seed)
        self._clients = 0
        self.ended = asyncio.Event()

    async def run(self, host: str, port: int, parent: int | None = None) -> None:
        """Serve until SIGTERM, Ctrl-C or the last client's `quit`.

        `parent`: the server also ends when this process ends.
        """
        for number in _ENDS:
            asyncio.get_running_loop().add_signal_handler(number, self.ended.set)
        async with self.listening(host, port) as port:
            name = f"[{host}]" if ":" in host else host
            print(
                f"the embedded engine, not StarCraft II, listens at ws://{name}:{port}{PATH}",
                flush=True,
            )
            while not self.ended.is_set() and parent in (None, os.getppid()):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.ended.wait(), 1.0)
        # pysc2 repeats the signal, which must not interrupt the end of this process.
        for number in _ENDS:
            asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)

    @contextlib.asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[int]:
        """Listen, and yield the port. `port`: 0 for any free one. Raises UserError."""
        try:
            # No pings: a client may train for minutes between two requests.
            quiet = {"compression": None, "ping_interval": None, "close_timeout": _PATIENCE}
            server = await serve(
                self._converse, host, port, process_request=_only_api, max_size=_LARGEST, **quiet
            )
        except OSError as error:
            raise UserError(f"cannot listen: {error.strerror}") from None
        try:
            yield next(iter(server.sockets)).getsockname()[1]
        finally:
            server.close()
            with contextlib.suppress(TimeoutError):  # a client does not answer
                await asyncio.wait_for(server.wait_closed(), _PATIENCE)

    async def _converse(self, connection: ServerConnection) -> None:
        session = Session(self._seeds)
        self._clients += 1
        try:
            while session.status != QUIT:
                message = await connection.recv(decode=False)  # pysc2 sends its bytes as text
                await connection.send(session.answer(message))
        except DecodeError:
            await connection.close(CloseCode.INVALID_DATA, "not a Request")
        except ConnectionClosed:
            pass  # the client has left, and its game ends
        finally:
            self._clients -= 1
        if session.status == QUIT and not self._clients:
            self.ended.set()


def _at_random() -> Iterator[int]:
    while True:
        yield random.SystemRandom().getrandbits(32)


def _only_api(connection: ServerConnection, request: Request) -> Response | None:
    if request.path != PATH:
        return connection.respond(http.HTTPStatus.NOT_FOUND, f"only {PATH} is here\n")
    return None
