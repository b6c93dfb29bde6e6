"""What the machine says: folders and files by descriptor, mounts, memory, descriptors."""
