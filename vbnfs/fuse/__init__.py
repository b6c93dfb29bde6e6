"""The kernel's language: FUSE requests and replies on /dev/fuse, as far as a read-only file system needs them."""
