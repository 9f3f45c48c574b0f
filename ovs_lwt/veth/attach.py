"""Attach and detach: the pair, its two ends, the mark, and on plane ovs the port of the bridge.

Whose a port is, it says itself: an endpoint that is attached already is found by its claim, and
keeps whatever name its port has.

In this order, so that there is no moment in which the host's stack hears the guest: the wall by the
port's name, the device (down), its sysctls, its mark, its place in what takes its frames, and then
it is set up. On the way back it is set down first, and the wall goes last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ovs_lwt.claims import ENDPOINT_KEY, MARKING_KEY
from ovs_lwt.mistakes import Refused
from ovs_lwt.names import endpoint_id, port_name
from ovs_lwt.veth.guest import set_guest_end
from ovs_lwt.veth.host_end import is_walled, join, set_down, set_host_end, set_up
from ovs_lwt.veth.marking import BOTH_WAYS, ONE_WAY, CannotMark, Marked, clear_mark, set_mark
from ovs_lwt.veth.mute import CannotMute, Mute, Wall, before, release, settle
from ovs_lwt.veth.netlink import delete_link, inside, link_named, links_aliased, spoken_by_kernel
from ovs_lwt.veth.pair import alias, create_pair, find_pair, in_use, is_ours
from ovs_lwt.veth.plan import BRIDGE, AttachPlan


class Switch(Protocol):
    """What attaching needs of the local switch; `ovs_lwt.vswitch.switch.LocalSwitch` is one."""

    bridge: str

    def datapath_type(self) -> str:
        """Return "system" or "netdev"."""

    def claim_of(self, name: str) -> str | None:
        """Return the endpoint that port `name` claims, or None."""

    def claimants(
        self, identity: str, uuid: str | None = None, mac: str | None = None
    ) -> Sequence[str]:
        """Return the names of the ports that claim this endpoint, or say nothing and have this
        ``iface-id`` or ``attached-mac``.
        """

    def bridge_with(self, name: str) -> str | None:
        """Return the bridge that has a port called `name`, or None."""

    def add_port(self, name: str, external_ids: Mapping[str, str]) -> None:
        """Add the port, or mend it."""

    def del_port(self, name: str) -> bool:
        """Remove the port if it is there."""


@dataclass(frozen=True, slots=True)
class Attached:
    """A guest that is attached: the host's end of its veth, and who sets its tenant's mark."""

    port: str
    marking: Literal["tc", "nft", "flow"]


@dataclass(frozen=True, slots=True)
class _Found:
    """What says that it is an endpoint's. ports: of the switch; links: by their aliases (Any)"""

    ports: tuple[str, ...]
    links: Mapping[str, Any]


def attach(plan: AttachPlan, switch: Switch | None, *, host_netns: str | None = None) -> Attached:
    """Give the guest its interface and its host the other end, claimed and marked.

    `switch` is the local switch, None on planes bridge and route: there the device's alias is the
    claim. `host_netns` is the namespace (name or path) of the host, where it is not ours.
    Raises `Refused` if a namespace is missing, a name is in use by something else, another port
    claims the endpoint, the mark cannot be set, or the kernel or ovs-vswitchd will not; what this
    call had created is then removed again.
    """
    if (switch is None) != (plan.plane != "ovs"):
        raise ValueError(f"plane {plan.plane} with {'no' if switch is None else 'a'} switch")
    wall = _wall(plan, switch)
    userspace = switch if wall == "userspace" else None
    _refuse_marking(plan, userspace)
    mute = Mute(wall, plan.mark if wall == "route" else None)
    with (
        spoken_by_kernel(f"attach {plan.identity} to {plan.netns}"),
        inside(host_netns) as host,
        ExitStack() as undo,
    ):
        found = _found(plan.identity, switch, host, host_netns, plan)
        name = _name_for(plan, found, host, switch)
        claimed = switch is not None and _claimed(switch, name, plan.identity)
        with inside(plan.netns) as guest:
            link = find_pair(host, guest, plan, name)
            fresh = link is None
            if fresh:
                if switch is not None:
                    # A port left behind by a guest that was deleted hangs on the device that is
                    # no more: the new one of that name would never be read.
                    for stale in {name, *switch.claimants(plan.identity)}:
                        switch.del_port(stale)
                    claimed = False
                # Before there is a device, and gone after it.
                undo.callback(release, host_netns, name)
            lacking = before(host_netns, name, mute)
            if fresh:
                link = create_pair(host, plan, name, undo)
            elif not is_walled(host, link, wall):
                set_down(host, name)
            set_host_end(host, link, plan)
            try:
                settle(host, host_netns, link, mute, lacking)
            except CannotMute as reason:
                raise Refused(
                    f"this machine cannot keep what {plan.identity} sends from the host's own"
                    f" stack: {reason}"
                ) from reason
            set_guest_end(guest, plan, checksums=userspace is None)
        marking: Literal["tc", "nft", "flow"] = "flow"
        if userspace is None:
            marking = _mark(host, host_netns, link, plan, fresh=fresh)
            if fresh:
                undo.callback(clear_mark, host, host_netns, name, None)
        if switch is not None:
            if not claimed:
                undo.callback(_forget_port, switch, name)
            switch.add_port(name, {ENDPOINT_KEY: plan.identity, MARKING_KEY: marking})
        # Last of all: now something takes the guest's frames. On plane bridge that may be still to
        # come; then its agent, which puts the port into the bridge, sets it up as well.
        if plan.plane != "bridge" or join(host, name, BRIDGE):
            set_up(host, name)
        undo.pop_all()
    return Attached(name, marking)


def detach(
    tenant: str, endpoint: str, switch: Switch | None, *, host_netns: str | None = None
) -> bool:
    """Remove the endpoint's port and veth, whatever they are called; False if there was neither.

    `switch` and `host_netns` as for `attach`. Raises `Refused`, with nothing removed, if what
    claims the endpoint was not made by `attach`, or claims another as well.
    """
    identity = endpoint_id(tenant, endpoint)
    with spoken_by_kernel(f"detach {identity}"), inside(host_netns) as host:
        found = _found(identity, switch, host, host_netns)
        names = dict.fromkeys([*found.ports, *found.links]) or {port_name(tenant, endpoint): None}
        for name in names:
            link = link_named(host, name)
            if link is not None and not is_ours(link, identity):
                raise _not_attached(identity, name) if name in found.ports else in_use(name, link)
            if switch is not None:
                _claimed(switch, name, identity)
        removed = False
        for name in names:
            # Mute before it leaves what takes its frames.
            set_down(host, name)
            removed |= switch is not None and name in found.ports and switch.del_port(name)
            # tc's filters go with the device, nft's chains may wait for the next one of that name.
            clear_mark(host, host_netns, name, None)
            removed |= delete_link(host, name)
            release(host_netns, name)
        return removed


def _found(
    identity: str,
    switch: Switch | None,
    host: Any,
    host_netns: str | None,
    plan: AttachPlan | None = None,
) -> _Found:
    """What claims this endpoint: ports of the switch, and devices by their alias.

    plan: says by what else its port is known, if the overlay has been asked
    """
    links = links_aliased(host, host_netns, alias(identity))
    # Where a switch is, the alias of a device that we did not make says nothing.
    ours = [link for link in links if switch is None or is_ours(link, identity)]
    known = (plan.uuid, plan.mac if plan.by_mac else None) if plan else ()
    ports = () if switch is None else tuple(switch.claimants(identity, *known))
    return _Found(ports, {link.get("ifname"): link for link in ours})


def _name_for(plan: AttachPlan, found: _Found, host: Any, switch: Switch | None) -> str:
    """What the endpoint's port is called, or is to be called if there is none yet."""
    links = dict(found.links)
    for name in found.ports:
        # A port without a device is what a guest leaves behind that was deleted.
        if name not in links and (link := link_named(host, name)) is not None:
            links[name] = link
    for name, link in links.items():
        if not is_ours(link, plan.identity):
            raise _not_attached(plan.identity, name)
    if len(links) > 1:
        raise Refused(
            f"{plan.identity} is behind several ports ({', '.join(sorted(links))}): detach it first"
            f" (ovs-lwt detach {plan.identity})"
        )
    for name in links:
        if plan.chosen and name != plan.port_name:
            raise Refused(
                f"{plan.identity} is attached already, as port '{name}': detach it first"
                f" (ovs-lwt detach {plan.identity})"
            )
        return name
    if plan.chosen and switch is not None and plan.port_name not in found.ports:
        bridge = switch.bridge_with(plan.port_name)
        if bridge is not None:
            raise Refused(
                f"'{plan.port_name}' is a port of bridge '{bridge}' already: choose another name"
                " with --port"
            )
    return plan.port_name


def _not_attached(identity: str, name: str) -> Refused:
    return Refused(
        f"port '{name}' claims {identity}, and `ovs-lwt attach` has not made it: take its claim"
        " away first, or leave the guest to it"
    )


def _wall(plan: AttachPlan, switch: Switch | None) -> Wall:
    """What forwards for the port."""
    if plan.plane != "ovs":
        return plan.plane
    return "userspace" if switch is not None and switch.datapath_type() == "netdev" else "system"


def _claimed(switch: Switch, name: str, identity: str) -> bool:
    """Say whether port `name` is this endpoint's already; refuse if it is another's."""
    claim = switch.claim_of(name)
    if claim not in (None, identity):
        raise Refused(
            f"port '{name}' claims endpoint '{claim}': detach that one first, or remove the port"
            f" (ovs-vsctl del-port {name})"
        )
    return claim == identity


def _forget_port(switch: Switch, name: str) -> None:
    # What made us go back says more than what may go wrong on the way.
    with suppress(Refused):
        switch.del_port(name)


def _refuse_marking(plan: AttachPlan, userspace: Switch | None) -> None:
    """Refuse a way of marking that this host has no use for, whatever its kernel can do."""
    if userspace is not None and plan.marking in ("tc", "nft"):
        # A mark set by the kernel does not reach packets that leave it by a packet socket.
        raise Refused(
            f"bridge '{userspace.bridge}' has the userspace datapath, which does not see marks set"
            f" by {plan.marking}: attach with marking 'flow'"
        )
    if plan.plane != "ovs" and plan.marking == "flow":
        raise Refused(
            f"plane {plan.plane} has no flow that could set the mark of {plan.identity}: attach"
            " with marking 'tc' or 'nft'"
        )


def _mark(
    host: Any, netns: str | None, link: Any, plan: AttachPlan, *, fresh: bool
) -> Literal["tc", "nft", "flow"]:
    """Mark what passes the host's end, where the kernel forwards it; return who does.

    On plane ovs the flows mark what a guest is handed; and all of it, if the kernel cannot.
    """
    name, index = link.get("ifname"), link["index"]
    if plan.marking != "flow":
        directions = ONE_WAY if plan.plane == "ovs" else BOTH_WAYS
        device = Marked(name, index, plan.mark, directions)
        try:
            return set_mark(host, netns, device, plan.marking, clean=fresh)
        except CannotMark as lacking:
            if plan.plane != "ovs" or plan.marking != "auto":
                mend = ", or attach with marking 'flow'" if plan.plane == "ovs" else ""
                raise Refused(
                    f"this machine cannot mark the packets of {plan.identity}: {lacking}{mend}"
                ) from lacking
    if not fresh:
        clear_mark(host, netns, name, index)
    return "flow"
