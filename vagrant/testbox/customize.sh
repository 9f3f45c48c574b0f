#!/bin/sh
# Make the Debian below ROOT a Vagrant box: customize.sh ROOT PUBLIC-KEY
#
# Run by build.sh once the packages are installed. Vagrant wants a user that it can log in as by
# its well-known key and that may become root, and a first interface with an address by DHCP.
set -eu
root=$1
key=$2

chroot "$root" useradd --create-home --shell /bin/bash vagrant
install -d -m 700 "$root/home/vagrant/.ssh"
install -m 600 "$key" "$root/home/vagrant/.ssh/authorized_keys"
chroot "$root" chown -R vagrant:vagrant /home/vagrant/.ssh
echo 'vagrant ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/vagrant"
chmod 440 "$root/etc/sudoers.d/vagrant"
# A name server is asked for whoever logs in, and there is none.
echo 'UseDNS no' >"$root/etc/ssh/sshd_config.d/vagrant.conf"

echo testbox >"$root/etc/hostname"
echo '127.0.0.1 localhost' >"$root/etc/hosts"
printf '%s\n' 'auto lo' 'iface lo inet loopback' 'auto eth0' 'iface eth0 inet dhcp' \
    >"$root/etc/network/interfaces"
echo '/dev/vda / ext4 defaults 0 1' >"$root/etc/fstab"

# The environment that provision.sh would make, without ovs-lwt itself: that one is under test.
# What building its wheel takes stays in the box, where pip finds it without a network.
wheels=/usr/local/share/wheels
chroot "$root" python3 -m venv /opt/ovs-lwt
chroot "$root" sh -c "/opt/ovs-lwt/bin/python -m pip install -q --no-index $wheels/run/*.whl"
rm -r "${root:?}$wheels/run"
printf '[global]\nno-index = true\nfind-links = %s\n' "$wheels/build" >"$root/etc/pip.conf"
