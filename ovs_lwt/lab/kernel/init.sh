#!/bin/sh
# The first process of a machine of the lab: give the command a machine of its own to spoil.
#
# The host's root is mounted as ours (writable, in user-mode Linux). Before anything else a
# throw-away overlay goes over it; of the host, the command can then change the output folder only.
# From the kernel's command line comes the variable
#
#   ovs_lwt_work   the machine's folder on the host: the files `settings` and `command`, an
#                  empty folder `root` to mount on; this script writes `status` there
#
# and `settings` has those that are set below: what the command is to have, and where the kind of
# machine has it.
set -eu
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
# shellcheck disable=SC2154 # from the kernel's command line
work=$ovs_lwt_work
name='' modules='' out='' lines=0 interfaces=0
modules_folder='' # where the kernel's modules are on the host: modules_folder/RELEASE
files=''          # how folders of the host are mounted: hostfs, or 9p under the tags work and out
output=''         # the terminal that the host reads as the command's output
line=''           # /dev/lineN is the terminal ${line}N; without, the virtio port called lineN
# shellcheck source=/dev/null
. "$work/settings"
release=$(uname -r)

# share TAG FOLDER: mount a folder of the host for writing, below the folder we are in.
share() {
    mkdir -p "./$2"
    case $files in
        # By mount(2): the folder is an option without a name, which fsconfig(2) does not take, and
        # mount of util-linux 2.39 and later asks for that first.
        hostfs) LIBMOUNT_FORCE_MOUNT2=always mount -t hostfs -o "$2" hostfs "./$2" ;;
        # mmap: files are not cached but where a program maps them.
        9p) mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,cache=mmap "$1" "./$2" ;;
    esac
}

# The modules may be those of the host's own kernel: then they are in their place.
link_modules() {
    [ "$(realpath -m "$modules_folder")" != "$(realpath -m "$1/lib/modules")" ] || return 0
    rm -rf "$1/lib/modules/$release"
    mkdir -p "$1/lib/modules"
    ln -s "$modules_folder/$release" "$1/lib/modules/$release"
}

# until_there FILE: wait for the kernel to make a device.
until_there() {
    tries=0
    until [ -e "$1" ]; do
        tries=$((tries + 1))
        [ "$tries" -lt 400 ] || {
            echo "the machine has no $1" >&2
            exit 1
        }
        sleep 0.05
        link_ports
    done
}

# Ports of virtio serial devices have names, which the host gave them: /dev/NAME.
link_ports() {
    for port in /sys/class/virtio-ports/*; do
        [ ! -s "$port/name" ] || ln -sf "/dev/${port##*/}" "/dev/$(cat "$port/name")"
    done
}

mount -t tmpfs -o mode=755 tmpfs "$work/root"
cd "$work/root"
mkdir -p upper overlay machine
link_modules .
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
# By path, not a bind mount: the folder may be hidden below what was mounted just now.
share work "$work"
[ -z "$out" ] || share out "$out"
link_modules .

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
number=0
while [ "$number" -lt "$lines" ]; do
    number=$((number + 1))
    [ -z "$line" ] || ln -s "$line$number" "/dev/line$number"
    until_there "/dev/line$number"
done
while [ "$interfaces" -gt 0 ]; do
    interfaces=$((interfaces - 1))
    [ ! -e "/sys/class/net/eth$interfaces" ] || ip link set "eth$interfaces" name "vec$interfaces"
done
# The command speaks by a terminal, bytes as they are; the console is the kernel's. Held open: at its
# last close a terminal may forget how it was set.
until_there "$output"
exec 3>"$output"
stty -F "$output" raw -echo
set +e
sh "$work/command" </dev/null >&3 2>&1 3>&-
echo $? >"$work/status.new"
mv "$work/status.new" "$work/status"
sync
# A machine without systemd has no poweroff.
echo o >/proc/sysrq-trigger
sleep 60
