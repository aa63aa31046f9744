"""The network in use: its loss, sampling, guided velocity, decoder, and its files on disk or on the hub."""
