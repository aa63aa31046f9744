"""Benchmarks: variants of the same work, timed alternately in one process. See benchmarks/README.md."""
