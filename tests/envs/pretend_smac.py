"""A stand-in for SMAC's StarCraft2Env: its arguments, methods, order of events, and dying games.

The actions of agent 0 decide the fight. An attack (action 6 and above) kills an enemy, a stop (1)
kills an agent, and a move has no effect. All units have health 45.
"""

from types import SimpleNamespace

import numpy as np
from pysc2 import run_configs
from pysc2.lib import protocol
from smac.env.starcraft2.maps.smac_maps import get_smac_map_registry


class StarCraft2Env:
    def __init__(  # noqa: PLR0913 # SMAC's own
        self,
        map_name="8m",
        step_mul=8,
        move_amount=2,
        difficulty="7",
        game_version=None,
        seed=None,
        continuing_episode=False,
        obs_all_health=True,
        obs_own_health=True,
        obs_last_action=False,
        obs_pathing_grid=False,
        obs_terrain_height=False,
        obs_instead_of_state=False,
        obs_timestep_number=False,
        state_last_action=True,
        state_timestep_number=False,
        reward_sparse=False,
        reward_only_positive=True,
        reward_death_value=10,
        reward_win=200,
        reward_defeat=0,
        reward_negative_scale=0.5,
        reward_scale=True,
        reward_scale_rate=20,
        replay_dir="",
        replay_prefix="",
        window_size_x=1920,
        window_size_y=1200,
        heuristic_ai=False,
        heuristic_rest=False,
        debug=False,
    ):
        self.map, self.game_version, self._seed = (
            get_smac_map_registry()[map_name],
            game_version,
            seed,
        )
        self.n_agents, self.n_enemies = self.map["n_agents"], self.map["n_enemies"]
        self.n_actions = 6 + self.n_enemies
        self.replay_dir, self.replay_prefix = replay_dir, replay_prefix
        self.max_reward = self.n_enemies * reward_death_value + reward_win
        self.battles_game = self.battles_won = self.timeouts = self.force_restarts = (
            self._episode_count
        ) = 0
        self.map_x, self.map_y, self.pathing_grid = 32, 24, np.ones((32, 24), dtype=bool)
        self._sc2_proc = None
        self.obs_timestep_number, self.obs_instead_of_state = (
            obs_timestep_number,
            obs_instead_of_state,
        )

    def get_env_info(self):
        return {
            "state_shape": (4 + self.obs_timestep_number) * self.n_agents
            if self.obs_instead_of_state
            else 3,
            "obs_shape": 4 + self.obs_timestep_number,
            "n_actions": self.n_actions,
            "n_agents": self.n_agents,
            "episode_limit": self.map["limit"],
        }

    def unit_sight_range(self, agent_id):
        return 9

    def unit_shoot_range(self, agent_id):
        return 6

    def _launch(self):
        self._run_config = run_configs.get(version=self.game_version)
        self._sc2_proc = self._run_config.start(window_size=(1920, 1200), want_rgb=False)
        self.random = np.random.default_rng(self._seed)
        self.max_reward += 45 * self.n_enemies

    def full_restart(self):
        self._sc2_proc.close()
        self._launch()
        self.force_restarts += 1

    def _ask(self):
        if not self._sc2_proc.running:
            raise protocol.ConnectionError("Connection already closed. SC2 probably crashed.")

    def reset(self):
        if self._episode_count == 0:
            self._launch()
        try:
            self._ask()
        except protocol.ConnectionError:
            self.full_restart()
        self._episode_steps = 0
        squads = [
            self._squad(count, x) for count, x in ((self.n_agents, 9.0), (self.n_enemies, 23.0))
        ]
        self.agents, self.enemies = squads
        return self.get_obs(), self.get_state()

    def _squad(self, count, x):
        def unit(i):
            return SimpleNamespace(
                pos=SimpleNamespace(x=x, y=8.0 + i), health=45.0, health_max=45.0, radius=0.375
            )

        return {i: unit(i) for i in range(count)}

    def step(self, actions):
        assert all(self.get_avail_actions()[i][action] for i, action in enumerate(actions))
        try:
            self._ask()
        except protocol.ConnectionError:
            self.full_restart()
            return 0, True, {}
        self._episode_steps += 1
        hit = self.enemies if actions[0] >= 6 else self.agents if actions[0] == 1 else {}
        for unit in [unit for unit in hit.values() if unit.health][-1:]:
            unit.health = 0.0
        dead = [
            sum(unit.health == 0 for unit in squad.values())
            for squad in (self.agents, self.enemies)
        ]
        info = {
            "battle_won": dead[1] == self.n_enemies,
            "dead_allies": dead[0],
            "dead_enemies": dead[1],
        }
        over = dead[0] == self.n_agents or dead[1] == self.n_enemies
        if not over and self._episode_steps >= self.map["limit"]:
            over, self.timeouts = True, self.timeouts + 1
        self.battles_game += over
        self._episode_count += over
        return 10.0 * bool(hit is self.enemies) / (self.max_reward / 20), over, info

    def get_obs(self):
        values = (self.unit_sight_range(0), self.unit_shoot_range(0))
        time = (
            [0, self._episode_steps / self.map["limit"]] if self.obs_timestep_number else []
        )  # one too many, as in SMAC
        return [
            np.array([*values, unit.health, self._episode_steps, *time], dtype=np.float32)
            for unit in self.agents.values()
        ]

    def get_state(self):
        if self.obs_instead_of_state:
            return np.concatenate(self.get_obs())
        return np.array([self._seed % 1000, self.random.random(), self._episode_steps])

    def get_avail_actions(self):
        return [
            [int((u == 0) == (unit.health == 0)) for u in range(self.n_actions)]
            for unit in self.agents.values()
        ]

    def save_replay(self):
        self._run_config.save_replay(b"replay", self.replay_dir, self.replay_prefix)

    def close(self):
        if self._sc2_proc:
            self._sc2_proc.close()
