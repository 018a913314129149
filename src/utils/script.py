"""What the small programs beside main.py share: arguments, failures in one line, files that are whole or absent."""

import argparse
import io
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from utils.errors import Failure, UserError

FIGURES = pathlib.Path(__file__).resolve().parents[2] / "results" / "figures"


class Parser(argparse.ArgumentParser):
    """argparse, whose complaints are UserErrors. The module's docstring is the help."""

    def __init__(self, description: str | None = None, **options: Any):
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")


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
    except BrokenPipeError:  # `| head` has read enough; Python must not flush into it on its way out
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"error: {error.filename or 'input or output'}: {error.strerror or error}", file=sys.stderr)
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
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.getvalue())
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would hide a figure from a shared folder's readers
        os.replace(temporary, path)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise
