"""What the code costs: variants of one thing, timed in turn inside one run. See benchmarks/README.md."""
