"""The batched world against a slow, simple one, and returns that can be reached."""

import itertools

import numpy as np
import pytest
import torch

from eoi.config import loader
from eoi.envs import configured
from eoi.envs.pac_men import EAT, ROOMS, PacMen, PacMenConfig
from eoi.utils.errors import UserError
from helpers import keys

TWO_ROOMS = """
###########
###########
##.TT######
##.T..S.L##
#####..LL##
###########
###########
"""  # with two walls around it, as SlowPacMen needs


class SlowPacMen:
    """One copy, in dictionaries and loops, on the drawing itself."""

    def __init__(self, world: PacMen):
        self.grid, self.cells = world.map.grid, world.map.cells
        self.t, self.limit = 0, world.cfg.episode_limit
        self.agents = [self.cells[i] for i in world.position[0].tolist()]
        dots = world._maps[0, 0, :-1].tolist()
        self.dots = {cell for cell, dot in zip(self.cells, dots, strict=True) if dot}
        self.eaten = [0] * len(self.agents)
        self.rooms: set[str] = set()

    def step(self, actions: list[int]) -> float:
        self.t += 1
        for i, action in enumerate(actions):
            if action < 4:
                (r, c), (dr, dc) = self.agents[i], [(-1, 0), (1, 0), (0, -1), (0, 1)][action]
                if self.grid[r + dr, c + dc] != "#":
                    self.agents[i] = (r + dr, c + dc)
        for i, action in enumerate(actions):
            if action == 4 and self.agents[i] in self.dots:
                self.dots.remove(self.agents[i])
                self.eaten[i] += 1
        self.rooms |= {self.grid[cell] for cell in self.agents} & set("TBLR")
        return float(sum(self.eaten)) if self.t == self.limit else 0.0

    def obs(self, i: int) -> list[int]:
        row, column = self.agents[i]
        view = [(row + dr, column + dc) for dr in range(-2, 3) for dc in range(-2, 3)]
        wall = [int(self.grid[cell] == "#") for cell in view]
        dots = [int(cell in self.dots) for cell in view]
        others = [sum(a == cell for j, a in enumerate(self.agents) if j != i) for cell in view]
        return wall + dots + others

    def state(self) -> list[float]:
        agents = [sum(a == cell for a in self.agents) for cell in self.cells]
        return [*agents, *(int(cell in self.dots) for cell in self.cells), self.t / self.limit]


def play(world: PacMen, slow: SlowPacMen, moment, seed: int):
    torch.manual_seed(seed)
    for _ in range(world.cfg.episode_limit):
        for i in range(4):
            assert moment.obs[0, i].tolist() == slow.obs(i)
        assert moment.state[0].tolist() == pytest.approx(slow.state())
        actions = torch.randint(0, 5, (1, 4))
        moment, reward = world.step(actions), slow.step(actions[0].tolist())
        assert moment.reward.item() == reward
    return moment


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"easy": True, "dots_per_room": 6},
        {"dots_per_room": 15, "corridors": (1, 1, 1, 1)},
        {"dots_per_room": 2, "layout": TWO_ROOMS, "distinct_starts": False},
    ],
)
def test_equals_the_slow_one_on_random_play(seed, changes):
    world = PacMen(PacMenConfig(**changes), 1)
    moment = world.reset(keys(1, seed=seed))
    slow = SlowPacMen(world)
    moment = play(world, slow, moment, seed)
    assert moment.info["dots_eaten"][0].tolist() == slow.eaten
    assert moment.info["rooms_visited"].item() == len(slow.rooms)
    at_end = {slow.grid[cell] for cell in slow.agents} & set("TBLR")
    assert moment.info["rooms_occupied"].item() == len(at_end)
    assert [("TBLR"[k] if k < 4 else None) for k in moment.info["room"][0].tolist()] == [
        slow.grid[cell] if slow.grid[cell] in "TBLR" else None for cell in slow.agents
    ]


def test_geometry():
    """A 3x3 centre, four 3x5 rooms, corridors top 3, bottom 1, left 2, right 2, in 21x21."""
    world = PacMen(PacMenConfig(), 1)
    letters, counts = np.unique(world.map.grid, return_counts=True)
    assert world.map.grid.shape == (21, 21)
    assert dict(zip(letters.tolist(), counts.tolist(), strict=True)) == {
        "#": 441 - 77,
        ".": 8,
        "S": 9,
        "T": 15,
        "B": 15,
        "L": 15,
        "R": 15,
    }
    assert (world.map.grid[:, 0] == "#").all() and (world.map.grid[:2] == "#").all()
    assert (
        world.spec.obs_size,
        world.spec.state_size,
        world.spec.n_actions,
        world.spec.reward_max,
    ) == (75, 155, 5, 40.0)


def test_starts_and_dots_are_distinct_and_vary():
    world = PacMen(PacMenConfig(), 400)
    world.reset(keys(400))
    centre = set(world.map.region("S").tolist())
    starts = world.position.tolist()
    assert all(len(set(row)) == 4 and set(row) <= centre for row in starts)
    assert len({tuple(row) for row in starts}) > 300
    dots = world._maps[:, 0, :-1].bool()
    for room in "TBLR":
        in_room = dots[:, world.map.region(room)]
        assert (in_room.sum(1) == 10).all()
        assert in_room.float().mean(0).sub(10 / 15).abs().max() < 0.1
    assert dots.sum() == 400 * 40


def test_one_common_start_and_hidden_others():
    world = PacMen(PacMenConfig(distinct_starts=False, see_others=False), 5)
    moment = world.reset(keys(5))
    assert world.position.unique().numel() == 1
    assert moment.obs[..., 50:].sum() == 0
    assert PacMen(PacMenConfig(distinct_starts=False), 5).reset(keys(5)).obs[0, 0, 50 + 12] == 3


def test_a_dot_eaten_by_two_is_one_dot():
    world = PacMen(PacMenConfig(), 1)
    world.reset(keys(1))
    dot = int(world._maps[0, 0].nonzero()[0])
    world._position = torch.tensor([[dot, dot, dot, dot]])
    world.step(torch.full((1, 4), 4))
    assert world._eaten[0].tolist() == [1, 0, 0, 0]
    assert world._maps[0, 0].sum() == 39


def test_the_reward_comes_once_and_the_world_then_stands_still():
    world = PacMen(PacMenConfig(dots_per_room=15), 3)
    moment = world.reset(keys(3))
    for t in range(30):
        assert not moment.done.any() and moment.reward.sum() == 0
        moment = world.step(torch.full((3, 4), (1, 1, 1, 1, 4)[t % 5]))
    assert moment.terminated.all() and not moment.truncated.any() and moment.reward.sum() > 0
    again = world.step(torch.zeros(3, 4, dtype=torch.long))
    assert torch.equal(again.obs, moment.obs) and again.reward.sum() == 0 and again.terminated.all()


def test_a_drawn_map_replaces_the_generated_one():
    tiny = "\n".join(["#######", "#TTSBB#", "#LLSRR#", "#######"])
    world = PacMen(PacMenConfig(layout=tiny, n_agents=2, dots_per_room=2), 2)
    assert world.spec.n_cells == 10
    assert world.reset(keys(2)).state.sum(1).tolist() == [2 + 8, 2 + 8]


def between(world: PacMen) -> torch.Tensor:
    """Moves from each free cell to each other, [C, C]."""
    table = world.map.neighbours
    far = torch.full((len(table), len(table)), 99).fill_diagonal_(0)
    for _ in table:
        far = torch.minimum(far, far[:, table].amin(2) + 1)
    return far


def tours(dots: int) -> np.ndarray:
    """[K] fewest moves from a room's door that visit all cells of a set, for each set of cells."""
    world = PacMen(PacMenConfig(), 1)
    room = world.map.region("T")
    far = between(world)[room][:, room].numpy()
    door, cells = int(between(world)[world.map.region("S")[0], room].argmin()), np.arange(len(room))
    count = (np.arange(1 << len(room))[:, None] >> cells & 1).sum(
        1
    )  # a set is the bits of a number
    moves = np.full(
        (1 << len(room), len(room)), 99
    )  # of the shortest walk through a set that ends in a cell of it
    moves[1 << cells, cells] = far[door]
    for size in range(1, dots):
        sets = np.flatnonzero(count == size)
        onward = (moves[sets][:, :, None] + far).min(1)  # [K, cell]
        for cell in cells:
            without = sets >> cell & 1 == 0
            more = sets[without] | 1 << cell
            moves[more, cell] = np.minimum(moves[more, cell], onward[without, cell])
    return moves[count == dots].min(1)


def test_an_agent_has_time_for_one_room():
    """Of all sets of 10 cells of a room, 21 take 15 moves and the others at most 13.

    With 10 steps to eat, T = 30 leaves 7 moves to reach the room for the others, and 5 for the 21.
    No start is more than 7 moves away. All rooms are alike from their door on.
    """
    world, moves = PacMen(PacMenConfig(), 1), tours(10)
    assert len(moves) == 3003 and (moves > 13).sum() == 21 and moves.max() == 15
    starts = between(world)[world.map.region("S")]
    assert max(int(starts[:, world.map.region(name)].amin(1).max()) for name in ROOMS) == 7
    assert 7 + 13 + 10 == world.cfg.episode_limit == 5 + 15 + 10


def test_nobody_has_time_for_two_rooms():
    """An agent eats at most 11 dots.

    n dots take n steps to eat, a move between two dots of a room, the way to the first room, and
    the way between two rooms.
    """
    world = PacMen(PacMenConfig(), 1)
    far, rooms = between(world), [world.map.region(name) for name in ROOMS]
    first = min(int(far[world.map.region("S")][:, room].min()) for room in rooms)
    onward = min(int(far[one][:, other].min()) for one, other in itertools.permutations(rooms, 2))
    assert (first, onward) == (2, 7)
    steps = {n: first + n + (n - 1) + (onward - 1) * (n > 10) for n in range(1, 21)}
    assert max(n for n in steps if steps[n] <= world.cfg.episode_limit) == 11


def test_a_room_each_and_the_nearest_dot_first_is_nearly_the_best_return():
    """A dot is left in about 1 of 100 episodes."""
    returns = greedy_team(PacMen(PacMenConfig(), 400))
    assert returns.min() >= 39 and (returns == 40).float().mean() > 0.97


def greedy_team(world: PacMen) -> torch.Tensor:
    """Returns [N] of agents that go to the nearest dot of their room.

    They are sent to the map's rooms so that the longest way is short and no room is left out.
    """
    now, far, room_of = world.reset(keys(world.n_envs)), between(world), world._region_of
    rooms = [k for k, name in enumerate(ROOMS) if world.map.has(name)]
    orders = torch.tensor([x for x in itertools.product(rooms, repeat=4) if set(x) == set(rooms)])
    ways = torch.stack(
        [far[:, room_of == k].amin(1) if k in rooms else far[:, 0] for k in range(4)], 1
    )[world.position]  # [N, A, rooms]
    mine = orders[ways[:, torch.arange(4), orders].amax(2).argmin(1)]  # [N, A]
    for _ in range(world.cfg.episode_limit):
        dots = world._maps[:, 0, None, :-1].bool() & (room_of == mine[..., None])  # [N, A, C]
        way, goal = torch.where(dots, far[world.position], 99).min(2)
        move = far[goal[..., None], world.map.neighbours[world.position]].argmin(2)
        now = world.step(torch.where(way == 0, EAT, move))
    return now.reward


# The worlds of the study of individuality (docs/studies/individuality.md)


def of_file(name: str, n: int) -> PacMen:
    """The world of a file in config/envs."""
    return PacMen(configured("pac_men", loader.environment(name).get("env_args", {})), n)


FAMILY = {  # cells of the centre, start cells, rooms
    "pac_men_one_cell": (1, 1, "TBLR"),
    "pac_men_one_start": (9, 1, "TBLR"),
    "pac_men_wide_centre": (25, 1, "TBLR"),
    "pac_men": (9, 9, "TBLR"),
    "pac_men_three_rooms": (9, 9, "TBL"),
    "pac_men_two_rooms": (9, 9, "TB"),
}


@pytest.mark.parametrize("name", FAMILY)
def test_one_thing_varies_in_a_family_of_worlds(name):
    world, (cells, starts, rooms) = of_file(name, 300), FAMILY[name]
    now = world.reset(keys(300))
    centre = world.map.region("S")
    assert len(centre) == cells and len(world.position.unique()) == starts
    # Agents in one cell have one observation: nothing but their actions tells them apart.
    alike = (now.obs == now.obs[:, :1]).all(2).all(1)
    assert bool(alike.all()) == (starts == 1) and (starts == 1 or not alike.any())
    # In different cells of the centre they can be told apart by the walls that they see.
    assert len(world._still[centre].unique(dim=0)) == cells
    assert "".join(x for x in ROOMS if world.map.has(x)) == rooms
    assert all(len(world.map.region(x)) == 15 for x in rooms)
    way = between(world)[centre[cells // 2]]
    away = {"T": 5, "B": 3, "L": 4, "R": 4}
    assert [int(way[world.map.region(x)].min()) for x in rooms] == [away[x] for x in rooms]


@pytest.mark.parametrize("name", FAMILY)
def test_the_best_return_of_a_family_can_be_reached(name):
    returns, best = greedy_team(of_file(name, 200)), 10 * len(FAMILY[name][2])
    assert of_file(name, 1).spec.reward_max == best
    assert returns.min() >= best - 1 and (returns == best).float().mean() > 0.97


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"dots_per_room": 16}, "dots_per_room"),
        ({"n_agents": 10}, "n_agents"),
        ({"layout": "###\n#S#\n###"}, "layout"),
        ({"layout": "###\n#S\n###"}, "layout"),
        ({"room_width": 9}, "areas of 9 x 5 cells overlap"),
    ],
)
def test_impossible_worlds_are_refused(changes, word):
    with pytest.raises(UserError, match=word):
        PacMenConfig(**changes)
