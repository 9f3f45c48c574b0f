"""The host hears nothing of its guests: stories that are the same on every plane and datapath.

The host is as easy to take over as a host may be: it forwards, and filters no reverse paths.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from ovs_lwt.claims import ENDPOINT_KEY
from ovs_lwt.lab import namespaces
from ovs_lwt.lab.plan import BRIDGE, UPLINK
from ovs_lwt.lab.processes import inside, run
from ovs_lwt.sources.overlay_file import from_dict
from ovs_lwt.veth import attach, detach, plan_attach
from ovs_lwt.veth.mute import nft
from ovs_lwt.vswitch.switch import LocalSwitch
from tests.support.conformance_fabric import Fabric
from tests.support.fragments import halves
from tests.support.host_ears import Ears, Guest, Host, attack, attacking, listening
from tests.support.ovs import eventually
from tests.support.packets import token

HOST, GUEST = "host1", "blue/web1"
_SECONDS = 20.0
TAP = "vnet7"
_STATEFUL = """
nft add table inet stateful
nft add chain inet stateful forward '{ type filter hook forward priority 0; }'
nft add rule inet stateful forward ct state established accept
"""
_GRACE = 90.0  # the keeper holds on to the name of a device that is gone for a minute
_WHILE = 3.0  # for an agent to notice, and to make what it can anew


def attacker(fabric: Fabric, guest: str = GUEST) -> Guest:
    """A guest that has turned against its host."""
    there = fabric.guests[guest]
    return Guest(there.namespace, fabric.at(guest), fabric.at(guest, 6))


@contextlib.contextmanager
def victim(fabric: Fabric, guest: str = GUEST) -> Iterator[Ears]:
    """Its host, which believes everything; and its ears."""
    there = fabric.host(fabric.guests[guest].host)
    other = next(host for host in fabric.plan.own_hosts if host.name != there.name)
    device = "br-phy" if there.datapath == "netdev" else UPLINK
    with ExitStack() as undo:
        for setting in ("ip_forward=1", "icmp_echo_ignore_broadcasts=0", "conf.all.rp_filter=0"):
            fabric.run(there.name, "sysctl", "-qw", f"net.ipv4.{setting}")
        # Of one that is not there the stack would tell itself, with the guest's frame in its
        # message.
        for address in (other.address, fabric.host("theirs").address):
            neighbour = ("lladdr", other.mac, "dev", device, "nud", "permanent")
            fabric.run(there.name, "ip", "neigh", "replace", str(address), *neighbour)
            undo.callback(fabric.run, there.name, "ip", "neigh", "del", str(address), "dev", device)
        known = Host(
            there.namespace,
            str(there.address),
            str(other.address),
            fabric.guests[guest].port,
            (fabric.plan.underlay, there.uplink),
        )
        yield undo.enter_context(listening(known))


# The stories


def nothing_is_heard(fabric: Fabric) -> None:
    """All that a guest may try."""
    with victim(fabric) as ears:
        attack(ears, attacker(fabric))
        assert not (heard := ears.heard()), heard


def nothing_is_heard_while_a_guest_comes_and_goes(fabric: Fabric, times: int = 3) -> None:
    """Every moment of attach and detach, with the agent watching."""
    guest = fabric.guests[GUEST]
    with victim(fabric) as ears:
        with attacking(ears, attacker(fabric)):
            for _ in range(times):
                _detach(fabric, GUEST)
                _attach(fabric, GUEST, guest.namespace)
        fabric.in_sync(HOST)
        assert not (heard := ears.heard()), heard


def nothing_is_heard_while_the_agent_is_away(fabric: Fabric) -> None:
    """Neither when it ends, nor while a guest comes without it, nor when it starts."""
    guest = fabric.guests[GUEST]
    with victim(fabric) as ears:
        with attacking(ears, attacker(fabric)):
            fabric.stop(HOST)
            _detach(fabric, GUEST)
            _attach(fabric, GUEST, guest.namespace)
            fabric.start(HOST)
        assert not (heard := ears.heard()), heard


def a_port_that_is_claimed_by_hand(fabric: Fabric) -> None:
    """Claimed while it is down, it is mute before it is set up."""
    guest = fabric.guests[GUEST]
    there = fabric.host(HOST)
    with victim(fabric) as ears, ExitStack() as undo:
        _detach(fabric, GUEST)
        undo.callback(_attach, fabric, GUEST, guest.namespace)
        with attacking(ears, attacker(fabric)):
            peer = ("peer", "name", "eth0", "netns", guest.namespace)
            fabric.run(HOST, "ip", "link", "add", TAP, "type", "veth", *peer)
            undo.callback(fabric.run, HOST, "ip", "link", "del", TAP)
            run(inside(guest.namespace, ["ip", "link", "set", "eth0", "up"]))
            if there.plane == "ovs":
                claim = f"external_ids:{ENDPOINT_KEY}={GUEST}"
                fabric.run(
                    HOST, "ovs-vsctl", "add-port", BRIDGE, TAP, "--", "set", "interface", TAP, claim
                )
                undo.callback(fabric.run, HOST, "ovs-vsctl", "del-port", BRIDGE, TAP)
            else:
                fabric.run(
                    HOST, "ip", "link", "set", TAP, "alias", f"ovs-lwt {GUEST}", "mtu", "1400"
                )
                fabric.run(HOST, "ip", "link", "set", TAP, "arp", "off")
            assert eventually(lambda: silent(fabric, TAP), _SECONDS)
            fabric.run(HOST, "ip", "link", "set", TAP, "up")
            fabric.in_sync(HOST)
        assert not (heard := ears.heard()), heard


def what_somebody_changed_is_mended(fabric: Fabric, change: str) -> None:
    """Within seconds, and the log says so."""
    port = fabric.guests[GUEST].port
    host = fabric.host(HOST)
    before = len(host.log.read_text())
    fabric.run(HOST, "sh", "-ec", change.format(port=port))
    assert eventually(lambda: "WARNING" in host.log.read_text()[before:], _SECONDS)
    assert eventually(lambda: silent(fabric, port), _SECONDS), change
    nothing_is_heard(fabric)
    assert eventually(lambda: not fabric.reach(GUEST, "blue/web2").wrong, _SECONDS), change


def nothing_is_heard_when_what_forwards_is_deleted(fabric: Fabric) -> None:
    """The bridge goes, and the guest's cable stays; the agent may make it anew.

    Without nft it takes the agent to set the port down: until then strict filtering of reverse
    paths drops IPv4, but from no address.
    """
    host = fabric.host(HOST)
    delete = ["ip", "link", "del", "br-lwt"]
    if host.plane == "ovs":
        delete = ["ovs-vsctl", "del-br", BRIDGE]
    with victim(fabric) as ears:
        with attacking(ears, attacker(fabric)):
            fabric.run(HOST, *delete)
            time.sleep(_WHILE)
        heard = [each for each in ears.heard() if has_nft(fabric) or "0.0.0.0" not in each]
        assert not heard, heard


def tenants_are_kept_apart_where_the_host_tracks_connections(fabric: Fabric) -> None:
    """The kernel puts fragments together, and knows connections, by addresses that all may have."""
    senders = ("blue/web1", "red/web1")
    with ExitStack() as undo:
        for host in fabric.plan.own_hosts:
            fabric.run(host.name, "sh", "-ec", _STATEFUL)
            undo.callback(fabric.run, host.name, "nft", "delete", "table", "inet", "stateful")
        # Not those of the fabric: guests have come and gone.
        wires = undo.enter_context(fabric.listening())
        for version in (4, 6):
            for number, pair in enumerate((senders, senders[::-1]), 7):
                tokens = (token(), token())
                for half, sender in enumerate(pair):
                    there = _counterpart(sender)
                    target = (fabric.door(sender, there), fabric.ip(there, version))
                    frames = halves(fabric.at(sender, version), target, number, tokens)
                    wires.say(sender, frames[half])
                for sender, mark in zip(pair, tokens, strict=True):
                    assert wires.heard(mark) == {_counterpart(sender): 1}, (version, sender)
        for host in fabric.plan.own_hosts:
            tracked = fabric.run(host.name, "cat", "/proc/net/nf_conntrack")
            assert fabric.ip("blue/web1") not in tracked


def _counterpart(sender: str) -> str:
    """The guest on the other host to which a guest's fragments go."""
    return f"{sender.partition('/')[0]}/web2"


def nothing_stays_behind(fabric: Fabric) -> None:
    """The last port takes our table along, and the next one brings it back."""
    guests = [g for g in fabric.guests.values() if g.host == HOST]
    with ExitStack() as undo:
        for guest in guests:
            _detach(fabric, guest.id)
            undo.callback(_attach, fabric, guest.id, guest.namespace)
        assert eventually(lambda: nft.read(fabric.host(HOST).namespace) is None, _GRACE)
    fabric.in_sync(HOST)
    nothing_is_heard(fabric)


# What there is


def silent(fabric: Fabric, port: str) -> bool:
    """Whether a port is as it should be: sysctls, no ARP, and the walls that this kernel has."""
    host = fabric.host(HOST)
    (link,) = json.loads(fabric.run(HOST, "ip", "-json", "link", "show", port))
    conf = f"/proc/sys/net/ipv6/conf/{port}"
    found = fabric.run(HOST, "cat", f"{conf}/disable_ipv6", f"{conf}/accept_ra").split()
    table = nft.read(host.namespace)
    walled = table is not None and table.right and port in table.ports
    walled = walled or "gact" in filters(fabric, port)
    walled = walled or (host.plane == "ovs" and host.datapath == "system" and not has_nft(fabric))
    ours = ["0" if host.plane == "route" else "1", "0"]
    return "NOARP" in link["flags"] and found == ours and walled


def has_nft(fabric: Fabric) -> bool:
    """Whether the kernel has what nft needs."""
    with contextlib.suppress(Exception):
        fabric.run(HOST, "nft", "--check", "add table inet trial")
        return True
    return False


def filters(fabric: Fabric, port: str) -> str:
    """What tc lists on a port."""
    return fabric.run(HOST, "tc", "filter", "show", "dev", port, "ingress")


def _attach(fabric: Fabric, identity: str, namespace: str) -> None:
    _on_its_switch(
        fabric,
        lambda switch: attach(plan_attach(from_dict(fabric.overlay), identity, namespace), switch),
    )


def _detach(fabric: Fabric, identity: str) -> None:
    tenant, _, name = identity.partition("/")
    _on_its_switch(fabric, lambda switch: detach(tenant, name, switch))


def _on_its_switch(fabric: Fabric, do: Callable[[LocalSwitch | None], object]) -> None:
    host = fabric.host(HOST)
    with ExitStack() as stack:
        switch = None
        if host.plane == "ovs":
            switch = stack.enter_context(LocalSwitch(host.ovsdb, BRIDGE))
        stack.enter_context(namespaces.entered(host.namespace))
        do(switch)
