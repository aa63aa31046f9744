"""The maths of the flow: noising and velocity, the streams, solvers along a path, guidance."""
