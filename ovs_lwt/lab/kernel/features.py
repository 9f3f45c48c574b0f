"""What the planes need of a kernel, and whether the one we run on has it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass

from ovs_lwt.lab.kernel.tools import with_sbin

_SECONDS = 20.0
# ovs-vswitchd (seen with 3.1) takes a machine that is up for less than 10 s for one without
# cores: it runs no handler threads, and every packet that misses the flow cache is lost.
_COUNTS_CORES_AFTER = 10.5


@dataclass(frozen=True, slots=True)
class Feature:
    """Something a kernel has or lacks: the shell commands `probe` succeed where it has it.

    They run as root in a network namespace of their own. `in_uml` is whether Debian's user-mode
    Linux has it.
    """

    name: str
    probe: str
    in_uml: bool = True


FEATURES = (
    Feature("Open vSwitch datapath", "modprobe -q openvswitch || test -d /sys/module/openvswitch"),
    Feature(
        "marks by tc (clsact, matchall, skbedit)",
        "ip link add ve0 type veth peer name ve1; tc qdisc add dev ve0 clsact;"
        " tc filter add dev ve0 ingress matchall action skbedit mark 10",
    ),
    Feature(
        "tunnel keys by tc (flower, tunnel_key)",
        "ip link add ve0 type veth peer name ve1; tc qdisc add dev ve0 clsact;"
        " tc filter add dev ve0 ingress flower action tunnel_key set"
        " src_ip 10.1.1.1 dst_ip 10.1.1.2 id 10 dst_port 4789",
    ),
    Feature(
        "VLAN-aware bridge",
        "ip link add br0 type bridge vlan_filtering 1; bridge vlan add dev br0 vid 10 self",
    ),
    Feature(
        "VXLAN for all VNIs, with a VNI filter",
        "ip link add vx0 type vxlan dstport 4789 external vnifilter; bridge vni add vni 10 dev vx0",
    ),
    Feature(
        "VLAN to VNI",
        "ip link add br0 type bridge vlan_filtering 1;"
        " ip link add vx0 type vxlan dstport 4789 external vnifilter; ip link set vx0 master br0;"
        " bridge link set dev vx0 vlan_tunnel on neigh_suppress on; bridge vlan add dev vx0 vid 10;"
        " bridge vlan add dev vx0 vid 10 tunnel_info id 1010",
    ),
    Feature("VRF", "ip link add vrf10 type vrf table 10"),
    Feature(
        "MPLS routes",
        "modprobe -qa mpls_router mpls_iptunnel || true; ip link set lo up;"
        " sysctl -qw net.mpls.platform_labels=100; ip -f mpls route add 50 dev lo;"
        " ip route add 20.1.1.0/24 encap mpls 50 via inet 127.0.0.1 dev lo",
    ),
    Feature(
        "routes into VXLAN",
        "ip link add vx0 up type vxlan dstport 4789 external;"
        " ip route add 20.1.1.0/24 encap ip id 10 dst 10.1.1.2 dev vx0;"
        " ip rule add fwmark 10 lookup 10; ip rule add tun_id 10 lookup 10",
    ),
)

# What no plane needs, and tests and what stands beside an overlay may.
OTHERS = (
    Feature(
        "nft",
        "nft add table inet t;"
        " nft 'add chain inet t c { type filter hook prerouting priority 0; }';"
        " nft add rule inet t c meta mark set 10",
        in_uml=False,
    ),
    Feature(
        "conntrack zones",
        "modprobe -qa nf_conntrack openvswitch || true; nft add table ip t;"
        " nft 'add chain ip t c { type filter hook prerouting priority raw; }';"
        " nft add rule ip t c ct zone set 10",
        in_uml=False,
    ),
    Feature("WireGuard", "ip link add wg0 type wireguard", in_uml=False),
)


def failure(feature: Feature) -> str | None:
    """Try the feature here; return None if this kernel has it, else what the commands said."""
    done = subprocess.run(
        ["unshare", "--net", "--", "sh", "-ec", feature.probe],
        env=os.environ | {"PATH": with_sbin(os.environ.get("PATH", ""))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode == 0:
        return None
    return done.stderr.strip() or f"exit status {done.returncode}"


def missing_features(features: Iterable[Feature] = FEATURES) -> tuple[Feature, ...]:
    """Return what this kernel lacks, or what we may not try: not being root."""
    return tuple(feature for feature in features if failure(feature) is not None)


def settle() -> None:
    """Wait until ovs-vswitchd can be started: on a machine that has just booted, 10 s."""
    # CLOCK_MONOTONIC, which OVS reads as well, begins with the boot.
    time.sleep(max(0.0, _COUNTS_CORES_AFTER - time.monotonic()))
