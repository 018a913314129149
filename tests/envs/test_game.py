"""The game engine with a stand-in for StarCraft II: episodes, dying games, no leftover process."""

import inspect
import json
import os
import pathlib
import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pretend
import pytest
import torch
from test_workers import wait_until_gone

from eoi import evaluate
from eoi import main as program
from eoi.components.action_selection import Choice
from eoi.envs.base import VecEnv
from eoi.envs.starcraft.game import GameStarCraft, SMACGame
from eoi.envs.starcraft.settings import SMAC_ARGUMENTS, StarCraftConfig
from eoi.pictures.positions import plan
from eoi.runners.rollout import Rollout
from eoi.utils.errors import Failure
from helpers import keys

ROOT = pathlib.Path(__file__).parent.parent.parent
WAIT, STOP, MOVE, ATTACK = 0, 1, 2, 6


@pytest.fixture
def machine(tmp_path, monkeypatch):
    with pretend.pretended(tmp_path / "machine", monkeypatch) as found:
        yield found
    wait_until_gone(found.games())


def config(**changes) -> StarCraftConfig:
    found = StarCraftConfig(map_name="3m", engine="game", **changes).resolved()
    assert isinstance(found, StarCraftConfig)
    return found


def in_turn(env, actions, moment):
    """Every agent of copy k is told actions[k]; the dead wait."""
    chosen = torch.tensor(actions)[:, None].expand(-1, 3)
    return env.step(torch.where(moment.avail[..., 0], WAIT, chosen))


def finished(env, actions, seed=0):
    moments = [env.reset(keys(len(actions), seed=seed))]
    while not moments[-1].done.all():
        moments.append(in_turn(env, actions, moments[-1]))
    return moments


def test_the_settings_are_smacs_by_name_and_default(machine):
    from smac.env import StarCraft2Env  # pyright: ignore[reportMissingImports]

    smac = inspect.signature(StarCraft2Env).parameters
    assert set(SMAC_ARGUMENTS) == set(smac) - {"seed"}
    assert all(
        getattr(StarCraftConfig(engine="lite"), name) == smac[name].default
        for name in SMAC_ARGUMENTS
    )


def test_games_side_by_side_and_how_they_end(machine):
    env = GameStarCraft(config(), 4)
    assert (
        isinstance(env, VecEnv)
        and env.spec.scarce
        and env.spec.episode_limit == 6
        and env.spec.reward_max == 20
    )
    assert not machine.games()  # they are started by the first reset
    moments = finished(env, [ATTACK, STOP, MOVE, ATTACK])
    assert len(machine.games()) == 4
    last = moments[-1]
    assert last.terminated.tolist() == [True, True, False, True] and last.truncated.tolist() == [
        False,
        False,
        True,
        False,
    ]
    assert last.info["battle_won"].tolist() == [1, 0, 0, 1] and last.info["timed_out"].tolist() == [
        0,
        0,
        1,
        0,
    ]
    assert last.info["dead_enemies"].tolist() == [3, 0, 0, 3] and last.info[
        "dead_allies"
    ].tolist() == [0, 3, 0, 0]
    assert not last.info["dropped"].any()
    assert len({row[0].item() for row in moments[0].state}) == 4  # seeds
    assert moments[1].reward.tolist() == pytest.approx(
        [10 / ((3 * 55 + 200) / 20), 0, 0, 10 / ((3 * 55 + 200) / 20)]
    )
    assert (
        last.obs.shape == (4, 3, 4) and last.avail[1].int().sum().item() == 3
    )  # the dead have one action
    before = machine.games()
    finished(env, [ATTACK] * 4, seed=1)
    assert sorted(machine.games()) == sorted(before)  # played on in the same games
    env.close()
    wait_until_gone(before)


def test_never_more_games_than_allowed(machine):
    env = GameStarCraft(config(games=2), 32)
    assert env.n_envs == 2
    env.close()


def test_ranges_and_seed_reach_smac(machine):
    game = SMACGame(config(sight_range=4.0, shoot_range=0.0, seed=100), str(machine.game))
    step = game.reset(7)
    assert step.obs[0, :2].tolist() == [4, 0] and step.state[0] == 107
    game.close()


def test_a_reset_before_the_first_battle_is_over_starts_anew(machine):
    game = SMACGame(config(), str(machine.game))
    game.reset(7)
    first = machine.games()
    game.reset(7)
    assert len(machine.games()) == 1 and machine.games() != first
    assert game.fight.max_reward == 3 * 55 + 200  # pyright: ignore[reportOptionalMemberAccess] # counted once
    game.close()


def test_the_time_stands_where_smac_says_it_does(machine):
    game = SMACGame(config(obs_timestep_number=True, obs_instead_of_state=True), str(machine.game))
    game.reset(7)
    step = game.step(np.array([MOVE] * 3))
    assert step.obs.shape == (3, game.spec.obs_size) and step.state.shape == (game.spec.state_size,)
    assert step.obs[:, -1].tolist() == pytest.approx([1 / 6] * 3) and step.obs[0, -2] == 1
    game.close()


def kill_one(machine) -> None:
    victim = min(machine.games())
    os.kill(victim, signal.SIGKILL)
    wait_until_gone([victim])


def test_a_game_that_dies_is_replaced_and_its_episode_marked(machine):
    env = GameStarCraft(config(), 2)
    finished(env, [ATTACK, ATTACK])
    moment = env.reset(keys(2))
    kill_one(machine)
    moment = in_turn(env, [MOVE, MOVE], moment)
    assert moment.info["dropped"].tolist() in ([1, 0], [0, 1])
    lost = int(moment.info["dropped"].argmax())
    assert moment.truncated[lost] and not moment.terminated[lost] and moment.reward[lost] == 0
    assert env.render(lost).shape == env.render(1 - lost).shape and env.text(lost)  # its last step
    again = finished(env, [ATTACK, ATTACK], seed=1)[-1]
    assert (
        again.info["battle_won"].all()
        and not again.info["dropped"].any()
        and len(machine.games()) == 2
    )
    env.close()


class Scripted:
    """A team without networks. `choose`: actions from the available ones."""

    def __init__(self, choose):
        self.choose = choose

    def start(self, n, device):
        return {}

    def act(self, obs, avail, carry, keys, t, greedy):
        return Choice(self.choose(avail), carry, {})


def test_a_rollout_leaves_out_dropped_episodes(machine):
    env = GameStarCraft(config(), 3)
    rollout, steps = Rollout(env, torch.device("cpu")), []

    def choose(avail):
        steps.append(None)
        if len(steps) == 2:
            kill_one(machine)
        return torch.where(avail[..., 0], WAIT, ATTACK)

    episodes = rollout.run(Scripted(choose), keys(3), torch.tensor(0.0))
    assert rollout.dropped == 1 and len(episodes.length) == 2 and episodes.length.tolist() == [3, 3]
    assert episodes.info["battle_won"].tolist() == [1, 1]
    assert rollout.steps(episodes) == 6 and len(episodes.outcome().returns) == 2
    env.close()


def test_games_that_always_break_off_are_given_up(machine):
    env = GameStarCraft(config(), 1)

    def choose(avail):
        kill_one(machine)
        return torch.full(avail.shape[:2], MOVE)

    with pytest.raises(Failure, match="no episode came to its end in 5 tries"):
        Rollout(env, torch.device("cpu")).run(Scripted(choose), keys(1), torch.tensor(0.0))
    env.close()


def test_a_game_that_does_not_start_is_said_so(machine):
    (machine.binary.parent / "broken").touch()
    env = GameStarCraft(config(), 1)
    with pytest.raises(
        Failure, match=r"StarCraft II did not start in 3 tries \(ConnectError: Failed to connect"
    ):
        env.reset(keys(1))
    wait_until_gone(machine.games())


def test_pictures_and_replays(machine):
    env = GameStarCraft(config(replay_dir="mine"), 2)
    moment = env.reset(keys(2))
    assert env.render(1).shape == (24 * 20, 32 * 20, 3) and len(env.text(0).split("\n")) == 24 + 4
    assert env.action_names[-1] == "act on C" and len(env.action_names) == moment.avail.shape[2]
    assert env.save_replay() == [str(machine.game / "Replays" / "mine")]
    assert len(list((machine.game / "Replays" / "mine").glob("3m_*.SC2Replay"))) == 2  # a name each
    env.close()


def test_position_maps_have_the_walls_of_the_game(machine):
    game = SMACGame(config(), str(machine.game))
    assert np.isnan(game.xy()).all()  # no game runs yet
    game.reset(7)
    game.fight.pathing_grid[:, 0] = False  # pyright: ignore[reportOptionalMemberAccess]
    ground = game.ground()
    assert ground.shape == (24, 32) and ground[:-1].all() and not ground[-1].any()
    game.step(np.array([STOP] * 3))  # the last agent dies
    np.testing.assert_array_equal(game.xy(), [[9, 8], [9, 9], [np.nan, np.nan]])
    game.close()


def test_positions_in_several_games_are_counted(machine):
    env = GameStarCraft(config(), 2)
    env.reset(keys(2))
    walls, count = plan(env)
    assert walls.shape == (24, 32) and not walls.any()
    visits = count(torch.tensor([True, True]))
    # Agent i stands at (9, 8 + i) in both games.
    assert [visits[i, 15 - i, 9] for i in range(3)] == [2, 2, 2] and visits.sum() == 6
    assert count(torch.tensor([False, True])).sum() == 3
    env.close()


PROGRAM = """
import pathlib, signal, sys, time
sys.path[:0] = ["src", "tests/envs", sys.argv[1]]
import torch
from eoi.envs.starcraft.game import GameStarCraft
from eoi.envs.starcraft.settings import StarCraftConfig
from eoi.utils.seeding import fold, root_key
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    env = GameStarCraft(StarCraftConfig(map_name="3m", engine="game").resolved(), 2)
    env.reset(fold(root_key(0, "x"), torch.arange(2)))
    print("ready", flush=True)
    {end}
"""


@pytest.mark.parametrize("how", ["forgotten", "exception", "SIGINT", "SIGKILL", "worker"])
def test_no_game_outlives_its_program(how, machine, tmp_path):
    program = tmp_path / "program.py"
    end = {"forgotten": "pass", "exception": "1 / 0"}.get(how, "while True: time.sleep(0.05)")
    program.write_text(PROGRAM.format(end=end))
    words = [sys.executable, str(program), str(machine.packages)]
    process = subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        assert process.stdout and process.stdout.readline() == b"ready\n"
        games = machine.games()
        if how == "worker":
            assert len(games) == 2
            os.kill(parent_of(games[0]), signal.SIGKILL)
            wait_until_gone(games[:1])
            assert process.poll() is None
            os.killpg(process.pid, signal.SIGINT)
        elif how.startswith("SIG"):
            (os.killpg if how == "SIGINT" else os.kill)(process.pid, getattr(signal, how))
        assert (process.wait(30) != 0) == (how != "forgotten")
    finally:
        process.kill()
        process.communicate()
    wait_until_gone(machine.games())


def parent_of(pid: int) -> int:
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def test_ctrl_c_of_a_terminal_does_not_reach_the_games(machine):
    env = GameStarCraft(config(), 1)
    env.reset(keys(1))
    (game,) = machine.games()
    assert os.getpgid(game) == game != os.getpgrp()
    env.close()


def test_an_evaluation_without_a_whole_episode_says_so(machine):
    env = GameStarCraft(config(), 1)

    def choose(avail):
        kill_one(machine)
        return torch.where(avail[..., 0], WAIT, ATTACK)

    settings: Any = SimpleNamespace(run=SimpleNamespace(t_max=1))
    team: Any = Scripted(choose)
    with pytest.raises(Failure, match="no episode was played to its end"):
        evaluate.evaluate(env, team, settings, 1, seed=0)
    env.close()


def test_copies_that_no_game_plays_need_no_replay(machine, tmp_path):
    fewer = ("batch_size_run=3", "buffer_size=200")
    words = [
        "batch_size_run=64",
        "env_args.games=2",
        "buffer_size=100",
        f"local_results_path={tmp_path}",
    ]
    words += [word for word in TINY if word not in fewer]
    assert program.main(["--config=qmix", "--env-config=sc2", "with", *words]) == 0


TINY = [
    "hidden_dim=8",
    "batch_size=8",
    "batch_size_run=3",
    "buffer_size=200",
    "learning_starts=0",
    "update_interval=10",
    "save_interval=0",
]
TINY += [
    "t_max=40",
    "test_nepisode=6",
    "test_interval=20",
    "log_interval=20",
    "env_args.map_name=3m",
    "seed=1",
]


def test_a_run_on_the_game_its_record_and_its_evaluation(machine, tmp_path, capfd, caplog):
    where = f"local_results_path={tmp_path}"
    assert program.main(["--config=eoi_qmix", "--env-config=sc2", "with", *TINY, where]) == 0
    folder = tmp_path / "sacred" / "1"
    recorded, metrics = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("config", "metrics")
    )
    assert (
        recorded["env"] == "sc2"
        and recorded["env_args"]["engine"] == "game"
        and recorded["env_args"]["games"] == 8
    )
    assert json.loads((folder / "run.json").read_text())["experiment"]["name"] == "eoi_qmix_game"
    said = capfd.readouterr().out
    assert (
        "sc2_game eoi_qmix seed 1" in said
        and "StarCraft II: " in caplog.text
        and "NOT StarCraft II" not in caplog.text
    )
    assert {
        "test_battle_won_mean",
        "battle_won_mean",
        "test_dead_allies_mean",
        "test_dead_enemies_mean",
    } <= set(metrics)
    assert set(metrics["dropped_episodes"]["values"]) == {0}
    wait_until_gone(machine.games())

    evaluation = [
        f"checkpoint_path={folder}",
        "evaluate=True",
        "save_replay=True",
        "env_args.replay_dir=seen",
    ]
    assert (
        program.main(["--config=eoi_qmix", "--env-config=sc2", "with", *TINY, where, *evaluation])
        == 0
    )
    assert f"replays: {machine.game / 'Replays' / 'seen'}" in capfd.readouterr().out
    assert "not the world" not in caplog.text  # where replays go changes no episode
    assert len(list((machine.game / "Replays" / "seen").iterdir())) == 3

    assert evaluate.main([str(folder), "--episodes", "4"]) == 0
    assert capfd.readouterr().out.startswith("sc2_game eoi_qmix seed 1, best networks (step ")
    wait_until_gone(machine.games())
    machine.gone.add("smac")
    assert evaluate.main([str(folder), "--episodes", "4"]) == 2
    assert "SMAC: not installed; bash install_sc2.sh smac" in capfd.readouterr().err


def test_replays_are_refused_where_there_are_none(tmp_path, capsys):
    where = [f"local_results_path={tmp_path}", *TINY, "env_args.engine=lite"]
    assert (
        program.main(["--config=qmix", "--env-config=sc2", "with", *where, "save_replay=True"]) == 2
    )
    assert "save_replay: goes with evaluate=True" in capsys.readouterr().err


def test_waiting_is_bounded():
    """`wait_until_gone`, which other tests rely on, fails if a process is left."""
    with subprocess.Popen(["sleep", "60"]) as process:
        with pytest.raises(AssertionError, match="left behind"):
            wait_until_gone([process.pid], seconds=0.1)
        process.kill()
