#!/bin/sh
# The first process of a machine. Its root is this host's, read-only; what it writes is in memory, below /run and /tmp.
# Its kernel's command line has these variables: MACHINE, ADDRESS, READY, PYTHON, AGENT, KEPT and HIDDEN.
set -e
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run

# What of this host its users may not enter is empty, and so is /tmp. Python and vbnfs are where they were.
number=0
for folder in $(echo "$KEPT" | tr : ' '); do
    number=$((number + 1))
    mkdir -p "/run/kept/$number"
    mount --bind "$folder" "/run/kept/$number"
done
for folder in $(echo "$HIDDEN" | tr : ' '); do mount -t tmpfs -o mode=755 tmpfs "$folder"; done
chmod 1777 /tmp
number=0
for folder in $(echo "$KEPT" | tr : ' '); do
    number=$((number + 1))
    mkdir -p "$folder"
    mount --bind "/run/kept/$number" "$folder"
done

mkdir -p /run/shared /run/data /run/modules/lib
mount -t tmpfs tmpfs /var/lib/nfs
ln -s /usr/lib/uml/modules /run/modules/lib/modules

# Two users, whose homes are empty.
for user in one:47001 two:47002; do
    echo "${user%:*}:x:${user#*:}:${user#*:}::/run/${user%:*}:/bin/sh"
    mkdir -m 700 "/run/${user%:*}"
    chown "${user#*:}:${user#*:}" "/run/${user%:*}"
done >/run/passwd
cat /etc/passwd >>/run/passwd
mount --bind /run/passwd /etc/passwd

modprobe -d /run/modules -a fuse nfs nfsv3 nfsv4 nfsd
chmod 666 /dev/fuse
hostname "$MACHINE"
ip link set lo up
ip addr add "$ADDRESS" dev vec0
ip link set vec0 up
exec "$PYTHON" "$AGENT"
