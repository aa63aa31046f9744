"""Searches over settings of a trained network: the space, its trials, workers, and the outcome."""
