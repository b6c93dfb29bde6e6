"""Tests of deploy/: what can be known of its files without running them."""
