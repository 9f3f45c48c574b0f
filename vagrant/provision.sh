#!/bin/sh
# Make this machine a host of an overlay, with guests to try it: provision.sh HOST ADDRESS...
#
#   HOST                which of the hosts it is: host1, host2, …
#   ADDRESS...          where the hosts' VTEPs are in the underlay: host1's, host2's, …
#   --configure         (first) write the files and start the services, but install nothing
#
# Two tenants, blue and red, have a guest on every host, and the very same MACs and addresses.
# What is there already is kept: a second run changes nothing. Debian 12, as root.
set -eu

checkout=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
environment=/opt/ovs-lwt
etc=/etc/ovs-lwt
units=/etc/systemd/system
changed=''

say() { printf 'provision: %s\n' "$*"; }
die() {
    say "$*" >&2
    exit 1
}

# shellcheck source=scripts/packages.sh
. "$checkout/scripts/packages.sh"
# shellcheck source=scripts/pins.sh
. "$checkout/scripts/pins.sh"

# --- Install -----------------------------------------------------------------------------------

# COMMAND:PACKAGE
tools='ovs-vswitchd:openvswitch-switch ip:iproute2 nft:nftables ping:iputils-ping ethtool:ethtool'

install_packages() {
    # shellcheck disable=SC2046,SC2086 # one package, one pair a word
    install $(missing $tools) \
        $(python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv)
}

# What the installed ovs-lwt was made of.
sources() {
    cd "$checkout"
    find pyproject.toml constraints.txt README.md LICENSE flows ovs_lwt packaging examples \
        docs/overlay.schema.json -type f ! -name '*.pyc' |
        LC_ALL=C sort | xargs cksum | cksum
}

install_ovs_lwt() {
    current=$(sources)
    [ "$(cat "$environment/.sources" 2>/dev/null)" != "$current" ] || return 0
    say "installing ovs-lwt into $environment"
    [ -x "$environment/bin/python" ] || python3 -m venv "$environment"
    pip_with "$checkout/constraints.txt" "$environment/bin/python" install -q "$checkout"
    ln -sfn "$environment/bin/ovs-lwt" /usr/local/bin/ovs-lwt
    echo "$current" >"$environment/.sources"
    changed=yes
}

# --- Configure ---------------------------------------------------------------------------------

# put FILE MODE COMMAND...: what COMMAND prints becomes FILE, unless FILE says that already.
put() {
    file=$1
    mode=$2
    shift 2
    mkdir -p "$(dirname "$file")"
    "$@" >"$file.new"
    if cmp -s "$file.new" "$file"; then
        rm "$file.new"
        return 0
    fi
    say "writing $file"
    chmod "$mode" "$file.new"
    mv "$file.new" "$file"
    changed=yes
}

overlay() {
    echo '# Written by provision.sh: two tenants with the same addresses on every host.'
    echo 'underlay: {udp_port: 4789, mtu: 1500}'
    echo 'vteps:'
    number=0
    for address; do
        number=$((number + 1))
        echo "  host$number: {address: $address}"
    done
    echo 'tenants:'
    echo '  blue: {vni: 1010, mark: 10}'
    echo '  red: {vni: 2020, mark: 20}'
    echo 'endpoints_file: endpoints.csv'
}

endpoints() {
    echo 'tenant,name,mac,ip,host'
    for tenant in blue red; do
        number=0
        for _; do
            number=$((number + 1))
            printf '%s,web%d,02:00:00:00:00:%02x,10.0.0.%d/24 fd00::%d/64,host%d\n' \
                "$tenant" "$number" "$number" $((number + 10)) $((number + 10)) "$number"
        done
    done
}

write_files() {
    put "$etc/overlay.yaml" 644 overlay "$@"
    put "$etc/endpoints.csv" 644 endpoints "$@"
    # Whoever runs this machine may have changed the options.
    [ -e /etc/default/ovs-lwt ] ||
        put /etc/default/ovs-lwt 644 cat "$checkout/packaging/systemd/ovs-lwt.default"
    put "$units/ovs-lwt@.service" 644 cat "$checkout/packaging/systemd/ovs-lwt@.service"
    put "$units/ovs-lwt-guests@.service" 644 cat "$checkout/vagrant/ovs-lwt-guests@.service"
    put /usr/local/sbin/ovs-lwt-guests 755 cat "$checkout/vagrant/ovs-lwt-guests"
    put /usr/local/bin/ovs-lwt-smoke 755 cat "$checkout/vagrant/ovs-lwt-smoke"
}

# Restarting is harmless: flows outlive the controller, and guests that are there are kept.
start_services() {
    action=start
    [ -z "$changed" ] || action=restart
    systemctl daemon-reload
    systemctl --quiet enable openvswitch-switch "ovs-lwt@$host" "ovs-lwt-guests@$host"
    systemctl start openvswitch-switch
    systemctl "$action" "ovs-lwt@$host"
    systemctl "$action" "ovs-lwt-guests@$host"
}

# -----------------------------------------------------------------------------------------------

only_configure=
if [ "${1:-}" = --configure ]; then
    only_configure=yes
    shift
fi
[ $# -ge 2 ] || die 'usage: provision.sh [--configure] HOST ADDRESS...'
host=$1
shift
overlay "$@" | grep -q "^  $host: " ||
    die "with $# addresses HOST is one of host1 to host$#, not '$host'"
[ "$(id -u)" -eq 0 ] || die 'needs root'

if [ -z "$only_configure" ]; then
    install_packages
    install_ovs_lwt
fi
write_files "$@"
start_services
[ -n "$changed" ] || say 'nothing to change'
