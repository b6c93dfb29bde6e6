"""A small genuine release on a real S3 server, to try and to test vbnfs with."""
