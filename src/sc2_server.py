"""StarCraft II's API without StarCraft II: SMAC's marine maps on the embedded engine.

    python src/sc2_server.py install DIR       then `export SC2PATH=DIR`: pysc2 starts the server
    python src/sc2_server.py serve --port P [--host 127.0.0.1] [--seed S]
    python src/sc2_server.py replay FILE       print the fights of a saved replay

pysc2 and SMAC work unmodified. Results are those of this engine, not of the game. Requires the
packages in requirements-sc2.txt.
"""

from eoi.utils.start import launch

import argparse
import asyncio
import gc
import importlib.util
import itertools
import pathlib
import shlex
from collections.abc import Sequence

from eoi.utils.errors import UserError
from eoi.utils.places import install as packages
from eoi.utils.script import Parser, guarded

_NEEDED = ("s2clientprotocol", "websockets")


def port(text: str) -> int:
    if not 0 < int(text) < 1 << 16:
        raise argparse.ArgumentTypeError(f"must be 1 to 65535, got {text}")
    return int(text)


def seed(text: str) -> int:
    if not 0 <= int(text) < 1 << 32:
        raise argparse.ArgumentTypeError(f"must be 0 to 4294967295, got {text}")
    return int(text)


def parser() -> Parser:
    result = Parser(__doc__)
    verbs = result.add_subparsers(dest="verb", required=True, metavar="install | serve | replay")
    install = verbs.add_parser(
        "install", description="Install the server where pysc2 expects the game."
    )
    install.add_argument("folder", metavar="DIR", type=pathlib.Path)
    serve = verbs.add_parser("serve", description="Serve until Ctrl-C or the last client's quit.")
    serve.add_argument("--port", type=port, required=True)
    serve.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1")
    serve.add_argument(
        "--seed",
        type=seed,
        help="for games whose client chooses none, counted up for each; default: random",
    )
    replay = verbs.add_parser("replay", description="Play a saved replay again.")
    replay.add_argument("file", metavar="FILE.SC2Replay", type=pathlib.Path)
    return result


def install(folder: pathlib.Path) -> None:
    from eoi.envs.starcraft.server import place

    place.install(folder, pathlib.Path(__file__))
    path = shlex.quote(str(folder.resolve()))
    print(f"export SC2PATH={path}   # then run pysc2 or SMAC as with the game; marine maps only")


def serve(host: str, port: int, seed: int | None = None, parent: int | None = None) -> None:
    import torch

    from eoi.envs.starcraft.server.network import GameServer

    torch.set_num_threads(1)  # the engine's operations are small
    gc.freeze()  # shortens the end of the process: pysc2 waits only three seconds
    asyncio.run(GameServer(seed).run(host, port, parent))


def game(flags: Sequence[str]) -> None:
    """Serve with the flags by which pysc2 starts the game.

    Flags about windows, data and folders have no effect. `-parent` comes from the launcher.
    """
    given = dict(itertools.pairwise(flags))
    for name in ("-port", "-parent"):
        if not given.get(name, "").isdecimal():
            raise UserError(
                f"{name}: expected a number, got {given.get(name)!r}; start the server by the "
                "launcher that `install` writes, or by `serve`"
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
            f"{match.map_name}, fight {number}: {loops - before} loops, then {agents} agents "
            f"and {len(units) - agents} enemies"
        )
        before = loops


def body(argv: Sequence[str]) -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{' and '.join(missing)} is not installed: {packages('sc2')}")
    if argv and argv[0] == "game":
        return game(argv[1:])
    options = vars(parser().parse_args(argv))
    {"install": install, "serve": serve, "replay": replay}[options.pop("verb")](**options)


def main(argv: Sequence[str]) -> int:
    return guarded(body, argv)


if __name__ == "__main__":
    launch(main)
