"""Files: written whole or not at all, leased, cached, checkpointed, unpickled safely."""
