"""The Python API without what Linux alone has: as on macOS, and as on Windows."""
