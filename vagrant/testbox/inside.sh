#!/bin/sh
# The inner half of run.sh, as the first process of its namespaces: inside.sh FOLDER
#
# FOLDER holds test.box; machines and vagrant's files go to FOLDER/run, which is removed at the end.
# /run, and what libvirt writes below /etc and /var, is memory that only these namespaces see.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
build=$1
run=$build/run
started=$(date +%s)

say() { printf 'test-vagrant: %4d s  %s\n' $(($(date +%s) - started)) "$*"; }
die() {
    say "FAILED: $*"
    exit 1
}

rm -rf "$run"
mkdir -p "$run/images" "$run/home"
trap 'rm -rf "$run"' EXIT
trap 'exit 130' HUP INT TERM

mount -t tmpfs tmpfs /run
for folder in etc var; do
    mkdir -p "/run/upper/$folder" "/run/work/$folder"
    mount -t overlay overlay "/$folder" \
        -o "lowerdir=/$folder,upperdir=/run/upper/$folder,workdir=/run/work/$folder"
done
mkdir -p /run/lock /var/lib/libvirt/images /etc/libvirt
mount --bind "$run/images" /var/lib/libvirt/images
ip link set lo up

# --- libvirt -----------------------------------------------------------------------------------

# The machines belong to root in here, and nobody confines them: these namespaces do. The user that
# libvirt would take must exist all the same.
getent passwd libvirt-qemu >/dev/null || useradd --system --user-group libvirt-qemu
cat >/etc/libvirt/qemu.conf <<'END'
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
remember_owner = 0
END
cat >/etc/libvirt/libvirtd.conf <<END
auth_unix_rw = "none"
log_outputs = "2:file:$run/libvirtd.log"
END
libvirtd &
libvirtd=$!

tries=0
until virsh -q -c qemu:///system list >/dev/null 2>&1; do
    tries=$((tries + 1))
    { [ "$tries" -lt 100 ] && kill -0 "$libvirtd"; } || die "libvirtd: $(cat "$run/libvirtd.log")"
    sleep 0.2
done

# --- vagrant -----------------------------------------------------------------------------------

export VAGRANT_HOME="$run/home" VAGRANT_DOTFILE_PATH="$run/vagrant" VAGRANT_CWD="${here%/*}"
export VAGRANT_CHECKPOINT_DISABLE=1 VAGRANT_DEFAULT_PROVIDER=libvirt
export OVSLWT_HOSTS="${OVSLWT_HOSTS:-3}" OVSLWT_BOX=ovs-lwt/test OVSLWT_LIBVIRT_DRIVER=qemu

# on HOST COMMAND
on() {
    vagrant ssh "$1" -c "$2" -- -T -q </dev/null
}

hosts=''
for number in $(seq "$OVSLWT_HOSTS"); do
    hosts="$hosts host$number"
done

vagrant box add --no-tty --name "$OVSLWT_BOX" "$build/test.box"
say "vagrant up: $OVSLWT_HOSTS hosts"
if ! vagrant up --no-tty; then
    for host in $hosts; do
        on "$host" "sudo journalctl --no-pager -n 50 -u 'ovs-lwt*'" || true
    done
    die 'vagrant up'
fi
say 'up'

for host in $hosts; do
    say "$host: the datapath, the tunnels, and whom the guests reach"
    on "$host" 'sudo ovs-appctl dpctl/show system@ovs-system | head -1 &&
        sudo ovs-vsctl --columns=name,type,options find interface type=vxlan' || die "$host's switch"
    on "$host" 'sudo ovs-lwt-smoke' || die "$host's guests"
done

say 'host1: the service is restarted, and killed'
on host1 'sudo /srv/ovs-lwt/vagrant/testbox/restart.sh' || die 'restarting the service'

say 'a second provision changes nothing'
again=$(vagrant provision --no-tty 2>&1) || die "$again"
printf '%s\n' "$again"
[ "$(printf '%s\n' "$again" | grep -c 'provision: nothing to change')" -eq "$OVSLWT_HOSTS" ] ||
    die 'it changed something'

last=host$OVSLWT_HOSTS
say "$last boots again, and its guests are back"
vagrant reload --no-tty --no-provision "$last" || die 'vagrant reload'
on "$last" 'systemctl is-system-running --wait; sudo ovs-lwt-smoke' || die 'the guests after a boot'

say 'vagrant destroy'
vagrant destroy --no-tty -f || die 'vagrant destroy'
left=$(virsh -q -c qemu:///system list --all --name | grep . || true)
[ -z "$left" ] || die "still there: $left"
kill "$libvirtd"
wait "$libvirtd" || true
say 'passed'
