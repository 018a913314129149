"""What the small programs beside main.py share: arguments, failures in one line, files that are whole or absent."""

import argparse
import io
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from eoi.utils.errors import Failure, UserError
from eoi.utils.files import put
from eoi.utils.places import ROOT

FIGURES = ROOT / "results" / "figures"


class Parser(argparse.ArgumentParser):
    """argparse, whose complaints are UserErrors. The module's docstring is the help."""

    def __init__(self, description: str | None = None, **options: Any):
        super().__init__(
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **options,
        )

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")


def add_saved_run(parser: Parser, episodes: int) -> None:
    """What a program that plays a saved run is told."""
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--episodes", type=positive, default=episodes, help=f"default: {episodes}")
    parser.add_argument("--seed", type=int, default=0, help="of the episodes; default: 0")
    parser.add_argument(
        "--model",
        choices=("best", "last"),
        default="best",
        help="which saved networks; default: best",
    )


def positive(text: str) -> int:
    """An argument that counts something."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def guarded(body: Callable[[Sequence[str]], None], argv: Sequence[str]) -> int:
    """The exit status: 0, 2 for what the user can mend, 1 for a failure of the machine, 130 for Ctrl-C."""
    try:
        body(argv)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Failure as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (
        BrokenPipeError
    ):  # `| head` has read enough; Python must not flush into it on its way out
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(
            f"error: {error.filename or 'input or output'}: {error.strerror or error}",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except SystemExit as end:  # --help
        return int(end.code or 0)
    return 0


def write_text(path: pathlib.Path, text: str) -> None:
    """Raises OSError."""
    write_whole(path, lambda file: _put(file, text))


def _put(file: io.BytesIO, text: str) -> None:
    file.write(text.encode())


def write_whole(path: pathlib.Path, write: Callable[[io.BytesIO], object]) -> None:
    """What `write` produced, or the file as it was before. Raises OSError."""
    content = io.BytesIO()
    write(content)
    put(path.parent, lambda file: file.write(content.getvalue()), lambda: path.name)
