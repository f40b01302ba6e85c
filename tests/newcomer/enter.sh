# Runs a command on a bare system, which lies in a folder: enter.sh FOLDER PIP USER NAME=VALUE... -- COMMAND...
# PIP is where pip keeps what it has fetched, for the next time.
# To be started in namespaces of its own, with which mounts and processes go away, however it ends.
set -euo pipefail
root=$1 pip=$2 user=$3
shift 3
mount --make-rprivate /
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for standard in stdin:0 stdout:1 stderr:2; do ln -s "/proc/self/fd/${standard#*:}" "$root/dev/${standard%:*}"; done
for device in null:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 666 "$root/dev/${device%:*}" c 1 "${device#*:}"
done
mkdir -p "$root/var/cache/pip"
mount --bind "$pip" "$root/var/cache/pip"
settings=()
while [ "$1" != -- ]; do
    settings+=("$1")
    shift
done
shift
exec chroot --userspec="$user:$user" "$root" /usr/bin/env -i "${settings[@]}" "$@"
