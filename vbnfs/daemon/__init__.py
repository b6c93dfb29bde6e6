"""The process behind a mount, from its configuration to its end."""
