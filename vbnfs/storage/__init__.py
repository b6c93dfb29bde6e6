"""Where bytes live: S3, and the block cache on disk."""
