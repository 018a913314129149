"""The worlds as gymnasium vector environments, against the worlds themselves."""

import numpy as np
import pytest
import torch

pytest.importorskip("gymnasium")

from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from eoi.envs import REGISTRY
from eoi.envs.to_gymnasium import vector_env
from eoi.utils.errors import UserError
from eoi.utils.seeding import fold, root_key

GRIDS = ["firefighters", "pac_men", "windy_maze"]
N = 3


@pytest.mark.parametrize("name", GRIDS)
def test_two_episodes_are_those_of_the_world(name):
    """The step between them, which the world does not have, is the autoreset."""
    cls = REGISTRY[name]
    envs, world = vector_env(name, N), cls(cls.Config(), N)
    envs.action_space.seed(0)
    obs, info = envs.reset(seed=4)
    for episode in range(2):
        now = world.reset(fold(fold(root_key(4, "gymnasium"), episode), torch.arange(N)))
        while True:
            assert envs.observation_space.contains(obs) and np.array_equal(
                obs, now.obs.float().numpy()
            )
            assert np.array_equal(envs.state(), now.state.numpy()) and np.array_equal(
                info["action_mask"], now.avail.numpy()
            )
            if now.done.all():
                break
            actions = envs.action_space.sample()
            now = world.step(torch.as_tensor(actions))
            obs, *rest, info = envs.step(actions)
            for found, expected in zip(
                rest, (now.reward, now.terminated, now.truncated), strict=True
            ):
                assert found.shape == (N,) and np.array_equal(found, expected.numpy())
        assert now.info.keys() == info.keys() - {"action_mask"}
        assert all(np.array_equal(info[key], value.numpy()) for key, value in now.info.items())
        obs, reward, terminated, truncated, info = envs.step(envs.action_space.sample())
        assert not (reward.any() or terminated.any() or truncated.any()) and info.keys() == {
            "action_mask"
        }
    envs.close()


def test_its_spaces_are_gymnasiums():
    envs = vector_env("firefighters", N, tank=8)
    assert (
        isinstance(envs, VectorEnv) and envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    )
    assert envs.world.cfg.tank == 8 and envs.num_envs == N
    assert envs.single_observation_space.shape == (4, 101) and envs.single_action_space.shape == (
        4,
    )
    assert envs.observation_space == batch_space(
        envs.single_observation_space, N
    ) and envs.observation_space.shape == (N, 4, 101)
    assert envs.action_space == batch_space(
        envs.single_action_space, N
    ) and envs.action_space.shape == (N, 4)
    assert (envs.action_space.low == 0).all() and (envs.action_space.high == 5).all()
    envs.reset(seed=0)
    assert [image.shape for image in envs.render()] == [(17 * 16, 17 * 16, 3)] * N


def test_seeds_start_streams_that_go_on():
    envs, other = vector_env("pac_men", 8), vector_env("pac_men", 8)
    first, second, again = envs.reset(seed=1)[0], envs.reset()[0], envs.reset(seed=1)[0]
    assert np.array_equal(first, again) and not np.array_equal(first, second)
    assert np.array_equal(first, other.reset(seed=1)[0]) and not np.array_equal(
        first, other.reset(seed=2)[0]
    )
    assert len({copy.tobytes() for copy in first}) == 8
    assert not np.array_equal(
        vector_env("pac_men", 8).reset()[0], vector_env("pac_men", 8).reset()[0]
    )


def test_gymnasiums_own_wrapper_counts_its_episodes():
    """Its counts are correct only if the autoreset mode is the declared one."""
    envs = vector_env("windy_maze", N)
    counted = RecordEpisodeStatistics(envs)
    counted.reset(seed=0)
    total, ended, given = np.zeros(N), [], []
    for _ in range(3 * 16):
        _, reward, terminated, _, info = counted.step(
            np.full((N, 2), 3) if len(ended) == 1 else envs.action_space.sample()
        )
        total += reward
        if terminated.all():
            ended.append(info["episode"]["l"].tolist())
            given.append(info["episode"]["r"].sum())
    assert ended == [[15] * N] * 3 and sum(given) == total.sum()


def test_who_writes_into_what_was_returned_changes_nothing():
    envs, twin = vector_env("windy_maze", N), vector_env("windy_maze", N)
    envs.reset(seed=0)
    twin.reset(seed=0)
    for _ in range(33):
        actions = twin.action_space.sample()
        *found, info = envs.step(actions)
        *expected, _ = twin.step(actions)
        assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))
        for array in (*found, *info.values()):
            array[:] = 1 - array if array.dtype != bool else ~array


@pytest.mark.parametrize(
    "actions",
    [
        np.full((N, 2), 5),
        np.full((N, 2), -1),
        np.zeros((N, 3), dtype=np.int64),
        np.zeros(N, dtype=np.int64),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_actions_outside_the_space_are_refused(actions):
    envs = vector_env("windy_maze", N)
    envs.reset(seed=0)
    with pytest.raises((ValueError, TypeError)):
        envs.step(actions)


def test_worlds_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match=r"env_args\.tnk"):
        vector_env("firefighters", tnk=8)
    with pytest.raises(UserError, match="sc2: its episodes differ in length"):
        vector_env("sc2")
