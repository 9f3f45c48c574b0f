#!/bin/sh
# `make test-vagrant`: bring the hosts up with vagrant on emulated machines, try them, destroy them.
#
# All of it (libvirt, its networks, the machines, what vagrant remembers) lives in namespaces of its
# own and in one folder, build/testbox/run. At the end nothing of it is left; somebody who kills this
# with SIGKILL finds no process and no network of it either, only that folder, which the next run
# removes. A libvirt of this machine's own is neither needed nor touched. The box is kept in
# build/testbox, and built again when what it is made of changes.
#
#   OVSLWT_HOSTS   how many machines (default: 3)
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
checkout=$(dirname "$(dirname "$here")")
build=$checkout/build/testbox

say() { printf 'test-vagrant: %s\n' "$*"; }
die() {
    say "$*" >&2
    exit 1
}
# shellcheck source=scripts/packages.sh
. "$checkout/scripts/packages.sh"

# COMMAND:PACKAGE; and what has no command. Nothing but this test needs them.
tools='vagrant:vagrant libvirtd:libvirt-daemon virsh:libvirt-clients dnsmasq:dnsmasq-base
iptables:iptables qemu-system-x86_64:qemu-system-x86 qemu-img:qemu-utils mmdebstrap:mmdebstrap
mke2fs:e2fsprogs rsync:rsync ssh:openssh-client unshare:util-linux'
libraries='vagrant-libvirt libvirt-daemon-driver-qemu python3-venv'

missing_libraries() {
    for package in $libraries; do
        dpkg -s "$package" >/dev/null 2>&1 || echo "$package"
    done
}

[ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ] || die 'this test is for Debian on amd64'
[ "$(id -u)" -eq 0 ] || die 'needs root: sudo make test-vagrant'
# shellcheck disable=SC2046,SC2086 # one package, one pair a word
install $(missing $tools) $(missing_libraries)

made_of=$(cat "$checkout/pyproject.toml" "$checkout/constraints.txt" "$here/build.sh" "$here/customize.sh" "$here/Vagrantfile" |
    cksum)
if [ ! -e "$build/test.box" ] || [ "$(cat "$build/made-of" 2>/dev/null)" != "$made_of" ]; then
    "$here/build.sh" "$build/test.box"
    echo "$made_of" >"$build/made-of"
fi

# --kill-child: whatever ends this, also by SIGKILL, ends everything below.
exec unshare --mount --net --pid --ipc --uts --fork --kill-child --mount-proc \
    "$here/inside.sh" "$build"
