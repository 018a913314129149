"""The lite engine against a slow, simple one: one copy, plain Python, one unit at a time.

The slow engine has single precision wherever the game does.
"""

import dataclasses
import math

import numpy as np
import pytest
import torch
from marines import aggressive, at_random, in_line, keys_of, waiting

from eoi.config.schema import parse
from eoi.envs.base import VecEnv
from eoi.envs.grid import AGENT_COLOURS, FLOOR
from eoi.envs.starcraft import physics
from eoi.envs.starcraft.lite import LiteConfig, LiteStarCraft
from eoi.envs.starcraft.maps import GROUND, MAPS
from eoi.envs.starcraft.physics import (
    ATTACK,
    ATTACK_MOVE,
    CARRY_ON,
    MOVE,
    STOP,
    Combat,
    Orders,
    Scenario,
    Squad,
    formation,
)
from eoi.envs.starcraft.picture import LEGEND, draw_fight, enemy_letter
from eoi.pictures.positions import plan
from eoi.utils.errors import UserError
from eoi.utils.seeding import fold, uniform

F = np.float32


# --- the slow engine


@dataclasses.dataclass
class Marine:
    x: F
    y: F
    jitter: F
    team: int
    health: int = 45
    cooldown: float = 0.0
    kind: int = STOP
    goal: tuple[F, F] | None = None
    focus: int | None = None


def length(dx, dy):
    return F(math.sqrt(float(dx * dx) + float(dy * dy)))


def clip(value, low, high):
    return min(max(value, F(low)), F(high))


class SlowFight:
    def __init__(self, map_name, key):
        m = MAPS[map_name]
        self.first, total = m.n_agents, m.n_agents + m.n_enemies
        off, jitter, shuffle = (
            uniform(fold(key, 0), total, 2),
            uniform(fold(key, 1), total),
            uniform(fold(key, 2), m.n_enemies),
        )
        places = formation(m.n_agents, (9.0, 16.0)) + formation(m.n_enemies, (23.0, 16.0))
        spots = [
            tuple(F(at) + F(0.02) * (2 * F(by) - 1) for at, by in zip(*pair, strict=True))
            for pair in zip(places, off, strict=True)
        ]
        enemies = [
            spots[m.n_agents + i]
            for i in sorted(range(m.n_enemies), key=lambda i: float(shuffle[i]))
        ]
        spots = sorted(spots[: m.n_agents]) + enemies
        self.units = [
            Marine(x, y, F(jitter[i]), team=int(i >= m.n_agents)) for i, (x, y) in enumerate(spots)
        ]
        for unit in self.units[m.n_agents :]:
            unit.kind, unit.goal = ATTACK_MOVE, (F(9), F(16))

    def order(self, i, kind, goal=None, target=None):
        unit = self.units[i]
        if unit.health <= 0 or (kind == ATTACK and (target == i or self.units[target].health <= 0)):
            return
        unit.kind, unit.focus = kind, target if kind == ATTACK else None
        if goal is not None:
            unit.goal = self.inside(*goal)

    @staticmethod
    def inside(x, y):
        return clip(x, 0.375, 31.625), clip(y, 8.375, 23.625)

    def nearest(self, i, among):
        """Nearest living unit to unit i and its squared distance, as coarse as in `Combat`."""
        me, low_bits = self.units[i], (1 << (len(self.units) - 1).bit_length()) - 1
        found = []
        for j, unit in enumerate(self.units):
            if j != i and unit.health > 0 and among(unit):
                dx, dy = unit.x - me.x, unit.y - me.y
                found.append((int((dx * dx + dy * dy).view(np.int32)) & ~low_bits, j))
        gap, j = min(found, default=(int(F(np.inf).view(np.int32)), None))
        return np.int32(gap).view(F), j

    def loop(self):
        acts = [self.act(i) for i, unit in enumerate(self.units) if unit.health > 0]
        for i, new, _ in acts:
            new.health = self.units[i].health
            self.units[i] = new
        for _, _, victim in acts:
            if victim is not None:
                self.units[victim].health = max(self.units[victim].health - 6, 0)

    def act(self, i):
        me = dataclasses.replace(self.units[i])
        me.focus = self.choose(i)
        target = None if me.focus is None else self.units[me.focus]
        shoots = (
            target is not None
            and target.health > 0
            and length(target.x - me.x, target.y - me.y) <= F(5.75)
        )
        # A unit whose target has died stands still for this loop.
        old = self.units[i].focus
        waits = old is not None and self.units[old].health <= 0
        step = F(0), F(0)
        if not shoots and not waits and me.kind != STOP:
            # A hunter that gives up turns back in the loop after.
            goal = me.goal if old is None else (self.units[old].x, self.units[old].y)
            wx, wy = goal[0] - me.x, goal[1] - me.y
            share = F(0.140625) / max(length(wx, wy), F(0.140625))
            step = wx * share, wy * share
        dx, dy = self.shift(i, *step)
        me.x, me.y = self.inside(me.x + dx, me.y + dy)
        fires = shoots and me.cooldown <= 0
        me.cooldown = (
            F(0.8608 * 16 - 1) + F(3) * me.jitter if fires else max(me.cooldown - F(1), F(0))
        )
        me.jitter = np.modf(me.jitter + F(physics._GOLDEN))[0]
        return i, me, me.focus if fires else None

    def choose(self, i):
        me = self.units[i]
        if me.kind == ATTACK:
            return me.focus
        if me.kind != ATTACK_MOVE:
            return None
        held = math.inf
        if me.focus is not None and self.units[me.focus].health > 0:
            held = length(self.units[me.focus].x - me.x, self.units[me.focus].y - me.y)
        if held <= 5.75:
            return me.focus
        gap, foe = self.nearest(i, lambda unit: unit.team != me.team)
        if gap <= (5.375 if me.health == 45 else 5.75) ** 2:
            return foe
        return me.focus if held <= 9 else None

    def shift(self, i, sx, sy):
        me, (_, j) = self.units[i], self.nearest(i, lambda unit: True)
        if j is None:
            return sx, sy
        dx, dy = me.x - self.units[j].x, me.y - self.units[j].y
        gap = max(length(dx, dy), F(1e-3))
        overlap = F(0.75) - gap
        if overlap < 0:
            return sx, sy
        dx, dy = dx / gap, dy / gap
        into = min(sx * dx + sy * dy, F(0))
        return sx + dx * (overlap / 2 - into), sy + dy * (overlap / 2 - into)


class SlowSMAC:
    """SMAC's conventions in front of the slow fight."""

    def __init__(self, cfg, key):
        self.cfg, self.map, self.fight = cfg, MAPS[cfg.map_name], SlowFight(cfg.map_name, key)
        self.A, self.U, self.t = self.map.n_agents, 6 + self.map.n_enemies, 0
        self.last = [[0.0] * self.U for _ in range(self.A)]

    @property
    def agents(self):
        return self.fight.units[: self.A]

    @property
    def enemies(self):
        return self.fight.units[self.A :]

    def avail(self, a):
        me, m = self.agents[a], self.cfg.move_amount / 2
        if me.health == 0:
            return [True] + [False] * (self.U - 1)
        x, y = float(me.x), float(me.y)
        cells = [
            (int(x), int(y + m)),
            (int(x), int(y - m)),
            (int(x + m), int(y)),
            (int(x - m), int(y)),
        ]
        moves = [0 <= cx < 32 and 8 <= cy < 24 for cx, cy in cells]
        return [False, True, *moves, *(e.health > 0 and distance(me, e) <= 6 for e in self.enemies)]

    def seen(self, me, other, first):
        if other.health == 0 or distance(me, other) >= 9:
            return [0.0] * (4 + self.cfg.obs_all_health)
        dx, dy = float(other.x) - float(me.x), float(other.y) - float(me.y)
        return [float(first), distance(me, other) / 9, dx / 9, dy / 9] + [
            other.health / 45
        ] * self.cfg.obs_all_health

    def obs(self, a):
        cfg, me, avail = self.cfg, self.agents[a], self.avail(a)
        row = [float(free) for free in avail[2:6]]
        for e, enemy in enumerate(self.enemies):
            row += self.seen(me, enemy, avail[6 + e])
        for b, ally in enumerate(self.agents):
            if b != a:
                row += self.seen(me, ally, True)
                if cfg.obs_last_action:
                    row += (
                        self.last[b]
                        if ally.health > 0 and distance(me, ally) < 9
                        else [0.0] * self.U
                    )
        if cfg.obs_own_health or cfg.obs_all_health:
            row.append(me.health / 45)
        if me.health == 0:
            row = [0.0] * len(row)
        return row + [self.t / self.map.limit] * cfg.obs_timestep_number

    def state(self):
        if self.cfg.obs_instead_of_state:
            return [value for a in range(self.A) for value in self.obs(a)]
        row = []
        for unit in self.fight.units:
            features = [
                unit.health / 45,
                float(unit.cooldown) / 15,
                (float(unit.x) - 16) / 32,
                (float(unit.y) - 16) / 32,
            ]
            features = features if unit.health > 0 else [0.0] * 4
            row += features if unit.team == 0 else [features[0], *features[2:]]
        if self.cfg.state_last_action:
            row += [value for last in self.last for value in last]
        return row + [self.t / self.map.limit] * self.cfg.state_timestep_number

    def step(self, actions):
        units, before = self.fight.units, [u.health for u in self.fight.units]
        for a, action in enumerate(actions):
            self.last[a] = [float(u == action) for u in range(self.U)]
            me, m = self.agents[a], F(self.cfg.move_amount)
            if action == 1:
                self.fight.order(a, STOP)
            elif 2 <= action <= 5:
                dx, dy = {2: (0, m), 3: (0, -m), 4: (m, 0), 5: (-m, 0)}[action]
                self.fight.order(a, MOVE, goal=(me.x + dx, me.y + dy))
            elif action >= 6:
                self.fight.order(a, ATTACK, target=self.A + action - 6)
        for _ in range(self.cfg.step_mul):
            self.fight.loop()
        self.t += 1
        units = self.fight.units
        hurt = [b - u.health for b, u in zip(before, units, strict=True)]
        killed = [10 * (b > 0 and u.health == 0) for b, u in zip(before, units, strict=True)]
        return self.reward(hurt, killed), self.over(), self.won()

    def over(self):
        return not any(u.health for u in self.agents) or not any(u.health for u in self.enemies)

    def won(self):
        return any(u.health for u in self.agents) and not any(u.health for u in self.enemies)

    def reward(self, hurt, killed):
        scale = (55 * self.map.n_enemies + 200) / 20
        if self.cfg.reward_sparse:
            return (self.won() - (self.over() and any(u.health for u in self.enemies))) / scale
        reward = sum(hurt[self.A :]) + sum(killed[self.A :]) + 200 * self.won()
        if not self.cfg.reward_only_positive:
            reward -= 0.5 * (sum(hurt[: self.A]) + sum(killed[: self.A]))
        return reward / scale


def distance(one, other):
    return math.hypot(float(other.x) - float(one.x), float(other.y) - float(one.y))


# --- episodes


def moments(env, player, keys, steps=None):
    """Every moment of one episode, with the actions that led to it (None at first)."""
    moment = env.reset(keys)
    yield None, moment
    for t in range(steps or env.spec.episode_limit):
        actions = player(env, moment, fold(keys, 1000 + t))
        moment = env.step(actions)
        yield actions, moment
        if steps is None and moment.done.all():
            return


def returns(env, player, keys):
    *_, (total, last) = accumulate(moments(env, player, keys))
    return total, last


def accumulate(episode):
    total = 0
    for _, moment in episode:
        total = total + moment.reward
        yield total, moment


# --- against the slow engine


@pytest.mark.parametrize(
    ("player", "changes"),
    [
        (at_random, {}),
        (aggressive, {}),
        (in_line, {}),
        (
            aggressive,
            {
                "map_name": "3m",
                "reward_only_positive": False,
                "obs_last_action": True,
                "step_mul": 5,
            },
        ),
        (
            aggressive,
            {
                "map_name": "5m_vs_6m",
                "obs_all_health": False,
                "obs_timestep_number": True,
                "obs_instead_of_state": True,
            },
        ),
        (
            in_line,
            {
                "map_name": "3m",
                "reward_sparse": True,
                "state_last_action": False,
                "state_timestep_number": True,
            },
        ),
        (
            at_random,
            {
                "map_name": "8m_vs_9m",
                "move_amount": 3.0,
                "obs_all_health": False,
                "obs_own_health": False,
            },
        ),
    ],
)
def test_equals_a_slow_plain_version(player, changes):
    cfg, n = LiteConfig(**changes), 2
    env, keys = LiteStarCraft(cfg, n), keys_of(n, seed=5)
    slow = [SlowSMAC(cfg, key) for key in keys]
    done = [False] * n
    for actions, moment in moments(env, player, keys):
        for k, one in enumerate(slow):
            reward, won = 0.0, moment.info["battle_won"][k]
            if actions is not None and not done[k]:
                reward, done[k], won = one.step(actions[k].tolist())
                done[k] = done[k] or one.t == env.spec.episode_limit
            assert moment.avail[k].tolist() == [one.avail(a) for a in range(one.A)]
            np.testing.assert_allclose(
                moment.obs[k], [one.obs(a) for a in range(one.A)], rtol=0, atol=1e-6
            )
            np.testing.assert_allclose(moment.state[k], one.state(), rtol=0, atol=1e-6)
            assert moment.reward[k].item() == pytest.approx(reward, abs=1e-5)
            assert (moment.done[k].item(), bool(moment.info["battle_won"][k])) == (done[k], won)


# --- the interface


@pytest.mark.parametrize(
    ("map_name", "agents", "actions", "obs", "state", "limit"),
    [
        ("8m", 8, 14, 80, 168, 120),
        ("3m", 3, 9, 30, 48, 60),
        ("5m_vs_6m", 5, 12, 55, 98, 70),
        ("27m_vs_30m", 27, 36, 285, 1170, 180),
    ],
)
def test_shapes(map_name, agents, actions, obs, state, limit):
    env = LiteStarCraft(LiteConfig(map_name=map_name), 2)
    assert isinstance(env, VecEnv)
    spec = env.spec
    assert (spec.n_agents, spec.n_actions, spec.obs_size, spec.state_size) == (
        agents,
        actions,
        obs,
        state,
    )
    assert (spec.episode_limit, spec.fixed_length, spec.reward_max) == (limit, False, 20)
    for _, moment in moments(env, at_random, keys_of(2), steps=1):
        assert (
            moment.obs.shape == (2, agents, obs)
            and moment.obs.dtype == torch.float32
            and moment.obs.is_contiguous()
        )
        assert moment.state.shape == (2, state) and moment.avail.shape == (2, agents, actions)
        assert (
            set(spec.metrics)
            < set(moment.info)
            == {"battle_won", "dead_allies", "dead_enemies", "timed_out"}
        )


def test_every_map_plays():
    for name in MAPS:
        env = LiteStarCraft(LiteConfig(map_name=name), 1)
        assert len(list(moments(env, aggressive, keys_of(1), steps=15))) == 16
        assert (env.combat.health < 45).any()


def test_the_first_moment():
    env = LiteStarCraft(LiteConfig(), 50)
    moment = env.reset(keys_of(50))
    assert (
        not moment.done.any()
        and not moment.reward.any()
        and not moment.avail[..., 0].any()
        and not moment.avail[..., 6:].any()
    )
    assert moment.avail[..., 1:6].all()
    assert (
        not moment.obs[..., 4:44].any() and moment.obs[..., 44::5].eq(1).all()
    )  # no enemy, all allies, full health
    own = env.combat.position[:, :8]
    assert (own[:, 1:, 0] >= own[:, :-1, 0]).all(), "agents are numbered from west to east"
    assert (own.mean(1) - torch.tensor([9.0, 16.0])).abs().max() < 0.5
    order = env.combat.position[:, 8:, 0].argsort(1)
    assert len({tuple(row) for row in order.tolist()}) > 40, "enemies are numbered at random"


def test_a_finished_copy_stands_still():
    env, n = LiteStarCraft(LiteConfig(map_name="3m"), 6), 6
    before, waited = None, 0
    for _, moment in moments(env, aggressive, keys_of(n), steps=60):
        if before is not None and before.done.any():
            old = before.done
            assert moment.done[old].all() and not moment.reward[old].any()
            for name in ("obs", "state", "avail", "terminated", "truncated"):
                assert torch.equal(getattr(moment, name)[old], getattr(before, name)[old])
            assert all(
                torch.equal(moment.info[name][old], before.info[name][old]) for name in moment.info
            )
            waited += int(old.sum())
        before = moment
        assert moment.avail.any(2).all()
    assert waited > 50
    picture = env.render(0)
    env.step(torch.full((n, 3), 99))  # whatever it is told
    assert (env.render(0) == picture).all()


def test_an_episode_depends_on_its_key_and_actions_only():
    def record(n, shift=0):
        env = LiteStarCraft(LiteConfig(), n)
        return [m for _, m in moments(env, aggressive, keys_of(40)[shift : shift + n], steps=40)]

    for wide, again, one in zip(record(40), record(40), record(1, shift=33), strict=True):
        for name in ("obs", "state", "avail", "reward", "terminated"):
            assert torch.equal(getattr(wide, name), getattr(again, name))
            assert torch.equal(getattr(wide, name)[33], getattr(one, name)[0])


def test_what_is_not_available_is_refused_by_name():
    env = LiteStarCraft(LiteConfig(), 3)
    env.reset(keys_of(3))
    for wrong in (6, 0, 14, -1):
        actions = torch.ones(3, 8, dtype=torch.int64)
        actions[2, 5] = wrong
        with pytest.raises(ValueError, match=f"copy 2: action {wrong} is not available to agent 5"):
            env.step(actions)
    env.step(torch.ones(3, 8, dtype=torch.int64))


def test_settings_are_refused_by_name():
    with pytest.raises(UserError, match=r"env_args\.map_name.*'8n'.*There are: .*8m"):
        LiteStarCraft(LiteConfig(map_name="8n"), 1)
    with pytest.raises(UserError, match=r"env_args\.difficulty"):
        parse(LiteConfig, {"difficulty": "A"}, "env_args.")
    with pytest.raises(UserError, match=r"env_args\.replay_dir: there is no such setting"):
        parse(LiteConfig, {"replay_dir": "x"}, "env_args.")
    assert parse(LiteConfig, {"map_name": "3m", "reward_win": 100}).reward_win == 100.0


def test_pictures():
    env = LiteStarCraft(LiteConfig(), 2)
    *_, (_, moment) = moments(env, in_line, keys_of(2), steps=14)
    picture = env.render(1)
    assert picture.shape == (360, 640, 3) and picture.dtype == np.uint8
    lines = env.text(1).split("\n")
    assert len(lines) == 1 + 16 + 1 + 2 and max(len(line) for line in lines[:18]) <= 64
    alive = moment.obs[1, :, -1] > 0
    agents = {tuple(colour) for colour in picture.reshape(-1, 3).tolist()} & {
        tuple(colour) for colour in AGENT_COLOURS.tolist()
    }
    assert len(agents) == alive.sum()
    assert [str(a) in "".join(lines[:18]) for a in range(8)] == alive.tolist()
    assert lines[18].startswith("0:") and lines[19].startswith("A:")
    env.close()


def fight(health: list[float], radius: float = 0.375) -> np.ndarray:
    """Two agents and two enemies in a row, at the middle of cells 2, 4, 6 and 8."""
    position = np.array([[2.5 + 2 * j, 1.5] for j in range(4)])
    radii, ground = np.full(4, radius), np.ones((3, 11), dtype=bool)
    return draw_fight(ground, position, np.array(health, float), radii, np.arange(4), 2)


def names_in(picture: np.ndarray, left: int, colour: tuple[int, int, int]) -> list[np.ndarray]:
    """Where each unit's cell has about the colour: 11 x 11 pixels from `left` on."""
    near = (np.abs(picture.astype(int) - colour) < 100).all(-1)
    return [near[25:36, 20 * cell + left :][:, :11] for cell in (2, 4, 6, 8)]


WHITE, DARK = (255, 255, 255), LEGEND["enemy"]


@pytest.mark.parametrize(("radius", "left", "ink"), [(0.375, 5, WHITE), (0.2, 16, DARK)])
def test_units_carry_their_names(radius, left, ink):
    """Inside of their circle, or on the right of a small one."""
    names = names_in(fight([1, 1, 1, 1], radius), left, ink)
    assert all(name.sum() > 3 for name in names)
    assert len({name.tobytes() for name in names}) == 4  # 0, 1, A, B
    one_dead = fight([1, 1, 0, 0.5], radius)
    assert (one_dead[:, 120:140] == FLOOR).all()
    first, second, _, last = names_in(one_dead, left, ink)
    np.testing.assert_array_equal([first, second, last], [*names[:2], names[3]])


def test_letters_of_enemies_are_those_of_the_actions():
    env = LiteStarCraft(LiteConfig(map_name="27m_vs_30m"), 1)
    env.reset(keys_of(1))
    letters = [enemy_letter(i) for i in range(30)]
    assert letters[:2] == ["A", "B"] and letters[25:] == ["Z", "AA", "BB", "CC", "DD"]
    assert list(env.action_names[6:]) == [f"attack {letter}" for letter in letters]
    assert "DD:45" in env.text()


def test_position_maps_show_the_walkable_band():
    env = LiteStarCraft(LiteConfig(), 1)
    env.reset(keys_of(1))
    walls, count = plan(env)
    assert walls.shape == (16, 32) and not walls.any()
    for visits, (x, y) in zip(count(torch.tensor([True])), env.xy[0].tolist(), strict=True):
        assert visits.sum() == 1 and visits[23 - int(y), int(x)] == 1


# --- how fights end


def put(combat, **rows):
    combat._state = combat._state._replace(
        **{name: combat._x.array(row) for name, row in rows.items()}
    )


def test_timing_out_is_truncation():
    env = LiteStarCraft(LiteConfig(step_mul=1), 4)  # too short for a decision
    total, moment = returns(env, waiting, keys_of(4))
    assert env._t.tolist() == [120] * 4
    assert moment.truncated.all() and not moment.terminated.any() and moment.info["timed_out"].all()
    assert not moment.info["battle_won"].any() and not total.any()


JUST_MORE = 9 + 2**-10  # cells; exact in single precision, as is 9


@pytest.mark.parametrize(("distance", "seen"), [(9 - 2**-10, True), (9.0, False)])
@pytest.mark.parametrize("other", [1, 3], ids=["an ally", "an enemy"])
def test_sight_ends_before_nine_cells(other, distance, seen):
    """As in SMAC, a unit at exactly the sight range is not observed."""
    env = LiteStarCraft(LiteConfig(map_name="3m"), 1)
    env.reset(keys_of(1))
    place = torch.tensor([[1000.0 * u for u in range(1, 7)], [16.0] * 6])
    place[0, 0], place[0, other] = 5.0, 5.0 + distance
    health = torch.zeros(6)
    health[[0, other]] = 45.0
    put(env.combat, position=place, health=health)
    obs = env._moment(env.combat.health.T).obs[0, 0]
    first = 4 + 5 * (0 if other == 3 else 3)  # features of enemy 0, or of the first ally
    expected = [float(seen and other != 3), distance / 9, distance / 9, 0, 1] if seen else [0.0] * 5
    assert obs[first : first + 5].tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("distance", "target"), [(9.0, 1), (JUST_MORE, 0)])
def test_a_hunter_follows_its_target_up_to_nine_cells(distance, target):
    combat = Combat(Scenario((Squad(1, (5.0, 16.0)), Squad(1, (14.0, 16.0))), GROUND), 1)
    combat.spawn(keys_of(1))
    goal = torch.tensor([[[1.0, 16.0], [14.0, 16.0]]])
    kind, no_target = torch.tensor([[ATTACK_MOVE, STOP]]), torch.zeros(1, 2, dtype=torch.int64)
    combat.command(Orders(kind, goal, no_target))
    place = torch.tensor([[5.0, 5.0 + distance], [16.0, 16.0]])
    put(combat, position=place, focus=torch.tensor([1, 1], dtype=torch.int32))
    combat.advance(1)
    assert combat.focus.tolist() == [[target, 1]]


def test_mutual_death_is_no_victory():
    env = LiteStarCraft(LiteConfig(map_name="3m"), 1)
    moment = env.reset(keys_of(1))
    place = torch.tensor([[1000.0, 2000, 14, 18, 4000, 5000], [16.0] * 6])
    health = torch.tensor([0.0, 0, 6, 6, 0, 0])
    put(env.combat, position=place, health=health)
    moment = env._moment(env.combat.health.T)
    assert moment.avail[0].nonzero().tolist() == [
        [0, 0],
        [1, 0],
        *([2, u] for u in (1, 2, 3, 4, 5, 6)),
    ]
    moment = env.step(torch.tensor([[0, 0, 6]]))
    assert (
        moment.terminated.all()
        and not moment.truncated.any()
        and not moment.info["battle_won"].any()
    )
    assert moment.info["dead_allies"].item() == moment.info["dead_enemies"].item() == 3
    assert moment.reward.item() == pytest.approx((6 + 10) / ((3 * 55 + 200) / 20))


def test_random_agents_lose():
    total, moment = returns(LiteStarCraft(LiteConfig(), 50), at_random, keys_of(50))
    assert 1.5 < total.mean() < 3.5 and not moment.info["battle_won"].any()


def test_agents_that_stop_never_shoot():
    total, moment = returns(LiteStarCraft(LiteConfig(), 20), waiting, keys_of(20))
    assert not total.any() and moment.terminated.all() and (moment.info["dead_allies"] == 8).all()


def test_focused_fire_wins_and_a_victory_is_worth_20():
    total, moment = returns(LiteStarCraft(LiteConfig(), 40), in_line, keys_of(40))
    won = moment.info["battle_won"] > 0
    assert won.float().mean() >= 0.9
    torch.testing.assert_close(total[won], torch.full_like(total[won], 20))
    assert (moment.info["dead_enemies"][won] == 8).all() and (total[~won] < 20).all()


# --- the physics alone


def duel(gap, n=1, goal=None):
    """Two marines on one line; the first waits."""
    return Combat(
        Scenario(
            (Squad(1, (10.0, 16.0)), Squad(1, (10.0 + gap, 16.0), goal)), ((0.0, 8.0), (32.0, 24.0))
        ),
        n,
    )


def orders(combat, unit, kind, goal=(0.0, 0.0), target=0):
    """Orders that tell one unit something."""
    shape = combat.n_copies, combat.n_units
    kinds, goals, targets = (
        torch.full(shape, CARRY_ON),
        torch.zeros(*shape, 2),
        torch.zeros(shape, dtype=torch.int64),
    )
    kinds[:, unit], goals[:, unit], targets[:, unit] = kind, torch.tensor(goal), target
    return Orders(kinds, goals, targets)


def test_a_marine_walks_at_its_speed_and_stops_at_its_goal():
    combat = duel(20)
    combat.command(orders(combat, 0, MOVE, (12.0, 16.0)))
    combat.advance(8)
    assert combat.position[0, 0].tolist() == [11.125, 16.0]
    combat.advance(8)
    assert combat.position[0, 0].tolist() == [12.0, 16.0]
    combat.command(orders(combat, 0, MOVE, (12.0, -40.0)))
    combat.advance(200)
    assert combat.position[0, 0].tolist() == [12.0, 8.375]
    combat.command(orders(combat, 0, MOVE, (20.0, 8.375)))
    combat.advance(1)
    combat.command(orders(combat, 0, STOP))
    combat.advance(5)
    assert combat.position[0, 0].tolist() == [12.140625, 8.375]
    assert combat.loops.tolist() == [222]


def test_an_attacker_walks_into_reach_and_shoots_once_a_period():
    combat = duel(5.9, n=300)
    combat.spawn(keys_of(300))
    combat.command(orders(combat, 0, ATTACK, target=1))
    combat.advance(3)
    assert (combat.health == torch.tensor([45.0, 39.0])).all()
    gap = combat.position[:, 1, 0] - combat.position[:, 0, 0]
    assert ((gap <= 5.75) & (gap > 5.75 - 0.15)).all()
    first = combat.cooldown[:, 0] + 2  # one or two loops may have passed since the shot
    assert (
        first.min() >= 13.77 - 1
        and first.max() <= 13.77 + 2 + 2
        and 14.27 - 0.3 < (first.mean() - 1.5) < 14.27 + 0.8
    )
    combat.advance(18)
    assert (combat.health[:, 1] == 33).all()


def test_periods_are_spread_evenly():
    combat = duel(3.0, n=500)
    combat.spawn(keys_of(500))
    combat.command(orders(combat, 0, ATTACK, target=1))
    for _ in range(3):
        combat.advance(1)
        period = combat.cooldown[:, 0] - 0.8608 * 16
        assert (
            period.min() >= -1 and period.max() <= 2 and period.min() < -0.9 and period.max() > 1.9
        )
        assert period.mean().item() == pytest.approx(0.5, abs=0.15)
        put(combat, cooldown=torch.zeros(1000))


def test_orders_that_cannot_be_followed_leave_the_earlier_ones():
    combat = duel(12.0)
    combat.command(orders(combat, 0, MOVE, (20.0, 16.0)))
    combat.command(orders(combat, 0, ATTACK, target=0))
    combat.command(orders(combat, 1, STOP))
    combat.advance(1)
    assert combat.position[0, 0, 0].item() == 10.140625 and combat.focus.tolist() == [[0, 1]]
    combat.kill(torch.tensor([[False, True]]))
    assert combat.health.tolist() == [[45.0, 0.0]]
    combat.command(orders(combat, 0, ATTACK, target=1))
    combat.command(orders(combat, 1, MOVE, (1.0, 16.0)))
    combat.advance(1)
    assert combat.position[0, 0, 0].item() == 10.28125 and combat.focus.tolist() == [[0, 1]]


def test_a_hunter_notices_what_is_near_and_answers_fire_from_farther():
    combat = duel(5.5, goal=(15.5, 16.0))
    combat.advance(50)
    assert combat.health.tolist() == [[45.0, 45.0]] and combat.focus.tolist() == [[0, 1]]
    combat.command(orders(combat, 0, ATTACK, target=1))
    combat.advance(2)
    assert combat.health.tolist() == [[39.0, 39.0]] and combat.focus.tolist() == [[1, 0]]
    combat.command(orders(combat, 0, MOVE, (1.0, 16.0)))
    combat.advance(32)
    assert combat.position[0, 1, 0] < 13.5, "it follows its target"


def test_paused_copies_and_divided_advances():
    def fight(n):
        combat = Combat(MAPS["5m_vs_6m"].scenario, n)
        combat.spawn(keys_of(n))
        combat.command(
            Orders(
                torch.full((n, 11), ATTACK_MOVE),
                torch.full((n, 11, 2), 16.0),
                torch.zeros(n, 11, dtype=torch.int64),
            )
        )
        return combat

    whole, divided, one = fight(9), fight(9), fight(1)
    paused = torch.arange(9) == 4
    for _ in range(12):
        whole.advance(12)
        divided.advance(5)
        divided.advance(2, paused=torch.ones(9, dtype=torch.bool))
        divided.advance(7)
        one.advance(12)
    assert (whole.health[:, 0] < 45).any()
    for name in ("position", "health", "cooldown", "focus"):
        assert torch.equal(getattr(whole, name), getattr(divided, name))
        assert torch.equal(getattr(whole, name)[:1], getattr(one, name))
    assert divided.loops.tolist() == [144] * 9
    before = whole.position[4].clone(), whole.health[4].clone()
    whole.advance(20, paused=paused)
    assert torch.equal(before[0], whole.position[4]) and torch.equal(before[1], whole.health[4])
    assert whole.loops.tolist() == [144 if k == 4 else 164 for k in range(9)]


@pytest.mark.parametrize("map_name", ["3m", "8m_vs_9m"])
def test_numpy_and_torch_agree(monkeypatch, map_name):
    def fights(short):
        monkeypatch.setattr(physics, "_SHORT", short)
        env = LiteStarCraft(LiteConfig(map_name=map_name), 20)
        for _, moment in moments(env, aggressive, keys_of(20), steps=60):
            yield env.combat, moment

    for (by_numpy, one), (by_torch, other) in zip(fights(10**6), fights(0), strict=True):
        assert isinstance(by_numpy._state.health, np.ndarray) and isinstance(
            by_torch._state.health, torch.Tensor
        )
        assert all(
            torch.equal(torch.as_tensor(a), b)
            for a, b in zip(by_numpy._state, by_torch._state, strict=True)
        )
        assert torch.equal(one.obs, other.obs) and torch.equal(one.state, other.state)
    assert other.done.sum() > 0, "some fights came to their end"


def test_equal_squads_are_equal():
    """Both attack-move to the middle: neither the order of units nor the side favours one squad."""
    n = 200
    squads = (
        Squad(7, (9.0, 16.0), (16.0, 16.0)),
        Squad(7, (23.0, 16.0), (16.0, 16.0)),
    )  # seven form a hexagon, equal from both sides
    combat = Combat(Scenario(squads, GROUND), n)
    combat.spawn(keys_of(n))
    combat.advance(700)
    left = (combat.health > 0).view(n, 2, 7).any(2)
    assert not left.all(1).any()
    assert 0.35 < left[:, 0].float().mean() < 0.65


def test_marines_do_not_stand_inside_each_other():
    env, gaps = LiteStarCraft(LiteConfig(), 20), []
    for _, moment in moments(env, aggressive, keys_of(20), steps=30):
        alive = (env.combat.health > 0) & ~moment.done[:, None]
        place = env.combat.position + 1000 * ~alive[..., None] * torch.arange(16)[:, None]
        gaps.append((torch.cdist(place, place) + 9 * torch.eye(16)).amin(2)[alive])
    least, most = torch.cat(gaps).quantile(torch.tensor([0.01, 0.5]))
    assert least > 0.3 and most > 0.7


@pytest.mark.parametrize("size", [1, 2, 8, 30])
def test_formation(size):
    places = torch.tensor(formation(size, (9.0, 16.0)))
    assert places.shape == (size, 2) and places[0].tolist() == [9, 16]
    gaps = torch.cdist(places, places) + 9 * torch.eye(size)
    assert gaps.min() > 0.79 and (places - places[0]).norm(dim=1).max() < 0.8 * (
        1 + size**0.5 / 1.6
    )
