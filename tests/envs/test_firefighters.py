"""The batched world against a slow, simple one; the order of water; bounds on the best return."""

import itertools
from functools import cache

import numpy as np
import pytest
import torch

from eoi.envs.firefighters import PUMP, SPRAY, Firefighters, FirefightersConfig
from eoi.utils.errors import UserError
from helpers import keys

MOVES = [(-1, 0), (1, 0), (0, -1), (0, 1)]


class SlowFirefighters:
    """One copy, in dictionaries and loops, on the drawing. The batched world draws the order."""

    def __init__(self, world: Firefighters):
        self.grid, self.cells, self.limit = world.map.grid, world.map.cells, world.cfg.episode_limit
        self.agents = [self.cells[i] for i in world.position[0].tolist()]
        self.ahead = world._ahead[0].tolist()  # [T][i][j]: j before i
        self.fire = {cell for cell in self.cells if self.grid[cell] in "AB"}
        self.water, self.t = world.cfg.tank, 0
        self.visited = self.occupied()
        self.out: list[tuple[int, tuple[int, int]]] = []
        self.pumped = [0] * len(self.agents)

    def step(self, actions: list[int]) -> float:
        order = sorted(range(len(self.agents)), key=lambda i: sum(self.ahead[self.t][i]))
        self.t += 1
        for i, action in enumerate(actions):
            if action < 4:
                there = (self.agents[i][0] + MOVES[action][0], self.agents[i][1] + MOVES[action][1])
                self.agents[i] = self.agents[i] if self.grid[there] == "#" else there
        for i, action in enumerate(actions):
            if action == PUMP and self.grid[self.agents[i]] == "W":
                self.water += 1
                self.pumped[i] += 1
        for i in order:
            if actions[i] == SPRAY and self.agents[i] in self.fire and self.water > 0:
                self.fire.remove(self.agents[i])
                self.water -= 1
                self.out.append((i, self.agents[i]))
        self.visited |= self.occupied()
        return float(len(self.out)) if self.t == self.limit else 0.0

    def occupied(self) -> set[object]:
        """Areas with an agent in them: A, B, and a river by all its cells."""
        drawn = {cell: self.grid[cell] for cell in self.agents}
        return {name for name in drawn.values() if name in "AB"} | {
            self.river(cell) for cell, name in drawn.items() if name == "W"
        }

    def river(self, cell: tuple[int, int]) -> frozenset[tuple[int, int]]:
        found, edge = set(), [cell]
        while edge:
            r, c = edge.pop()
            found.add((r, c))
            edge += [
                there
                for dr, dc in MOVES
                if self.grid[there := (r + dr, c + dc)] == "W" and there not in found
            ]
        return frozenset(found)

    def obs(self, i: int) -> list[float]:
        row, column = self.agents[i]
        view = [(row + dr, column + dc) for dr in range(-2, 3) for dc in range(-2, 3)]
        wall, river = ([float(self.grid[cell] == kind) for cell in view] for kind in "#W")
        fire = [float(cell in self.fire) for cell in view]
        others = [
            float(sum(a == cell for j, a in enumerate(self.agents) if j != i)) for cell in view
        ]
        return [*wall, *river, *fire, *others, self.water / 4]

    def state(self) -> list[float]:
        agents = [sum(a == cell for a in self.agents) for cell in self.cells]
        return [
            *agents,
            *(int(cell in self.fire) for cell in self.cells),
            self.water / 4,
            self.t / self.limit,
        ]


FIELD = "\n".join(
    [
        *["#" * 13] * 2,
        "##AAA...WWW##",
        "##AAA...WWW##",
        "##.........##",
        "##BBB...WWW##",
        *["#" * 13] * 2,
    ],
)


SMALL = "\n".join(
    [*["#" * 9] * 2, "##AASAA##", "##WBSBW##", *["#" * 9] * 2]
)  # everything is near: a river is come to by chance


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"layout": FIELD, "tank": 1, "n_agents": 6},
        {"tank": 0, "corridors": (0, 0, 0, 0)},
        {"layout": SMALL, "n_agents": 2},
    ],
)
def test_equals_the_slow_one_on_random_play(seed, changes):
    world = Firefighters(FirefightersConfig(**changes), 1)
    moment = world.reset(keys(1, seed=seed))
    slow, generator = SlowFirefighters(world), torch.Generator().manual_seed(seed)
    agents, likely = world.cfg.n_agents, torch.tensor([0.15, 0.1, 0.1, 0.25, 0.25, 0.15])
    for _ in range(20):
        assert [row.tolist() for row in moment.obs[0]] == [slow.obs(i) for i in range(agents)]
        assert moment.state[0].tolist() == pytest.approx(slow.state())
        assert world.history() == {"water": slow.water, "fire": len(slow.fire)}
        actions = likely.multinomial(agents, replacement=True, generator=generator)[None]
        moment, reward = world.step(actions), slow.step(actions[0].tolist())
        assert moment.reward.item() == reward
    info = moment.info
    assert (info["areas_visited"].item(), info["areas_occupied"].item()) == (
        len(slow.visited),
        len(slow.occupied()),
    )
    assert info["pumped"][0].tolist() == slow.pumped and info["water_pumped"].item() == sum(
        slow.pumped
    )
    assert info["sprayed"][0].tolist() == [
        sum(agent == i for agent, _ in slow.out) for i in range(agents)
    ]
    assert [info[f"extinguished_{name.lower()}"].item() for name in "AB"] == [
        sum(slow.grid[c] == name for _, c in slow.out) for name in "AB"
    ]


def test_two_rivers_of_one_letter_are_two_areas():
    cfg = FirefightersConfig()
    top, bottom = cfg.map.parts("W")
    assert len(top) == len(bottom) == 9 and torch.equal(
        torch.cat([top, bottom]), cfg.map.region("W")
    )
    assert {cfg.map.cells[i][0] for i in top.tolist()} == {2, 3, 4} and {
        cfg.map.cells[i][0] for i in bottom.tolist()
    } == {12, 13, 14}
    for cells, areas in (
        ([top[0], top[8]], 1),
        ([top[0], bottom[0]], 2),
        ([top[0], bottom[8], cfg.map.region("B")[0]], 3),
    ):
        world = placed([int(cell) for cell in cells], tank=4)
        for _ in range(20):
            now = world.step(torch.full((1, len(cells)), PUMP))
        assert now.info["areas_occupied"].item() == areas
        assert now.info["areas_visited"].item() == areas + 1  # and A, where all of them started


def placed(cells: list[int], tank: int, copies: int = 1) -> Firefighters:
    world = Firefighters(FirefightersConfig(tank=tank, n_agents=len(cells)), copies)
    world.reset(keys(copies))
    world._position = torch.tensor([cells]).repeat(copies, 1)
    return world


def test_geometry():
    world = Firefighters(FirefightersConfig(), 50)
    letters, counts = np.unique(world.map.grid, return_counts=True)
    assert dict(zip(letters.tolist(), counts.tolist(), strict=True)) == {
        "#": 289 - 53,
        ".": 17,
        "A": 9,
        "B": 9,
        "W": 18,
    }
    assert (
        world.spec.obs_size,
        world.spec.state_size,
        world.spec.n_actions,
        world.spec.obs_dtype,
    ) == (101, 108, 6, torch.float16)
    world.reset(keys(50))
    area = set(world.map.region("A").tolist())
    assert all(len(set(row)) == 4 and set(row) <= area for row in world.position.tolist())


def test_the_gauge_is_exact_at_every_level():
    levels = torch.arange(0, 501) / 4
    assert torch.equal(levels.to(torch.float16).float(), levels)
    with pytest.raises(UserError, match="exact"):
        FirefightersConfig(episode_limit=200)


def test_pumping_comes_before_spraying():
    world = Firefighters(FirefightersConfig(tank=0), 1)
    world.reset(keys(1))
    world._position = torch.cat([world.map.region("A")[:3], world.map.region("W")[:1]])[None]
    world.step(torch.tensor([[SPRAY, SPRAY, SPRAY, PUMP]]))
    assert (
        world._sprayed.sum() == 1
        and world._water.item() == 0
        and world._pumped[0].tolist() == [0, 0, 0, 1]
    )


def test_simultaneous_sprays_on_one_cell_use_one_unit():
    a = FirefightersConfig().map.region("A").tolist()
    world = placed([a[0], a[0], a[0], a[1]], tank=2)
    world.step(torch.full((1, 4), SPRAY))
    assert world._water.item() == 0 and world._sprayed.sum() == 2 and world._sprayed[0, 3] == 1


def test_scarce_water_goes_to_each_agent_equally_often():
    a = FirefightersConfig().map.region("A").tolist()
    world = placed(a[:4], tank=1, copies=4000)
    world.step(torch.full((4000, 4), SPRAY))
    assert (world._sprayed.sum(1) == 1).all() and (world._water == 0).all()
    assert world._sprayed.float().mean(0).sub(0.25).abs().max() < 0.03


def test_spraying_without_water_or_fire_costs_nothing():
    a = FirefightersConfig().map.region("A").tolist()
    world = placed([a[0]], tank=0)
    world.step(torch.tensor([[SPRAY]]))
    assert world._water.item() == 0 and world.history()["fire"] == 18
    world = placed([int(FirefightersConfig().map.region(".")[0])], tank=3)
    world.step(torch.tensor([[SPRAY]]))
    world.step(torch.tensor([[PUMP]]))
    assert world.history() == {"water": 3, "fire": 18}


def test_start_cells_of_its_own():
    world = Firefighters(
        FirefightersConfig(layout="#######\n#AB.WS#\n#....S#\n#######", n_agents=2), 3
    )
    world.reset(keys(3))
    assert set(world.position.flatten().tolist()) == set(world.map.region("S").tolist())


Work = tuple[int, int, int]  # units pumped, fires put out in A, in B


def best(works: set[Work]) -> set[Work]:
    """Those that no other beats in all three."""
    return {
        w
        for w in works
        if not any(v != w and all(x >= y for x, y in zip(v, w, strict=True)) for v in works)
    }


@cache
def works_of_one() -> set[Work]:
    """Most work of one agent in an episode, from its best start.

    Water is unlimited, and a cell burns again after the agent has left it.
    """
    cfg = FirefightersConfig()
    drawn, table = (
        [cfg.map.grid[cell] for cell in cfg.map.cells],
        [sorted(set(row)) for row in cfg.map.neighbours.tolist()],
    )

    @cache
    def works(cell: int, left: int, burns: bool) -> frozenset[Work]:
        if left == 0:
            return frozenset({(0, 0, 0)})
        found = {w for there in table[cell] if there != cell for w in works(there, left - 1, True)}
        if drawn[cell] == "W":
            found |= {(p + 1, a, b) for p, a, b in works(cell, left - 1, burns)}
        elif drawn[cell] in "AB" and burns:
            in_a = drawn[cell] == "A"
            found |= {(p, a + in_a, b + (not in_a)) for p, a, b in works(cell, left - 1, False)}
        return frozenset(best(found))

    return best({w for start in cfg.starts.tolist() for w in works(start, cfg.episode_limit, True)})


def test_a_bound_on_the_best_return():
    """A bound for four agents, from the best work of each alone and from their common water.

    It is 16 if one agent alone pumps. With more pumping agents it does not exclude all 18 fires.
    """
    one = works_of_one()
    assert max(p for p, _, _ in one) == 12 and max(b for _, _, b in one) == 6
    team: set[Work] = {(4, 0, 0)}
    for _ in range(4):
        sums = {
            (min(18, p + q), min(9, a + c), min(9, b + d)) for p, a, b in team for q, c, d in one
        }
        team = best(sums)
    assert max(min(p, a + b) for p, a, b in team) == 18
    one_pumps = 4 + max(p for p, _, _ in one)
    none_pumps = max(min(4, a + b) for _, a, b in team)  # the paper's local optimum
    assert (one_pumps, none_pumps) == (16, 4)


def test_a_division_of_labour_beats_the_local_optimum():
    """Two agents pump, one clears A, one clears B, as in the paper's EOI+MAAC; more than 2 * 4."""
    world = Firefighters(FirefightersConfig(), 64)
    moment = world.reset(keys(64))
    table, w, b, a = world.map.neighbours, *(world.map.region(name) for name in "WBA")
    near = {name: distances(table, cells) for name, cells in (("W", w), ("A", a), ("B", b))}
    for _ in range(20):
        position, fire = world.position, world._maps[:, 0, :-1].bool()
        plan = torch.zeros(64, 4, dtype=torch.long)
        for copy, agent in itertools.product(range(64), range(4)):
            here = int(position[copy, agent])
            goal = "WWAB"[agent]
            if goal != "W":
                burning = [c for c in (a if goal == "A" else b).tolist() if fire[copy, c]] or (
                    a if goal == "A" else b
                ).tolist()
                field = distances_cached(table, tuple(burning))
                plan[copy, agent] = (
                    SPRAY if fire[copy, here] and field[here] == 0 else field[table[here]].argmin()
                )
            else:
                plan[copy, agent] = (
                    PUMP if near["W"][here] == 0 else near["W"][table[here]].argmin()
                )
        moment = world.step(plan)
    assert moment.reward.min() > 8 and moment.reward.mean() > 12


def distances(table: torch.Tensor, goals: torch.Tensor) -> torch.Tensor:
    far = torch.full((len(table),), 99)
    far[goals] = 0
    for _ in range(30):
        far = torch.minimum(far, far[table].amin(1) + 1)
    return far


_FIELDS: dict[tuple[int, ...], torch.Tensor] = {}


def distances_cached(table: torch.Tensor, goals: tuple[int, ...]) -> torch.Tensor:
    if goals not in _FIELDS:
        _FIELDS[goals] = distances(table, torch.tensor(goals))
    return _FIELDS[goals]


@pytest.mark.parametrize(
    ("changes", "word"), [({"n_agents": 10}, "n_agents"), ({"layout": "####\n#AB#\n####"}, "'W'")]
)
def test_impossible_worlds_are_refused(changes, word):
    with pytest.raises(UserError, match=word):
        FirefightersConfig(**changes)
