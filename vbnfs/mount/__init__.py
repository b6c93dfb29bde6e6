"""What the kernel sees: FUSE operations, the daemon, mount points, the control socket."""
