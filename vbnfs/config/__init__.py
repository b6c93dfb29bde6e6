"""What is wanted: the settings, from four sources."""
