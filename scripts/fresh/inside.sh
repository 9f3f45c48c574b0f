#!/bin/sh
# The inner half of run.sh, as the first process of its namespaces: inside.sh ROOT WORDS...
#
# Makes ROOT the root of these namespaces, as at a boot (`ip netns exec` mounts, which a chroot does
# not let it), and has a user there type `sudo make WORDS...`. The last line says the exit status.
set -eu
root=$1
shift

mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /dev dev
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
while IFS= read -r folder; do
    mount --bind -o ro "$folder" ".$folder"
done <binds
hostname fresh
echo '127.0.0.1 localhost fresh' >etc/hosts
cat /etc/resolv.conf >etc/resolv.conf
mkdir -p old
pivot_root . old
# From here on the programs are the root's.
cd /
umount -l /old
rmdir /old

export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb LC_ALL=C.UTF-8
if ! id newcomer >/dev/null 2>&1; then
    useradd --create-home --shell /bin/bash newcomer
    {
        echo 'newcomer ALL=(ALL) NOPASSWD: ALL'
        echo 'Defaults env_keep += "http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY"'
    } >/etc/sudoers.d/newcomer
    chmod 440 /etc/sudoers.d/newcomer
    chown -R newcomer: /srv/ovs-lwt
fi
status=0
su newcomer -c 'cd /srv/ovs-lwt && exec sudo make "$@"' sh "$@" </dev/null || status=$?
echo "exit status: $status"
