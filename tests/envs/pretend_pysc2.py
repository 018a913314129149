"""A stand-in for the parts of pysc2 that this project uses.

A game is the program in $SC2PATH, called with the argument 600, which are seconds for `sleep`.
"""

import os
import pathlib
import subprocess
from types import SimpleNamespace

VERSIONS = {
    "4.6.2": SimpleNamespace(build_version=69232),
    "4.10.0": SimpleNamespace(build_version=75689),
}


class ProtocolError(Exception): ...


class ConnectionError(Exception): ...


class ConnectError(Exception): ...


class SC2LaunchError(Exception): ...


class StarcraftProcess:
    def __init__(self, run_config, exec_path, version, window_size=(640, 480)):
        self._controller = None
        self._proc = self._launch(run_config, [exec_path, "600"])
        if pathlib.Path(exec_path).with_name("broken").exists():
            self.close()
            raise ConnectError("Failed to connect to the SC2 websocket. Is it up?")
        self._controller = "connected"

    def _launch(self, run_config, args, **kwargs):
        return subprocess.Popen(args, cwd=run_config.cwd, env=run_config.env)

    @property
    def running(self):
        return self._proc.poll() is None

    def close(self):
        self._proc.terminate()
        self._proc.wait()


class Linux:
    cwd, env = None, None

    def __init__(self, version=None):
        self.data_dir, self.version = os.environ["SC2PATH"], VERSIONS[version or "4.10.0"]

    @classmethod
    def priority(cls):
        return 1

    def save_replay(self, data, replay_dir, prefix):
        folder = pathlib.Path(self.data_dir, "Replays", replay_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{prefix}_1970-01-01-00-00-00.SC2Replay").write_bytes(data)


def get(version=None):
    return max([Linux, *Linux.__subclasses__()], key=lambda config: config.priority())(
        version=version
    )
