"""Batches of runs: their jobs, the engines that run them, and their output."""
