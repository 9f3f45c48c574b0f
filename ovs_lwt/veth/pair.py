"""The pair of a veth: whether it is there, whose it is, and how it is made."""

from __future__ import annotations

import errno
from contextlib import ExitStack
from typing import Any

from ovs_lwt.claims import Renamed
from ovs_lwt.mistakes import Refused
from ovs_lwt.netns import namespace_path
from ovs_lwt.veth.netlink import delete_link, ignoring, inside, link_named
from ovs_lwt.veth.plan import AttachPlan


def alias(identity: str) -> str:
    """What `ip link` shows on the host's end: whose it is. Without a switch it is the claim."""
    return f"ovs-lwt {identity}"


def is_ours(link: Any, identity: str) -> bool:
    """Say whether a link is the host's end of this endpoint's veth."""
    kind = link.get(("linkinfo", "kind"))
    return bool(kind == "veth" and link.get("ifalias") == alias(identity))


def rename_claims(netns: str | None, claims: Renamed) -> tuple[str, ...]:
    """Have these devices claim what they are to claim now; return those that do.

    netns: theirs: a name or a path; None: ours. One that has gone, or is another by now, is none.
    """
    done = []
    with inside(netns) as host:
        for name, (before, now) in claims.items():
            link = link_named(host, name)
            if link is None or link.get("ifalias") != alias(before):
                continue
            if ignoring(errno.ENODEV, host.link, "set", index=link["index"], ifalias=alias(now)):
                done.append(name)
    return tuple(done)


def in_use(name: str, link: Any) -> Refused:
    """Return the refusal of a name that something else has."""
    kind = link.get(("linkinfo", "kind"))
    whose = link.get("ifalias") or f"a {kind or 'physical'} device"
    mend = f"remove it first (ip link del {name}), or " if kind == "veth" else ""
    return Refused(f"'{name}' is in use by {whose}: {mend}attach under another name (--port)")


def find_pair(host: Any, guest: Any, plan: AttachPlan, name: str) -> Any | None:
    """Return the host's end if the whole pair is there, None if nothing is; else refuse."""
    mine, inner = link_named(host, name), link_named(guest, plan.interface)
    if mine is not None and not is_ours(mine, plan.identity):
        raise in_use(name, mine)
    if mine is None:
        if inner is not None:
            raise Refused(
                f"network namespace {plan.netns} already has an interface '{plan.interface}':"
                " choose another name with --interface"
            )
        return None
    if (
        inner is None
        or inner.get("link") != mine["index"]
        or mine.get("link") != inner["index"]
        or inner.get(("linkinfo", "kind")) != "veth"
    ):
        raise Refused(
            f"{plan.identity} is attached elsewhere, not to '{plan.interface}' of {plan.netns}:"
            f" detach it first (ovs-lwt detach {plan.identity})"
        )
    return mine


def create_pair(host: Any, plan: AttachPlan, name: str, undo: ExitStack) -> Any:
    """Create both ends and return the host's; `undo` learns how to remove them."""
    # In one message: the guest's end never exists in the host's namespace.
    peer = {
        "ifname": plan.interface,
        "address": plan.mac,
        "mtu": plan.mtu,
        "net_ns_fd": namespace_path(plan.netns),
    }
    host.link("add", ifname=name, kind="veth", mtu=plan.mtu, peer=peer)
    undo.callback(delete_link, host, name)
    host.link("set", ifname=name, ifalias=alias(plan.identity))
    return link_named(host, name)
