"""vbnfs: a versioned scientific dataset on S3 as a local, read-only file system."""

__version__ = "0.1.0"
