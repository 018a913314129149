"""The command `eoi` of an installed package: one subcommand for each program.

In a checkout, `python src/main.py` is `eoi train`, `python src/plot.py` is `eoi plot`, and so on.
"""

from eoi.utils.start import imported

import importlib
import importlib.metadata
import sys
from collections.abc import Sequence

from eoi.config.schema import nearest

COMMANDS = {  # subcommand: its module, and one line of help
    "train": ("main", "train, resume or evaluate a run"),
    "batch": ("batch", "train many runs: algorithms x environments x seeds"),
    "figure": ("figure", "make a figure of the paper, and judge its claims"),
    "plot": ("plot", "draw learning curves and print tables"),
    "report": ("report", "make one HTML page of runs"),
    "watch": ("watch", "play a trained team: text, film or page"),
    "evaluate": ("evaluate", "test a trained team"),
    "export": ("export", "put the metrics of many runs into one table"),
    "doctor": ("doctor", "check this machine, and how to mend it"),
    "sync": ("sync", "copy finished runs to MongoDB"),
    "sc2-server": ("sc2_server", "serve StarCraft II's API on the lite engine"),
}


def usage() -> str:
    lines = [f"  {name:12}{line}" for name, (_, line) in COMMANDS.items()]
    return "\n".join(
        ["usage: eoi COMMAND ARGS...", "", *lines, "", "eoi COMMAND --help explains a command."]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand. Returns its exit status; 2 for an unknown subcommand."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(usage(), file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    if words[0] == "--version":
        print(f"eoi {importlib.metadata.version('eoi')}")
        return 0
    name, *rest = words
    if name not in COMMANDS:
        print(
            f"error: eoi {name}: there is no such command.{nearest(name, COMMANDS)}",
            file=sys.stderr,
        )
        return 2
    sys.argv[0] = f"eoi {name}"
    try:
        module = importlib.import_module(f"eoi.{COMMANDS[name][0]}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    imported()
    return module.main(rest)


if __name__ == "__main__":
    sys.exit(main())
