"""The game engine with pysc2 and, if installed, SMAC, on this project's server."""

import inspect
import os
import pathlib
import signal
import subprocess
import sys

import pytest
import torch
from test_workers import wait_until_gone

from eoi.envs import REGISTRY, configured
from eoi.envs.starcraft import installation
from eoi.envs.starcraft.settings import SMAC_ARGUMENTS
from helpers import keys

pytest.importorskip("websockets", reason="this project's server needs requirements-sc2.txt")
pytest.importorskip("pysc2", reason="pysc2 is in requirements-sc2.txt")
ROOT = pathlib.Path(__file__).parent.parent.parent
pytestmark = pytest.mark.slow  # each game and each worker loads torch
HAS_SMAC = all(check.ok for check in installation.packages())
with_smac = pytest.mark.skipif(
    not HAS_SMAC, reason="SMAC is on no package index: bash install_sc2.sh smac"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("StarCraftII")
    words = [sys.executable, "src/sc2_server.py", "install", str(found)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    return found


@pytest.fixture
def env(folder, monkeypatch):
    monkeypatch.setenv("SC2PATH", str(folder))
    made = REGISTRY["sc2"](
        configured("sc2", {"map_name": "3m", "engine": "server", "replay_dir": "mine"}), 2
    )
    yield made
    made.close()
    wait_until_gone(games(folder))


def games(folder) -> list[int]:
    """Processes that were started from `folder`."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if (
                f"{folder}/" in (path / "cmdline").read_bytes().decode()
                and "\0game\0" in (path / "cmdline").read_bytes().decode()
            ):
                found.append(int(path.name))
        except OSError:
            pass  # another user's process, or one that has just ended
    return found


def some(moment):
    """The last action that each agent has: attack if it can."""
    return torch.where(moment.avail, torch.arange(moment.avail.shape[2]), -1).argmax(-1)


@with_smac
def test_the_settings_are_the_real_smacs():
    from smac.env import StarCraft2Env  # pyright: ignore[reportMissingImports]

    assert set(SMAC_ARGUMENTS) == set(inspect.signature(StarCraft2Env).parameters) - {"seed"}


@with_smac
def test_episodes_through_smac(env, folder):
    assert (env.spec.n_agents, env.spec.n_actions, env.spec.episode_limit, env.spec.reward_max) == (
        3,
        9,
        60,
        20,
    )
    for seed in (0, 1):
        moment, total = env.reset(keys(2, seed=seed)), torch.zeros(2)
        while not moment.done.all():
            assert moment.obs.shape == (2, 3, env.spec.obs_size) and moment.state.shape == (
                2,
                env.spec.state_size,
            )
            moment = env.step(some(moment))
            total += moment.reward
        assert not moment.info["dropped"].any()
        assert (
            (moment.info["dead_allies"] == 3)
            | (moment.info["dead_enemies"] == 3)
            | moment.truncated
        ).all()
        assert (total <= 20).all() and len(games(folder)) == 2
    assert env.render(0).shape == (640, 640, 3) and "A:" in env.text(0)
    (where,) = env.save_replay()
    assert len(list(pathlib.Path(where).iterdir())) == 2 and where == str(
        folder / "Replays" / "mine"
    )


@with_smac
def test_a_time_out_through_smac_is_truncation(env):
    moment = env.reset(keys(2))
    while not moment.done.all():
        away = torch.where(
            moment.avail[..., 5], 5, torch.where(moment.avail[..., 1], 1, 0)
        )  # west, into the corner
        moment = env.step(away)
    assert moment.truncated.all() and not moment.terminated.any() and moment.info["timed_out"].all()


@with_smac
def test_a_killed_game_is_replaced(env, folder):
    moment = env.step(some(env.reset(keys(2))))
    victim = min(games(folder))
    os.kill(victim, signal.SIGKILL)
    wait_until_gone([victim])
    moment = env.step(some(moment))
    assert (
        moment.info["dropped"].sum() == 1
        and (moment.truncated == moment.info["dropped"].bool()).all()
    )
    while not moment.done.all():
        moment = env.step(some(moment))
    moment = env.reset(keys(2, seed=1))
    assert (
        not moment.info["dropped"].any() and len(games(folder)) == 2 and victim not in games(folder)
    )


PROGRAM = """
import signal, sys
sys.path.insert(0, "src")
from absl import flags
flags.FLAGS(["test"])
from pysc2 import run_configs
from eoi.envs.starcraft import launch
game = run_configs.get().start(want_rgb=False)
assert type(game) is launch.Process and game.controller.ping().game_version
print(game.pid, flush=True)
signal.pause()
"""


def test_a_game_that_pysc2_started_ends_with_its_program_and_ignores_the_terminal(folder, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    words, place = (
        [sys.executable, str(program)],
        os.environ | {"SC2PATH": str(folder), "PYTHONPATH": str(ROOT / "src")},
    )
    with subprocess.Popen(
        words,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=place,
        start_new_session=True,
    ) as process:
        assert process.stdout
        line = process.stdout.readline()
        assert line, process.stderr and process.stderr.read().decode()
        game = int(line)
        assert os.getpgid(game) == game != process.pid
        process.kill()
    wait_until_gone([game])


def test_a_game_that_ends_at_once_is_not_waited_for(folder, monkeypatch):
    """pysc2 itself would knock for half a minute."""
    monkeypatch.setenv("SC2PATH", str(folder))
    from absl import flags
    from pysc2.lib import sc_process
    from pysc2.run_configs import platforms

    from eoi.envs.starcraft import launch

    flags.FLAGS(["test"])
    monkeypatch.setattr(launch, "BINARY", "nothing")
    binary = folder / "Versions" / "Base75689" / "nothing"
    binary.write_text("#!/bin/sh\nexit 3\n")
    binary.chmod(0o755)
    assert issubclass(launch.Guarded, platforms.Linux)
    with pytest.raises(
        sc_process.SC2LaunchError, match="the game ended at once, with exit status 3"
    ):
        launch.Guarded().start()
