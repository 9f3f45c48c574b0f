#!/bin/sh
# The first process of a user-mode Linux machine: give the command a machine of its own to spoil.
#
# The kernel has mounted the host's root as ours, writable. Before anything else a throw-away
# overlay goes over it; of the host, the command can then change the output folder only. From the
# kernel's command line come two variables:
#
#   ovs_lwt_work     the machine's folder on the host: the files `settings` and `command`, an
#                    empty folder `root` to mount on; this script writes `status` there
#   ovs_lwt_modules  Debian's /usr/lib/uml/modules
set -eu
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
# shellcheck disable=SC2154 # from the kernel's command line
work=$ovs_lwt_work modules_folder=$ovs_lwt_modules
release=$(uname -r)
name='' modules='' out=''
# shellcheck source=/dev/null
. "$work/settings"

mount -t tmpfs -o mode=755 tmpfs "$work/root"
cd "$work/root"
mkdir -p upper overlay machine lib/modules
ln -s "$modules_folder/$release" "lib/modules/$release"
modprobe -d . overlay
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=overlay overlay machine
cd machine

# Until it is mounted over, /proc is the host's: a write to it would be a write to the host. So
# nothing may go on after a mount that failed (set -e), not even to switch this machine off.
mkdir -p proc sys dev run lib/modules
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t devtmpfs devtmpfs dev
mkdir -p dev/pts dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
# hostfs by path, not a bind mount: the folder may be hidden below what was mounted just now.
for folder in "$work" ${out:+"$out"}; do
    mkdir -p "./$folder"
    mount -t hostfs -o "$folder" hostfs "./$folder"
done
rm -rf "lib/modules/$release"
ln -s "$modules_folder/$release" "lib/modules/$release"

# Not chroot: the kernel's own calls of modprobe have to see this root as well. With it,
# `ip link add type vrf` or a tc filter loads what it needs, as on any machine.
mkdir run/host
pivot_root . run/host
umount -l /run/host

echo "$name" >/proc/sys/kernel/hostname
ip link set lo up
for module in $modules; do
    modprobe "$module"
done
# The command speaks by a serial line, bytes as they are; the console is the kernel's.
stty -F /dev/ttyS0 raw -echo
set +e
sh "$work/command" </dev/null >/dev/ttyS0 2>&1
echo $? >"$work/status.new"
mv "$work/status.new" "$work/status"
sync
# A machine without systemd has no poweroff.
echo o >/proc/sysrq-trigger
sleep 60
