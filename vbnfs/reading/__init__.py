"""How a read is served: what to fetch, when, and once for all readers that wait."""
