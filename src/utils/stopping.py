"""Ctrl-C as a request, so that a run ends between two iterations, with a consistent state."""

import contextlib
import signal
import sys
import threading
from types import FrameType


class Stop:
    """Context in which a first SIGINT only sets `asked` and a second one interrupts at once."""

    def __init__(self) -> None:
        self.asked = False
        self._installed = False

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._ask)
            self._installed = True
        return self

    def __exit__(self, *_: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        with contextlib.suppress(OSError):
            print(
                "\nstopping after this iteration; Ctrl-C again stops at once",
                file=sys.stderr,
                flush=True,
            )
