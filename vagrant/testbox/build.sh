#!/bin/sh
# Build a Vagrant box for libvirt out of Debian packages: testbox/build.sh BOX
#
# It is a box like others, but for two things that save a test under emulation a quarter of an
# hour: what provision.sh would install is there already, and qemu starts its kernel by itself,
# without firmware and boot loader. Packages come from where this machine's apt has its own from,
# Python packages from where its pip has. Debian 12 on amd64, as root; a few minutes.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
checkout=$(dirname "$(dirname "$here")")
box=$(realpath -m -- "$1")

# shellcheck source=scripts/pins.sh
. "$checkout/scripts/pins.sh"

say() { printf 'testbox: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}

# Root's file system: what Debian's own box has, and what provision.sh looks for.
system='systemd-sysv udev dbus ifupdown isc-dhcp-client netbase openssh-server sudo rsync kmod
procps linux-image-cloud-amd64'
provisioned='openvswitch-switch iproute2 nftables iputils-ping ethtool python3-venv'

# shellcheck disable=SC2016 # apt expands it
sources=$(apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' \
    'Created-By: Packages' 'Origin: Debian' | sort -u)
[ -n "$sources" ] ||
    die "apt knows no Debian archive here (apt-get update?); the box is built on Debian only"
key=$(dpkg -L vagrant | grep '/keys/vagrant\.pub$') || die "Debian's package vagrant is not installed"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
root=$work/root

# The guest's Python is this machine's: both are this Debian's. What has no wheel becomes one.
say 'fetching the Python packages'
/usr/bin/python3 -m venv "$work/venv"
build_needs=$(cd "$checkout" && /usr/bin/python3 -c 'import tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")')
printf '%s\n' "$build_needs" >"$work/build.txt"
wheel() {
    pip_with "$checkout/constraints.txt" "$work/venv/bin/python" wheel -qq --wheel-dir "$@"
}
wheel "$work/wheels/run" "$checkout"
rm "$work"/wheels/run/ovs_lwt-*.whl
wheel "$work/wheels/build" -r "$work/build.txt"

say 'installing Debian'
# shellcheck disable=SC2086 # one package a word
printf '%s\n' "$sources" | mmdebstrap --quiet --mode=root --variant=minbase --format=directory \
    --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
    --aptopt='APT::Install-Recommends "false"' \
    --include="$(echo $system $provisioned | tr ' ' ,)" \
    --customize-hook="copy-in $work/wheels /usr/local/share" \
    --customize-hook="$here/customize.sh \"\$1\" $key" \
    '' "$root" -

say 'packing the box'
mkdir "$work/box"
mv "$root"/boot/vmlinuz-* "$work/box/vmlinuz"
mv "$root"/boot/initrd.img-* "$work/box/initrd.img"
mke2fs -q -t ext4 -d "$root" "$work/disk" 3G
qemu-img convert -O qcow2 "$work/disk" "$work/box/box.img"
cp "$here/Vagrantfile" "$work/box/"
echo '{"provider": "libvirt", "format": "qcow2", "virtual_size": 3}' >"$work/box/metadata.json"
tar -C "$work/box" -cf "$work/new.box" .
mkdir -p "$(dirname "$box")"
mv "$work/new.box" "$box"
