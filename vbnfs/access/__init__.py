"""A dataset, opened, with a mount or without one: catalog, clients, cache, source of blocks."""
