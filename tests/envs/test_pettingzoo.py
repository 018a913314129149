"""PettingZoo in both directions."""

import subprocess
import sys

import numpy as np
import pytest
import torch

pytest.importorskip("mpe2")

from eoi.envs import REGISTRY
from eoi.envs.pettingzoo import Parallel, PettingZoo, PettingZooConfig, constructor
from eoi.envs.to_pettingzoo import parallel_env
from eoi.pictures.film import shoot
from eoi.utils.errors import UserError
from helpers import keys, make_run, trained, worlds
from test_training import equal

WORLDS = sorted(set(REGISTRY) - {"pettingzoo"})


@pytest.fixture
def own_tests():
    """PettingZoo's tests; they import environments that warn."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pettingzoo import test
    return test


@pytest.mark.parametrize("name", WORLDS)
def test_every_world_passes_pettingzoos_tests(name, own_tests):
    own_tests.parallel_api_test(parallel_env(name), num_cycles=70)
    own_tests.parallel_seed_test(lambda: parallel_env(name))


@pytest.mark.parametrize("name", WORLDS)
def test_a_world_outside_is_the_world_inside(name):
    env, cls = parallel_env(name, render_mode="ansi"), REGISTRY[name]
    observations, infos = env.reset(seed=5)
    other = parallel_env(name)
    assert all(
        np.array_equal(observations[agent], other.reset(seed=5)[0][agent]) for agent in env.agents
    )
    world, steps, total = cls(cls.Config(), 1), 0, 0.0
    while env.agents:
        assert all(
            env.observation_space(agent).contains(observations[agent]) for agent in env.agents
        )
        assert env.state_space.contains(env.state()) and infos[env.agents[0]][
            "action_mask"
        ].shape == (world.spec.n_actions,)
        observations, rewards, terminations, truncations, infos = env.step(
            {agent: steps % 5 for agent in env.agents}
        )
        assert len(set(rewards.values())) == 1
        total, steps = total + next(iter(rewards.values())), steps + 1
    assert steps == world.spec.episode_limit or (
        not world.spec.fixed_length and steps < world.spec.episode_limit
    )
    assert (
        all(terminations.values()) != all(truncations.values()) and total <= world.spec.reward_max
    )
    assert set(world.spec.metrics) <= set(next(iter(infos.values()))) and isinstance(
        env.render(), str
    )
    with pytest.raises(ValueError, match="no action 99"):
        env.reset()
        env.step(dict.fromkeys(env.agents, 99))


def test_arguments_are_checked():
    assert parallel_env("firefighters", tank=8).world.cfg.tank == 8
    with pytest.raises(UserError, match=r"env_args\.tnk"):
        parallel_env("firefighters", tnk=8)


def test_the_worlds_come_without_the_training():
    """Importing the environments imports none of the optional packages."""
    program = (
        "import sys; sys.path.insert(0, 'src')\n"
        "from eoi.envs.pac_men import PacMen; import eoi.envs.workers\n"
        "extras = {'sacred', 'matplotlib', 'yaml', 'PIL', 'pettingzoo', 'gymnasium'}\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & extras))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout
        == "[]\n"
    )


@pytest.mark.parametrize(
    "key", ["mpe2.simple_spread_v3", "mpe2.simple_speaker_listener_v4", "mpe2.simple_tag_v3"]
)
def test_real_environments_train(key, settings):
    chosen = settings("qmix", "pettingzoo", env_args={"key": key, "workers": 0}, t_max=50)
    trainer, _ = trained(chosen)
    assert trainer.at.t == 50 and trainer.at.episodes == 2


def test_different_spaces_are_padded_and_masked():
    env = PettingZoo(PettingZooConfig(key="mpe2.simple_speaker_listener_v4"), 2)
    moment = env.reset(keys(2))
    assert (env.spec.n_agents, env.spec.obs_size, env.spec.n_actions, env.spec.state_size) == (
        2,
        11,
        5,
        22,
    )
    assert moment.avail.sum(2).tolist() == [[3, 5], [3, 5]]
    assert moment.obs[:, 0, 3:].abs().sum() == 0 and moment.obs[:, 1, 3:].abs().sum() > 0
    assert torch.equal(moment.state, moment.obs.flatten(1))


def test_agents_that_leave_masks_first_actions_and_time_outs():
    game = Parallel(PettingZooConfig(key="zoo:leaving"))
    assert (game.spec.n_actions, game.spec.obs_size, game.spec.episode_limit) == (4, 4, 5)
    now = game.reset(0)
    assert now.avail.tolist() == [[1, 1, 0, 0], [0, 1, 1, 0]] and now.obs.tolist() == [
        [1, 0, 0, 0],
        [0, 0, 0, 0],
    ]
    now = game.step(np.array([1, 2]))
    assert (
        now.reward == 4.0
        and now.avail[1].tolist() == [0, 1, 1, 1]
        and now.obs[1].tolist() == [1.0] * 4
    )
    now = game.step(np.array([0, 1]))
    assert now.avail[0].tolist() == [1, 0, 0, 0] and not now.terminated  # the short one is gone
    now = game.step(np.array([0, 1]))
    assert now.reward == 1.0 and now.obs[0].tolist() == [0.0] * 4
    now = game.step(np.array([0, 2]))
    # The value of an action after the time-out is read, so it has to be one that the agent has.
    assert now.avail.tolist() == [[1, 0, 0, 0], [0, 1, 1, 0]]
    assert now.truncated and not now.terminated and now.info["agent_return"].tolist() == [3.0, 6.0]
    together = Parallel(
        PettingZooConfig(key="zoo:leaving", kwargs={"together": True}, reward="mean")
    )
    together.reset(0)
    assert together.step(np.array([1, 2])).reward == 2.0
    assert together.step(np.array([0, 1])).terminated
    short = Parallel(PettingZooConfig(key="zoo:leaving", episode_limit=1))
    short.reset(0)
    assert short.step(np.array([0, 1])).truncated


OBSERVATIONS = (2 * 24, 4 * 8, 3)  # the shape of a picture of them


def after(game: Parallel, moves: list[list[int]]) -> list[tuple[int, ...]]:
    """Shapes of the pictures after each move. A picture of the game's own shows the step."""
    shapes = []
    for chosen in moves:
        game.step(np.array(chosen))
        picture = game.render()
        shapes.append(picture.shape)
        assert picture.shape == OBSERVATIONS or (picture == game.t).all()
    return shapes


def test_a_game_shows_its_own_picture_if_it_has_one():
    game = Parallel(PettingZooConfig(key="zoo:Drawn"))
    plain = Parallel(PettingZooConfig(key="zoo:leaving"))
    assert game.env.unwrapped.render_mode is None  # training makes no pictures
    for one in (game, plain):
        one.reset(0)
    assert game.render().shape == (6, 8, 3) and plain.render().shape == OBSERVATIONS
    assert after(game, [[1, 2], [0, 1]]) == [(6, 8, 3)] * 2
    assert after(plain, [[1, 2], [0, 1]]) == [OBSERVATIONS] * 2
    assert np.array_equal(game.returns, plain.returns)
    game.reset(1)
    assert game.render().shape == (6, 8, 3)
    game.close()


def test_an_episode_that_has_begun_is_not_made_again():
    game = Parallel(PettingZooConfig(key="zoo:Drawn"))
    game.reset(0)
    assert after(game, [[1, 2]]) == [OBSERVATIONS]
    game.reset(1)
    assert game.render().shape == (6, 8, 3)


@pytest.mark.parametrize(
    ("mode", "shape"), [(None, OBSERVATIONS), ("human", OBSERVATIONS), ("rgb_array", (6, 8, 3))]
)
def test_a_mode_that_is_set_is_kept(mode, shape, capsys):
    game = Parallel(PettingZooConfig(key="zoo:Drawn", kwargs={"render_mode": mode}))
    env = game.env
    game.reset(0)
    assert game.render().shape == shape and game.env is env
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("making", "RuntimeError: no screen"),
        ("drawing", "RuntimeError: no screen"),
        ("nothing", "ValueError: render() returned an array of shape ()"),
    ],
)
def test_a_picture_that_fails_is_reported_once(fault, reason, capsys):
    game = Parallel(PettingZooConfig(key="zoo:Drawn", kwargs={"fault": fault}))
    game.reset(0)
    assert game.render().shape == OBSERVATIONS
    assert after(game, [[1, 2]]) == [OBSERVATIONS]
    error = capsys.readouterr().err
    assert error == f"zoo:Drawn: no picture ({reason}); observations instead\n"


def test_a_real_game_is_filmed_as_it_draws_itself(settings):
    args = {"workers": 0, "episode_limit": 2}
    learner = make_run(settings("qmix", "pettingzoo", env_args=args)).learner
    env = PettingZoo(PettingZooConfig(**args), 2)
    shots = [shot for film in shoot(env, learner, 0, 0) for shot in film]
    pictures = [shot.picture for shot in shots]
    assert not any(shot.coloured for shot in shots)  # the game has colours of its own
    assert [picture.shape for picture in pictures] == [(700, 700, 3)] * 6
    # Two films; the first push of an agent moves it at the second step.
    assert len({picture.tobytes() for picture in pictures}) == 4
    env.close()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("missing", "no observation of tall, which is in agents"),
        ("long", "an observation of tall has length 6, and its observation_space 4"),
        ("old reset", "reset must return a tuple of observations, infos"),
        ("old step", "step must return a tuple of observations, rewards, terminations"),
        ("stranger", "a reward for agent_0, which is not in possible_agents"),
    ],
)
def test_a_faulty_world_is_named_in_a_line(fault, said):
    game = Parallel(PettingZooConfig(key="zoo:Wrong", kwargs={"fault": fault}))
    with pytest.raises(UserError, match=f"env_args.key: zoo:Wrong: {said}"):
        game.reset(0)
        game.step(np.zeros(2, dtype=np.int64))


def test_a_state_of_its_own():
    env = PettingZoo(PettingZooConfig(state="own"), 1)
    assert env.reset(keys(1)).state.shape == (1, env.spec.state_size) == (1, 54)
    with pytest.raises(UserError, match=r"env_args\.state"):
        PettingZoo(PettingZooConfig(key="zoo:leaving", state="own"), 1)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (
            {"key": "mine:game"},
            r"env_args\.key: no module named mine was found; put its folder on PYTHONPATH$",
        ),
        (
            {"key": "mpe2.no_such"},
            r"env_args\.key: mpe2\.no_such cannot be imported .*has no module mpe2\.no_such$",
        ),
        (
            {"key": "zoo_that_needs_more"},
            r"\(No module named 'more'\); install the package more: bash run\.sh pip install more$",
        ),
        (
            {"key": "zoo_made_of_more"},
            r"\(No module named 'more'\); install the package more: bash run\.sh pip install more$",
        ),
        ({"key": "pettingzoo.mpe.no_such"}, "mpe2"),
        ({"key": "zoo:no_such"}, "no function 'no_such'"),
        ({"key": "zoo:continuous"}, "not Discrete"),
        ({"key": "os:getcwd"}, "makes no parallel environment of PettingZoo, but a str"),
        ({"kwargs": {"colour": 3}}, r"env_args\.kwargs"),
    ],
)
def test_what_cannot_be_played_is_refused(args, words, tmp_path, monkeypatch):
    (tmp_path / "zoo_that_needs_more.py").write_text("import more")
    (tmp_path / "zoo_made_of_more.py").write_text("def parallel_env():\n    import more")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=words):
        PettingZoo(PettingZooConfig(**args), 1)


@pytest.mark.parametrize("key", ["mpe2.simple_spread_v3", "pettingzoo.butterfly.pistonball_v6"])
def test_what_is_not_installed_is_to_be_installed(key, monkeypatch):
    monkeypatch.setitem(sys.modules, key.split(".")[0], None)
    monkeypatch.delitem(sys.modules, key, raising=False)
    with pytest.raises(UserError, match=r"cannot be imported .*requirements-pettingzoo\.txt"):
        constructor(key)


def test_a_userror_crosses_the_pipe():
    with pytest.raises(UserError, match=r"env_args\.kwargs"):
        PettingZoo(PettingZooConfig(kwargs={"colour": 3}, workers=1), 1)


# The same run


LEARNT = [
    ("eoi_qmix", world, copies)
    for world in sorted(set(worlds()) - {"pettingzoo"})
    for copies in (1, 32)
]


@pytest.mark.parametrize(
    ("algorithm", "world", "copies"),
    [*LEARNT, ("eoi_maac", "pac_men", 32), ("eoi_ippo", "pac_men", 32)],
)
def test_a_run_is_a_function_of_its_seed_for_any_number_of_copies(
    algorithm, world, copies, settings
):
    keys = {
        "batch_size_run": copies,
        "buffer_size": 8000,
        "t_max": 2 * copies,
        "update_interval": 10 * copies,
        "epochs": 2,
    }
    first, again = (trained(chosen)[0] for chosen in [settings(algorithm, world, **keys)] * 2)
    assert first.at.updates > 0 and equal(first, again, ("",))


@pytest.mark.parametrize("copies", [1, 32])
def test_a_run_in_workers_is_the_run_in_one_process(copies, settings):
    keys = {
        "batch_size_run": copies,
        "buffer_size": 8000,
        "t_max": 2 * copies,
        "update_interval": 10 * copies,
    }
    runs = [
        settings("eoi_qmix", "pettingzoo", env_args={"workers": workers}, **keys)
        for workers in (0, 2)
    ]
    here, there = (trained(chosen)[0] for chosen in runs)
    assert here.at.updates > 0 and equal(here, there, ("",))
    for trainer in (here, there):
        trainer.rollout.env.close()
        trainer.tests.env.close()


def test_no_two_episodes_of_a_run_have_the_same_stream(settings):
    """Neither copies, nor episodes, nor training and tests."""
    chosen = settings("qmix", "windy_maze", batch_size_run=32, buffer_size=2000)
    run = make_run(chosen)
    streams = [
        run.episode_keys(name, first, 32)
        for name in ("train", "test")
        for first in range(0, 320, 32)
    ]
    assert len(set(torch.cat(streams).tolist())) == 640
