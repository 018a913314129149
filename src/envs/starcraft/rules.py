"""SMAC's arguments that both engines play by, with its names and its defaults."""

from dataclasses import dataclass

from eoi.config.schema import setting


@dataclass(frozen=True, kw_only=True)
class Rules:
    map_name: str = "8m"
    step_mul: int = setting(1, default=8)  # game loops a step
    move_amount: float = setting(0, default=2.0)  # cells from a unit to where a move sends it
    obs_all_health: bool = True
    obs_own_health: bool = True  # obs_all_health includes it
    obs_last_action: bool = False  # of the allies in sight
    obs_timestep_number: bool = (
        False  # SMAC's own observation is then one longer than it says (a 0 before the time)
    )
    obs_instead_of_state: bool = False  # the state is all observations
    state_last_action: bool = True
    state_timestep_number: bool = False
    reward_sparse: bool = False  # 1 for a victory, -1 for a defeat, instead of what follows
    reward_only_positive: bool = True  # nothing is taken off for the agents' own losses
    reward_death_value: float = setting(0, default=10.0)  # a kill
    reward_win: float = setting(0, default=200.0)
    reward_defeat: float = 0.0
    reward_negative_scale: float = setting(0, default=0.5)  # of the agents' own losses
    reward_scale: bool = True
    reward_scale_rate: float = setting(1e-6, default=20.0)  # the best return after scaling
