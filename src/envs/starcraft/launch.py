"""How pysc2 starts the game: the game ends with the process that started it, and ignores Ctrl-C.

pysc2 takes the RunConfig with the highest priority of all that are defined. Importing this module
defines one. Linux only, because of prctl, by which the kernel ends a child with its parent.
"""

import ctypes
import os
import signal
import subprocess
from typing import Any

from pysc2.lib import sc_process  # pyright: ignore[reportMissingImports] # optional
from pysc2.run_configs import platforms  # pyright: ignore[reportMissingImports]

from eoi.envs.starcraft.installation import BINARY

_PR_SET_PDEATHSIG = 1
# Loaded at import, because little is safe after a fork. PyDLL does not touch the interpreter's
# lock.
_libc = ctypes.PyDLL(None)

is_talkative = False  # whether the game writes to the terminal of this process


def _end_with(parent: int) -> None:
    """Ask the kernel to kill this process when `parent` ends. Called between fork and exec."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent ended before the call
        os._exit(1)


class Process(sc_process.StarcraftProcess):
    """The game in a session of its own, which the terminal's signals do not reach."""

    def _launch(
        self, run_config: platforms.Linux, args: list[str], **kwargs: object
    ) -> subprocess.Popen:
        where, parent = None if is_talkative else subprocess.DEVNULL, os.getpid()
        return subprocess.Popen(
            args,
            cwd=run_config.cwd,
            env=run_config.env,
            stdout=where,
            stderr=where,
            start_new_session=True,
            preexec_fn=lambda: _end_with(parent),
        )

    @property
    def running(self) -> bool:
        """Raises SC2LaunchError if the game has ended before it accepted a connection.

        pysc2 alone would retry for a minute.
        """
        process: subprocess.Popen | None = self._proc
        if self._controller is None and process is not None and process.poll() is not None:
            raise sc_process.SC2LaunchError(
                f"the game ended at once, with exit status {process.returncode}"
            )
        return bool(super().running)


class Guarded(platforms.Linux):
    """pysc2's configuration for Linux with the process above."""

    @classmethod
    def priority(cls) -> Any:
        """1 more than pysc2's own; None if this is not Linux."""
        usual = super().priority()
        return usual and usual + 1

    def start(self, want_rgb: bool = False, **kwargs: Any) -> Process:
        binary = os.path.join(
            self.data_dir, f"Versions/Base{self.version.build_version:05d}", BINARY
        )
        return Process(self, exec_path=binary, version=self.version, **kwargs)
