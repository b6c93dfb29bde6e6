"""One cache folder on NFS for two hosts: virtual machines with a kernel's NFS server and clients."""
