"""Measurements that anybody can rerun; nothing here is installed."""
