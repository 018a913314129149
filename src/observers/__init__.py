"""Where a run's record goes: its folder always, and whatever else its user asks for. None of them can end a run."""
