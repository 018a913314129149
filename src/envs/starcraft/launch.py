"""How pysc2 starts the game here: so that it ends with the process that started it, however that one ends, and Ctrl-C leaves it alone.

pysc2 looks for the RunConfig of the highest priority among all that were defined; importing this module defines one. Linux only, as is
the way a process asks to be told of its parent's end (prctl).
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
_libc = ctypes.PyDLL(
    None
)  # here, because after a fork little is safe to do; PyDLL leaves the interpreter's lock alone

is_talkative = False  # whether the game writes to this process's terminal


def _end_with(parent: int) -> None:
    """Between fork and exec: the kernel kills this process as soon as `parent` is gone."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was too late
        os._exit(1)


class Process(sc_process.StarcraftProcess):
    """The game in a session of its own: what a terminal sends to its foreground does not reach it."""

    def _launch(self, run_config: Any, args: list[str], **kwargs: Any) -> subprocess.Popen:
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
        """Raises SC2LaunchError where pysc2 would go on knocking for a minute: the game has ended before it could be spoken to."""
        process: Any = self._proc
        if self._controller is None and process is not None and process.poll() is not None:
            raise sc_process.SC2LaunchError(
                f"the game ended at once, with exit status {process.returncode}"
            )
        return bool(super().running)


class Guarded(platforms.Linux):
    """pysc2's own configuration for Linux but for the process."""

    @classmethod
    def priority(cls) -> Any:  # 1 more than the usual; None: not on this system
        usual = super().priority()
        return usual and usual + 1

    def start(self, want_rgb: bool = False, **kwargs: Any) -> Process:
        binary = os.path.join(
            self.data_dir, f"Versions/Base{self.version.build_version:05d}", BINARY
        )
        return Process(self, exec_path=binary, version=self.version, **kwargs)
