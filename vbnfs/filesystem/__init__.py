"""What the kernel sees: names, attributes, bytes, errors."""
