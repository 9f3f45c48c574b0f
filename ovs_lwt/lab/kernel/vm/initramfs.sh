#!/bin/sh
# The first process of a virtual machine: mount the host's root as ours, and go on there.
#
# Debian's kernel has as modules what it takes to see the host's files. They are in /modules here,
# in the order in which they can be loaded. From the kernel's command line comes ovs_lwt_work, the
# machine's folder on the host, with the script `init`.
set -eu
# switch_root takes these along, and complains of what is not mounted.
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
for module in /modules/*; do
    insmod "$module"
done
# loose: nobody but the host changes these files, and the lab looks anew before each command.
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=524288,cache=loose root /root
# shellcheck disable=SC2154 # from the kernel's command line
exec switch_root /root "$ovs_lwt_work/init"
