"""What to run: one module a question, a plan and a launcher."""
