"""One port made mute, step by step, while a guest is attached."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from ovs_lwt.veth.mute import nft, sysctls, tc
from ovs_lwt.veth.mute.values import CannotMute, Mute
from ovs_lwt.veth.nftables import NftBusy, NftLacks

_IFF_NOARP: Final = 0x80
_ADDR_GEN_MODE_NONE: Final = 1


def before(netns: str | None, name: str, mute: Mute) -> str:
    """Put up the wall that needs no device yet. netns: of the host: a name or path; None: ours

    Returns what keeps it from standing: empty if it stands.
    """
    try:
        nft.keep(netns, {name: mute.mark})
    except NftLacks as lacking:
        return str(lacking)
    return ""


def settle(host: Any, netns: str | None, link: Any, mute: Mute, lacking: str) -> None:
    """Make the device mute. It should be down, or be muted otherwise already.

    host: an `IPRoute` in `netns`; link: the device; lacking: what `before` has returned
    Raises CannotMute, which names what this machine lacks.
    """
    index, name = link["index"], link.get("ifname")
    host.link(
        "set",
        index=index,
        af_spec={
            "attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", _ADDR_GEN_MODE_NONE)]})]
        },
    )
    if not link["flags"] & _IFF_NOARP:
        host.link("set", index=index, arp=False)
    wrong = sysctls.differing(netns, name, mute.sysctls)
    sysctls.write(netns, name, {each: mute.sysctls[each] for each in wrong})
    if not lacking:
        tc.clear(host, index)
        return
    try:
        tc.guard(host, index, mute)
    except CannotMute as also:
        raise CannotMute(f"{lacking}; {also}") from also


def release(netns: str | None, name: str) -> None:
    """Let go of a port that is gone; one that nobody keeps is fine."""
    # Where nft is too busy, whoever keeps the table lets go of it: the device is gone.
    with suppress(NftBusy):
        there = nft.read(netns)
        if there is not None and name in there.ports:
            # What nft cannot undo here, it had not done.
            nft.keep(netns, {}, [name])
