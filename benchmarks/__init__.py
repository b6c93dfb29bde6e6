"""Measurements that you can rerun; nothing here is installed."""
