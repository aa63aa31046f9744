"""Sweeps: a question becomes cells, cells become a plan, a plan becomes tasks that run as jobs."""
