"""Shared parts of the commands besides main.py: arguments, one-line errors, and output files."""

import argparse
import errno
import io
import math
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, NoReturn

from eoi.utils.errors import Failure, UserError
from eoi.utils.files import Unwritable, probe, put
from eoi.utils.places import ROOT

BEHIND_WITH = "a setting; settings stand behind the word `with`: with "
FIGURES = ROOT / "results" / "figures"


class Parser(argparse.ArgumentParser):
    """argparse's parser, with errors as UserError and the description printed as it is."""

    def __init__(self, description: str | None = None, **options: Any):
        super().__init__(
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **options,
        )
        for name in (None, "store"):
            self.register("action", name, _Once)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")


def add_saved_run(parser: Parser, episodes: int) -> None:
    """Add the arguments of a command that plays a saved run. `episodes`: their default number."""
    parser.add_argument("run", nargs="+", action=_OneRun, metavar="RUN")
    parser.add_argument("--episodes", type=positive, default=episodes, help=f"default: {episodes}")
    parser.add_argument("--seed", type=integer, default=0, help="of the episodes; default: 0")
    parser.add_argument(
        "--model",
        choices=("best", "last"),
        default="best",
        help="which saved networks; default: best",
    )


def refuse_before_with(words: Sequence[str]) -> None:
    """Raises UserError for a setting among the words that stand before `with`."""
    for before, word in pairwise(["", *words]):
        if "=" in word and not word.startswith("-") and not before.startswith("-"):
            raise UserError(f"{word}: {BEHIND_WITH}{word}")


class _Once(argparse.Action):
    """Stores a value. An option that is given again is refused; argparse keeps the last one."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if option_string and getattr(namespace, self.dest, self.default) is not self.default:
            raise argparse.ArgumentError(self, "given twice; give all of it once")
        setattr(namespace, self.dest, values)


class _OneRun(argparse.Action):
    """The only word of an argument; several are refused by name."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if len(values) > 1:
            parser.error(f"one run at a time, got {' '.join(values)}; call again for each")
        setattr(namespace, self.dest, values[0])


def integer(text: str) -> int:
    """Type of an argument that is an integer, which may be written as 1e3."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number.is_integer():
        raise argparse.ArgumentTypeError(f"expected an integer, got {text!r}")
    return int(number)


def positive(text: str) -> int:
    """Type of an argument that is an integer of at least 1."""
    number = integer(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def output(text: str) -> pathlib.Path:
    """Type of an argument that names a file to write, refused before any work is done."""
    path = pathlib.Path(text)
    try:
        probe(path.parent)
    except Unwritable as error:
        reason = f"cannot write in {error.filename}: {error.strerror}"
        raise argparse.ArgumentTypeError(f"{reason}; name a file in another folder") from None
    return path


def guarded(body: Callable[[Sequence[str]], None], argv: Sequence[str]) -> int:
    """Call `body`. Returns the exit status: 0, 2 for bad input, 1 for a failure, 130 for Ctrl-C."""
    try:
        body(argv)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Failure as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Unwritable as error:
        reason = f"cannot write {error.filename}: {error.strerror}"
        print(f"error: {reason}; name another folder", file=sys.stderr)
        return 1 if error.errno in (errno.ENOSPC, errno.EDQUOT) else 2
    except BrokenPipeError:
        # The reader, such as `| head`, has closed the pipe. Python would fail to flush at its end.
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


def tell(notes: Iterable[str]) -> None:
    """Prints each note on a line of stderr."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def write_text(path: pathlib.Path, text: str) -> None:
    """Write the file, or leave it as it was and raise OSError."""
    write_whole(path, lambda file: file.write(text.encode()))


def write_whole(path: pathlib.Path, write: Callable[[io.BytesIO], object]) -> None:
    """Write the output of `write` to the file, or leave it as it was and raise OSError."""
    content = io.BytesIO()
    write(content)
    put(path.parent, lambda file: file.write(content.getvalue()), lambda: path.name)
