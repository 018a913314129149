"""Batches of runs: which there are and how far they got, what runs them, what is said of them."""
