"""What came out: rows of runs as tables, figures and findings."""
