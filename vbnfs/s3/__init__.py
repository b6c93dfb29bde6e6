"""The network: S3 over HTTP, and the clients around the client."""
