"""Streams, schedules, network, training, sampling and evaluation of multi-stream diffusion models."""
