"""What needs doing here: facts of the machine, the cache, the network and the mounts, and what they mean."""
