"""Pictures: learning curves, sweeps, position maps, films and pages of episodes."""
