"""The disk: blocks, checksums, verdicts, eviction."""
