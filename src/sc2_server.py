"""StarCraft II's API without StarCraft II: SMAC's marine maps on the embedded engine, for pysc2 and SMAC as they are.

    python src/sc2_server.py install DIR                  then: export SC2PATH=DIR, and pysc2 starts the server as it would the game
    python src/sc2_server.py serve --port P [--host 127.0.0.1] [--seed S]
    python src/sc2_server.py replay FILE.SC2Replay        what happened in the fights of a saved replay

Results are this engine's, not the game's. `requirements-sc2.txt` has what it needs.
"""

import argparse
import asyncio
import gc
import importlib.util
import itertools
import pathlib
import shlex
import sys
from collections.abc import Sequence

from eoi.utils.errors import UserError
from eoi.utils.script import Parser, guarded

_NEEDED = ("s2clientprotocol", "websockets")


def port(text: str) -> int:
    if not 0 < int(text) < 1 << 16:
        raise argparse.ArgumentTypeError(f"must be 1 to 65535, got {text}")
    return int(text)


def parser() -> Parser:
    result = Parser(__doc__)
    verbs = result.add_subparsers(dest="verb", required=True, metavar="install | serve | replay")
    install = verbs.add_parser(
        "install", description="Puts the server where pysc2 looks for the game."
    )
    install.add_argument("folder", metavar="DIR", type=pathlib.Path)
    serve = verbs.add_parser("serve", description="Serves until Ctrl-C or the last client's quit.")
    serve.add_argument("--port", type=port, required=True)
    serve.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1")
    serve.add_argument(
        "--seed",
        type=int,
        help="of the first game whose client chooses none, the next gets one more; default: at random",
    )
    replay = verbs.add_parser("replay", description="Plays a saved replay again.")
    replay.add_argument("file", metavar="FILE.SC2Replay", type=pathlib.Path)
    return result


def install(folder: pathlib.Path) -> None:
    from eoi.envs.starcraft.server import place

    place.install(folder, pathlib.Path(__file__))
    print(
        f"export SC2PATH={shlex.quote(str(folder.resolve()))}   # then run pysc2 or SMAC as with the game; marine maps only"
    )


def serve(host: str, port: int, seed: int | None = None, parent: int | None = None) -> None:
    import torch

    from eoi.envs.starcraft.server.network import GameServer

    torch.set_num_threads(1)  # the engine's operations are small
    gc.freeze()  # or the end takes as long as all of torch's objects take to be searched; pysc2 waits three seconds
    asyncio.run(GameServer(seed).run(host, port, parent))


def game(flags: Sequence[str]) -> None:
    """As pysc2 starts the game. Flags about windows, data and folders mean nothing here; `-parent` is the launcher's own."""
    given = dict(itertools.pairwise(flags))
    for name in ("-port", "-parent"):
        if not given.get(name, "").isdecimal():
            raise UserError(
                f"{name}: expected a number, got {given.get(name)!r}; the launcher that `install` writes passes it"
            )
    serve(given.get("-listen", "127.0.0.1"), int(given["-port"]), parent=int(given["-parent"]))


def replay(file: pathlib.Path) -> None:
    from eoi.envs.starcraft.server.match import replayed

    before = 0
    for number, moments in itertools.groupby(
        replayed(file.read_bytes()), lambda match: match.fight
    ):
        *_, (match, loops, units) = ((match, match.loops, match.units()) for match in moments)
        agents = sum(unit.number < match.map.n_agents for unit in units)
        print(
            f"{match.map_name}, fight {number}: {loops - before} loops, then {agents} agents and {len(units) - agents} enemies"
        )
        before = loops


def body(argv: Sequence[str]) -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"{' and '.join(missing)} is not installed: pip install -r requirements-sc2.txt"
        )
    if argv and argv[0] == "game":
        return game(argv[1:])
    options = vars(parser().parse_args(argv))
    {"install": install, "serve": serve, "replay": replay}[options.pop("verb")](**options)


def main(argv: Sequence[str]) -> int:
    return guarded(body, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
