"""The dataset in Python, without a mount: `vbnfs.Dataset`. docs/python.md is its guide."""
