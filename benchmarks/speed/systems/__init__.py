"""The systems that are measured, each in a module of its own, with one interface: `base.System`."""
