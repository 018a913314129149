"""Data and pure functions: episodes, replay, schedules, action selection."""
