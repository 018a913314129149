"""The arguments of SMAC that apply to both engines, with SMAC's names and defaults."""

from dataclasses import dataclass

from eoi.config.schema import setting


@dataclass(frozen=True, kw_only=True)
class Rules:
    map_name: str = "8m"
    step_mul: int = setting(1, default=8)  # game loops a step
    move_amount: float = setting(0, default=2.0)  # cells from a unit to the goal of its move
    obs_all_health: bool = True
    obs_own_health: bool = True  # obs_all_health includes it
    obs_last_action: bool = False  # of the allies in sight
    # SMAC's observation then has one entry more than its declared size: a 0 before the time.
    obs_timestep_number: bool = False
    obs_instead_of_state: bool = False  # the state is all observations, side by side
    state_last_action: bool = True
    state_timestep_number: bool = False
    reward_sparse: bool = False  # only 1 for a victory and -1 for a defeat
    reward_only_positive: bool = True  # the agents' losses are not subtracted
    reward_death_value: float = setting(0, default=10.0)  # for each kill
    reward_win: float = setting(0, default=200.0)
    reward_defeat: float = 0.0
    reward_negative_scale: float = setting(0, default=0.5)  # weight of the agents' losses
    reward_scale: bool = True
    reward_scale_rate: float = setting(1e-6, default=20.0)  # the best return after scaling
