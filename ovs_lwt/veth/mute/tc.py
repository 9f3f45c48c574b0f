"""The wall where nft is missing: filters of tc on what a port receives, behind the mark's.

They stand before what forwards, so they drop all of it only on the userspace datapath, which reads
along before them. A bridge hands the stack nothing but link-local control frames (802.1Q, 8.6.3;
br_handle_frame), and on plane route the stack shall not get what it would take for itself, nor what
does not bear the tenant's mark. The kernel's Open vSwitch hands the stack nothing.

An action's index says which filter it is of, and on which device, as with marks: the kernel lists
actions of all devices at once. (tc-flower(8), tc-matchall(8), tc-fw(8))
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from socket import htons
from typing import Any, Final

from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTM_DELTFILTER, RTM_GETACTION, RTM_NEWTFILTER
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from ovs_lwt.veth import flower
from ovs_lwt.veth.marking.actions import tcamsg
from ovs_lwt.veth.mute.values import CannotMute, Mute, Wall
from ovs_lwt.veth.netlink import ask, ignoring

flower.register()

_INGRESS: Final = 0xFFFFFFF2
_FIRST: Final = 2  # preference 1 is the mark's
_DEVICE: Final = 0x0FFFFFFF
_OK, _SHOT = 0, 2  # TC_ACT_OK, TC_ACT_SHOT
_ALL, _IPV4, _IPV6, _TAGGED, _DOUBLY = 0x0003, 0x0800, 0x86DD, 0x8100, 0x88A8
_LACKING: Final = (errno.ENOENT, errno.EOPNOTSUPP)
_TRIES: Final = 3  # what is in the way goes, ours comes; then it is looked at


@dataclass(frozen=True, slots=True)
class Guard:
    """A filter. protocol: an EtherType; options: what it matches; verdict: TC_ACT_…"""

    kind: str
    protocol: int = _ALL
    options: Sequence[tuple[str, Any]] = field(default_factory=tuple)
    verdict: int = _SHOT
    handle: int = 1


def _towards(version: int, address: str, mask: str) -> Guard:
    protocol = {4: _IPV4, 6: _IPV6}[version]
    key = f"TCA_FLOWER_KEY_IPV{version}_DST"
    options = [("TCA_FLOWER_KEY_ETH_TYPE", protocol), (key, address), (f"{key}_MASK", mask)]
    return Guard("flower", protocol, options)


_EVERYTHING: Final = Guard("matchall")
_CONTROL: Final = Guard(
    "flower",
    options=[
        ("TCA_FLOWER_KEY_ETH_DST", "01:80:c2:00:00:00"),
        ("TCA_FLOWER_KEY_ETH_DST_MASK", "ff:ff:ff:ff:ff:f0"),
    ],
)
# What the stack delivers to itself whatever its routes say: multicast, broadcast, its link-local
# addresses. A tag of VLAN 0 would hide it from the filters of its protocol.
_OWN: Final = (
    Guard("matchall", _TAGGED),
    Guard("matchall", _DOUBLY),
    _towards(4, "224.0.0.0", "224.0.0.0"),
    _towards(4, "0.0.0.0", "255.0.0.0"),
    _towards(6, "ff00::", "ff00::"),
    _towards(6, "fe80::", "ffc0::"),
)
_LET_ON, _LAST = len(_OWN), len(_OWN) + 1
_SLOTS: Final = _LAST + 1
_WALLS: Final[dict[Wall, dict[int, Guard]]] = {
    "userspace": {_LAST: _EVERYTHING},
    "bridge": {0: _CONTROL},
    # What is the stack's own is dropped whether a mark is let on or not: an agent that does not
    # know the tenant yet takes nothing away that an `attach` beside it counts on.
    "route": {**dict(enumerate(_OWN)), _LAST: _EVERYTHING},
    "system": {},
}

Found = dict[int, dict[int, int]]
"""A device's index -> place of the filter -> its verdict."""


def guards(mute: Mute) -> dict[int, Guard]:
    """The filters that a port needs where nft is missing, by their places."""
    wanted = dict(_WALLS[mute.wall])
    if mute.mark is not None:
        wanted[_LET_ON] = Guard("fw", verdict=_OK, handle=mute.mark)
    return wanted


def found(host: Any) -> Found:
    """The filters of ours that there are, of all devices. host: an `IPRoute`"""
    there: Found = {}
    for action, verdict in _actions(host):
        place = (action >> 28) - 1
        if 0 <= place < _SLOTS:
            there.setdefault(action & _DEVICE, {})[place] = verdict
    return there


def right(there: Found, index: int, mute: Mute) -> bool:
    """Whether a device has the filters that it needs, and no others of ours."""
    wanted = guards(mute)
    return there.get(index, {}) == {place: each.verdict for place, each in wanted.items()}


def guard(host: Any, index: int, mute: Mute) -> None:
    """Give a device the filters that it needs. Raises CannotMute if this kernel lacks something.

    Drops come first, and the last of them first of all: nothing is let on before all else stands.
    """
    wanted = guards(mute)
    standing = dict(_standing(host, index))
    if any(standing.get(place) != _is(each) for place, each in wanted.items()):
        _clear(host, index, [_LET_ON])
    for place in sorted(wanted, key=lambda place: (wanted[place].verdict == _OK, -place)):
        each = wanted[place]
        for _ in range(_TRIES):
            there = dict(_standing(host, index)).get(place)
            if there == _is(each):
                break
            if there is not None:
                _delete(host, index, place)
            _add(host, index, place, each)
        else:
            raise _occupied(place)
    _clear(host, index, [place for place in range(_SLOTS) if place not in wanted])


def clear(host: Any, index: int) -> None:
    """Take all filters of ours away from a device; those of others stay."""
    _clear(host, index, range(_SLOTS))


def _is(guard: Guard) -> tuple[str, int, int]:
    """What is to be found of a filter, see `_standing`."""
    return guard.kind, guard.verdict, guard.handle


def _clear(host: Any, index: int, places: Iterable[int]) -> None:
    ours = {place for place, _ in _standing(host, index)}
    for place in places:
        if place in ours:
            _delete(host, index, place)


def _occupied(place: int) -> CannotMute:
    return CannotMute(
        f"somebody's filter has preference {_FIRST + place}, where ours belongs: give it another"
        f" than {_FIRST} to {_FIRST + _SLOTS - 1} (tc filter show dev DEVICE ingress)"
    )


def _standing(host: Any, index: int) -> Iterator[tuple[int, tuple[str, int, int]]]:
    """The filters of ours on a device: place -> (kind, verdict, handle)."""
    # A device without a clsact qdisc has no such parent: EINVAL, or nothing.
    with suppress(NetlinkError):
        for message in host.get_filters(index=index, parent=_INGRESS):
            place = (message["info"] >> 16) - _FIRST
            options = message.get_attr("TCA_OPTIONS")
            if not message["handle"] or options is None:
                continue
            kind = message.get_attr("TCA_KIND")
            for action, verdict in _verdicts(options.get_attr(f"TCA_{kind.upper()}_ACT")):
                if action == _action(index, place):
                    yield place, (kind, verdict, message["handle"])


def _add(host: Any, index: int, place: int, guard: Guard) -> None:
    parameters = {"index": _action(index, place), "action": guard.verdict}
    action = [
        ("TCA_ACT_KIND", "gact"),
        ("TCA_ACT_OPTIONS", {"attrs": [("TCA_GACT_PARMS", parameters)]}),
    ]
    actions = {"attrs": [("TCA_ACT_PRIO_1", {"attrs": action})]}
    options = [*guard.options, (f"TCA_{guard.kind.upper()}_ACT", actions)]
    message = _filter(index, place, guard.protocol, guard.handle)
    message["attrs"] = [("TCA_KIND", guard.kind), ("TCA_OPTIONS", {"attrs": options})]
    flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
    try:
        ignoring(errno.EEXIST, host.tc, "add", "clsact", index=index)
        ignoring(errno.EEXIST, ask, host, message, RTM_NEWTFILTER, flags)
    except NetlinkError as error:
        if error.code == errno.EINVAL:  # of another kind, or of another protocol
            raise _occupied(place) from error
        if error.code not in _LACKING:
            raise
        raise CannotMute(
            "tc needs modules that this kernel has not loaded (modprobe -a sch_ingress"
            f" cls_{guard.kind} act_gact)"
        ) from error


def _delete(host: Any, index: int, place: int) -> None:
    message = _filter(index, place, 0, 0)  # all of this preference
    flags = NLM_F_REQUEST | NLM_F_ACK
    ignoring(errno.ENOENT, ask, host, message, RTM_DELTFILTER, flags)


def _filter(index: int, place: int, protocol: int, handle: int) -> tcmsg:
    message = tcmsg()
    message["index"] = index
    message["handle"] = handle
    message["parent"] = _INGRESS
    message["info"] = _FIRST + place << 16 | htons(protocol)
    return message


def _action(index: int, place: int) -> int:
    return (place + 1) << 28 | index & _DEVICE


def _actions(host: Any) -> Iterator[tuple[int, int]]:
    request = tcamsg()
    gact = {"attrs": [("TCA_ACT_KIND", "gact")]}
    request["attrs"] = [("TCA_ROOT_TAB", {"attrs": [("TCA_ACT_PRIO_1", gact)]})]
    host.marshal.msg_map[RTM_GETACTION] = tcamsg
    # A kernel that has not loaded the module knows no actions of this kind.
    with suppress(NetlinkError):
        for message in ask(host, request, RTM_GETACTION, NLM_F_REQUEST | NLM_F_DUMP):
            yield from _verdicts(message.get_attr("TCA_ROOT_TAB"))


def _verdicts(actions: Any) -> Iterator[tuple[int, int]]:
    """Of a list of actions: (index, verdict) of those that decide."""
    for _, action in actions["attrs"] if actions is not None else ():
        options = action.get_attr("TCA_ACT_OPTIONS")
        if action.get_attr("TCA_ACT_KIND") == "gact" and options is not None:
            parameters = options.get_attr("TCA_GACT_PARMS")
            yield parameters["index"], parameters["action"]
