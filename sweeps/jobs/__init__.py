"""How tasks run: executors (SLURM or this machine), their records and states, failures, the monitor."""
