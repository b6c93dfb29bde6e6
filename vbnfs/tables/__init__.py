"""The project's tables: what is asked of them, and what changed in them."""
