"""SMAC's maps: the marine maps, which the simulator plays, and the names of all of them.

The marine maps differ only in the sizes of the squads: 32x32 cells, a walkable band, and a start on
either side.
"""

from dataclasses import dataclass

from eoi.envs.starcraft.physics import Scenario, Squad

SIZE = 32  # cells, width and height
GROUND = ((0.0, 8.0), (32.0, 24.0))  # walkable: lower left, upper right corner
AGENTS_START, ENEMIES_START = (9.0, 16.0), (23.0, 16.0)


@dataclass(frozen=True)
class MarineMap:
    n_agents: int
    n_enemies: int
    limit: int  # environment steps

    @property
    def scenario(self) -> Scenario:
        """The agents wait for orders; the enemies attack-move to the agents' start."""
        return Scenario(
            (
                Squad(self.n_agents, AGENTS_START),
                Squad(self.n_enemies, ENEMIES_START, goal=AGENTS_START),
            ),
            GROUND,
        )


MAPS = {
    "3m": MarineMap(3, 3, 60),
    "5m_vs_6m": MarineMap(5, 6, 70),
    "8m": MarineMap(8, 8, 120),
    "8m_vs_9m": MarineMap(8, 9, 120),
    "10m_vs_11m": MarineMap(10, 11, 150),
    "25m": MarineMap(25, 25, 150),
    "27m_vs_30m": MarineMap(27, 30, 180),
}

# All of SMAC's maps, to check a name where SMAC is not installed
SMAC_MAPS = (
    *MAPS,
    *("2s3z", "3s5z", "1c3s5z", "MMM", "MMM2", "3s5z_vs_3s6z", "2c_vs_64zg", "2m_vs_1z"),
    *("3s_vs_3z", "3s_vs_4z", "3s_vs_5z", "6h_vs_8z", "2s_vs_1sc", "corridor"),
    *("so_many_baneling", "bane_vs_bane"),
)
