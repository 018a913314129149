"""The batched world against a slow, simple one, and exact values by dynamic programming."""

from functools import cache

import pytest
import torch

from eoi.envs.windy_maze import OPEN, UNOPENED, WindyMaze, WindyMazeConfig
from eoi.utils.errors import UserError
from helpers import keys

MOVES = [(-1, 0), (1, 0), (0, -1), (0, 1)]
SHORT = {"stem": 2, "arm": 4}  # another T


def moved(grid, cell: tuple[int, int], action: int) -> tuple[int, int]:
    if action == OPEN:
        return cell
    there = (cell[0] + MOVES[action][0], cell[1] + MOVES[action][1])
    return cell if grid[there] == "#" else there


class SlowWindyMaze:
    """One copy, in loops, on the drawing itself; the gusts are the batched world's."""

    def __init__(self, world: WindyMaze):
        self.grid, self.cells, self.limit = world.map.grid, world.map.cells, world.cfg.episode_limit
        self.agents = [self.cells[i] for i in world.position[0].tolist()]
        self.gusts = world._gusts[0].tolist()
        self.opener: dict[str, int] = {}
        self.visited: set[str] = set()
        self.t = 0

    def step(self, actions: list[int]) -> float:
        blown = [
            self.gusts[self.t][i] and self.grid[cell] in ">R" for i, cell in enumerate(self.agents)
        ]
        self.t += 1
        actions = [3 if gust else action for gust, action in zip(blown, actions, strict=True)]
        self.agents = [
            moved(self.grid, cell, action)
            for cell, action in zip(self.agents, actions, strict=True)
        ]
        for i, (cell, action) in enumerate(zip(self.agents, actions, strict=True)):
            if action == OPEN and self.grid[cell] in "LR":
                self.opener.setdefault(self.grid[cell], i)
        self.visited |= self.ends()
        return float(len(self.opener)) if self.t == self.limit else 0.0

    def ends(self) -> set[str]:
        return {self.grid[cell] for cell in self.agents} & set("LR")

    def closed(self, cell: tuple[int, int]) -> bool:
        return self.grid[cell] in "LR" and self.grid[cell] not in self.opener

    def obs(self, i: int) -> list[int]:
        row, column = self.agents[i]
        view = [(row + dr, column + dc) for dr in range(-2, 3) for dc in range(-2, 3)]
        wall = [int(self.grid[cell] == "#") for cell in view]
        boxes = [int(self.closed(cell)) for cell in view]
        return (
            wall
            + boxes
            + [sum(a == cell for j, a in enumerate(self.agents) if j != i) for cell in view]
        )

    def state(self) -> list[float]:
        agents = [sum(a == cell for a in self.agents) for cell in self.cells]
        return [*agents, *(int(self.closed(cell)) for cell in self.cells), self.t / self.limit]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    "changes", [{}, {"wind_from": -1, "stem": 1, "arm": 2, "n_agents": 3}, {"wind": 0.0, "stem": 3}]
)
def test_equals_the_slow_one_on_random_play(seed, changes):
    world = WindyMaze(WindyMazeConfig(**changes), 1)
    moment = world.reset(keys(1, seed=seed))
    slow, generator = SlowWindyMaze(world), torch.Generator().manual_seed(seed)
    for _ in range(15):
        assert [row.tolist() for row in moment.obs[0]] == [
            slow.obs(i) for i in range(world.cfg.n_agents)
        ]
        assert moment.state[0].tolist() == pytest.approx(slow.state())
        likely = torch.tensor([0.3, 0.1, 0.15, 0.15, 0.3])
        actions = likely.multinomial(world.cfg.n_agents, replacement=True, generator=generator)[
            None
        ]
        moment, reward = world.step(actions), slow.step(actions[0].tolist())
        assert moment.reward.item() == reward
    assert moment.info["opener"][0].tolist() == [slow.opener.get(name, UNOPENED) for name in "LR"]
    assert [moment.info[f"{side}_open"].item() for side in ("left", "right")] == [
        float(name in slow.opener) for name in "LR"
    ]
    assert (moment.info["ends_visited"].item(), moment.info["ends_occupied"].item()) == (
        len(slow.visited),
        len(slow.ends()),
    )


def values(**changes) -> dict[str, float]:
    """Probability that one agent opens a box, with the best policy and with a random one."""
    cfg = WindyMazeConfig(**changes)
    grid, cells = cfg.map.grid, cfg.map.cells
    (start,) = (cell for cell in cells if grid[cell] == "S")

    def value(box: str, best: bool) -> float:
        @cache
        def v(cell: tuple[int, int], left: int) -> float:
            if left == 0:
                return 0.0
            wind = cfg.wind if grid[cell] in ">R" else 0.0
            blown = v(moved(grid, cell, 3), left - 1) if wind else 0.0
            of = [
                1.0 if a == OPEN and grid[cell] == box else v(moved(grid, cell, a), left - 1)
                for a in range(5)
            ]
            return wind * blown + (1 - wind) * (max(of) if best else sum(of) / 5)

        return v(start, cfg.episode_limit)

    return {
        "best left": value("L", True),
        "best right": value("R", True),
        "random left": value("L", False),
        "random right": value("R", False),
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {},
            {
                "best left": 0.855,
                "best right": 0.99934,
                "random left": 0.0006,
                "random right": 0.0698,
            },
        ),
        (
            {"wind_from": -1},
            {
                "best left": 0.706,
                "best right": 0.99934,
                "random left": 0.0003,
                "random right": 0.0717,
            },
        ),
        (
            SHORT,
            {
                "best left": 0.882,
                "best right": 0.99974,
                "random left": 0.0023,
                "random right": 0.0615,
            },
        ),
        (
            SHORT | {"wind_from": -1},
            {
                "best left": 0.756,
                "best right": 0.99974,
                "random left": 0.0011,
                "random right": 0.0634,
            },
        ),
        (
            SHORT | {"stem": 3},
            {
                "best left": 0.855,
                "best right": 0.99934,
                "random left": 0.0006,
                "random right": 0.0168,
            },
        ),
        (
            SHORT | {"stem": 3, "wind_from": -1},
            {
                "best left": 0.706,
                "best right": 0.99934,
                "random left": 0.0003,
                "random right": 0.0172,
            },
        ),
    ],
)
def test_exact_values(changes, expected):
    found = values(**changes)
    for name, value in expected.items():
        precision = {"best left": 5e-4, "best right": 5e-6}.get(name, 5e-5)
        assert found[name] == pytest.approx(value, abs=precision), name


def test_the_best_team_returns_1_854_and_the_right_box_fails_only_by_eight_gusts():
    """Seven moves to the right end, then eight tries, each blown with probability 0.4."""
    found = values()
    assert found["best left"] + found["best right"] == pytest.approx(1.854, abs=0.0005)
    assert found["best right"] == pytest.approx(1 - 0.4**8, abs=1e-9)


def test_played_values_are_the_exact_ones():
    """Agent 0 goes left, agent 1 goes right, in 20,000 copies; a random team of 20,000 copies."""
    world = WindyMaze(WindyMazeConfig(), 20_000)
    world.reset(keys(20_000))
    goal = torch.tensor([[2, 3]])
    grid = world.map.grid
    stem = torch.tensor(
        [grid[r + 1, c] != "#" or grid[r, c] == "S" for r, c in world.map.cells]
    ) & ~torch.tensor([grid[cell] == ">" for cell in world.map.cells])
    at_box = torch.tensor([grid[cell] in "LR" for cell in world.map.cells])
    for _ in range(15):
        here = world.position
        moment = world.step(torch.where(at_box[here], OPEN, torch.where(stem[here], 0, goal)))
    assert moment.info["left_open"].mean().item() == pytest.approx(0.855, abs=0.01)
    assert moment.reward.mean().item() == pytest.approx(1.854, abs=0.01)
    world.reset(keys(20_000, seed=1))
    for step in range(15):
        moment = world.step(
            torch.randint(0, 5, (20_000, 2), generator=torch.Generator().manual_seed(step))
        )
    by_agent = torch.stack([(moment.info["opener"] == i).float().mean(0) for i in range(2)]).sum(
        0
    )  # two agents try for each box
    assert by_agent[1].item() == pytest.approx(2 * 0.0698 - 0.0698**2, abs=0.006)


def test_one_agent_cannot_serve_both_boxes():
    """Most boxes that one agent opens without wind, by dynamic programming."""
    grid, cells = WindyMazeConfig().map.grid, WindyMazeConfig().map.cells
    (start,) = (cell for cell in cells if grid[cell] == "S")

    @cache
    def most(cell: tuple[int, int], opened: frozenset[str], left: int) -> int:
        if left == 0:
            return len(opened)
        after = {(moved(grid, cell, move), opened) for move in range(4)}
        if grid[cell] in "LR":
            after.add((cell, opened | {str(grid[cell])}))
        return max(most(*there, left - 1) for there in after)

    assert [most(start, frozenset(), limit) for limit in (7, 8, 20, 21)] == [0, 1, 1, 2]
    assert WindyMazeConfig().episode_limit == 15


def test_geometry():
    world = WindyMaze(WindyMazeConfig(), 1)
    bar, stem, wall = "##L.....>>>>>>R##", "########S########", ["#" * 17] * 2
    assert ["".join(row) for row in world.map.grid] == [*wall, bar, stem, *wall]
    assert (
        world.spec.obs_size,
        world.spec.state_size,
        world.spec.n_actions,
        world.spec.n_cells,
    ) == (75, 29, 5, 14)
    assert world.reset(keys(1)).obs[0, 0, 50 + 12] == 1  # both at the bottom of the T


def test_a_box_opened_by_two_is_one_box_and_the_first_ones():
    world = WindyMaze(WindyMazeConfig(wind=0.0), 1)
    world.reset(keys(1))
    world._position = world._boxes[:1].expand(1, 2).clone()
    world.step(torch.full((1, 2), OPEN))
    assert world._opener[0, :2].tolist() == [0, UNOPENED] and world.history()["boxes open"] == 1


def test_a_drawn_map_is_a_new_world():
    world = WindyMaze(WindyMazeConfig(layout="#######\n#L.S>R#\n#######", wind=1.0, n_agents=1), 1)
    world.reset(keys(1))
    world.step(torch.tensor([[3]]))
    world.step(torch.tensor([[2]]))  # blown to the right
    assert world.position.item() == 4
    world.step(torch.tensor([[OPEN]]))  # blown: opens nothing
    assert world.history()["boxes open"] == 0


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"wind_from": -6}, "wind_from"),
        ({"wind_from": 7}, "wind_from"),
        ({"layout": "#####\n#LSR#\n#L#R#\n#####"}, "box L"),
        ({"layout": "####\n#LS#\n####"}, "'R'"),
    ],
)
def test_impossible_worlds_are_refused(changes, word):
    with pytest.raises(UserError, match=word):
        WindyMazeConfig(**changes)
