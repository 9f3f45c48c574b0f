#!/bin/sh
# On host1: the flows outlive their controller. Restart its service, and kill it, under a ping; and
# see what it may do.
set -eu
unit=ovs-lwt@host1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

die() {
    printf '✗ %s\n' "$*"
    systemctl --no-pager status "$unit" || true
    exit 1
}

# A line a flow: what it is | seconds since it was installed | packets
flows() {
    ovs-ofctl -O OpenFlow14 dump-flows br-lwt | sed -nE \
        's/^ *(cookie=\S+) duration=([0-9.]+)s, (.*)n_packets=([0-9]+), n_bytes=[0-9]+, (.*)/\1 \3\5|\2|\4/p' |
        sort
}

in_sync() {
    ovs-lwt status --host host1 --wait --timeout 60 >/dev/null ||
        die 'the controller is not in sync again'
}

pid() { systemctl show --property MainPID --value "$unit"; }

in_sync
flows >"$work/before"
ip netns exec blue-web1 ping -i 0.2 -w 600 10.0.0.12 >"$work/ping" &
ping=$!
sleep 1

first=$(pid)
systemctl restart "$unit"
in_sync
second=$(pid)
kill -9 "$second"
# It comes back by itself.
tries=0
until [ "$(pid)" -ne 0 ] && [ "$(pid)" -ne "$second" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 60 ] || die 'systemd did not start it again'
    sleep 0.5
done
in_sync
systemctl reload "$unit" || die 'systemctl reload'
third=$(pid)

kill -INT "$ping"
wait "$ping" || true
flows >"$work/after"

grep -q ' 0% packet loss' "$work/ping" || die "the ping: $(tail -n 3 "$work/ping")"
# The same flows, none of them written anew: a new one counts its seconds from zero.
awk -F '|' '
    NR == FNR {seconds[$1] = $2; packets[$1] = $3; next}
    !($1 in seconds) {print "new: " $1; bad = 1; next}
    $2 < seconds[$1] || $3 < packets[$1] {print "written anew: " $1; bad = 1}
    {kept++; more += $3 - packets[$1]; delete seconds[$1]}
    END {
        for (flow in seconds) {print "gone: " flow; bad = 1}
        print "✓ " kept " flows are those from before, and have seen " more " more packets"
        exit bad
    }' "$work/before" "$work/after" || die 'flows were lost'
printf '✓ processes %s, %s (killed), %s; the ping meanwhile: %s\n' "$first" "$second" "$third" \
    "$(grep 'packet loss' "$work/ping")"

# What the service may do, as the kernel has it: bit 12 is CAP_NET_ADMIN.
capabilities=$(awk '/^CapEff/ {print $2}' "/proc/$third/status")
[ "$capabilities" = 0000000000001000 ] || die "its capabilities are $capabilities"
printf '✓ its one capability: CAP_NET_ADMIN (%s); %s\n' "$capabilities" \
    "$(systemd-analyze --no-pager security "$unit" | tail -n 1)"

# What it may write, seen as it sees the files.
try() { nsenter --target "$third" --mount sh -c "$1" 2>/dev/null; }
same() { try "cat /proc/sys/$1 >/proc/sys/$1"; }
same net/ipv4/ip_forward || die 'it cannot set the sysctls of the network'
! same kernel/panic || die 'it can set the sysctls of the kernel'
! try 'touch /etc/ovs-lwt/overlay.yaml' || die 'it can write to /etc'
try 'touch /var/lib/ovs-lwt/try && rm /var/lib/ovs-lwt/try' || die 'it cannot keep its state'
echo '✓ it may write its state and the sysctls of the network, but neither /etc nor other sysctls'
