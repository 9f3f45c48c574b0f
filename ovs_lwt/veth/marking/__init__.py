"""The tenant's mark on what passes a device: by tc, by nft, or by nobody in the kernel.

A way is chosen by trying: which modules a kernel could load is known to nobody beforehand.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from ovs_lwt.veth.marking import nft, tc
from ovs_lwt.veth.marking.values import (
    BOTH_WAYS,
    ONE_WAY,
    CannotMark,
    Direction,
    KernelMarking,
    Marked,
    Marking,
)

__all__ = [
    "BOTH_WAYS",
    "ONE_WAY",
    "CannotMark",
    "Direction",
    "KernelMarking",
    "Marked",
    "Marking",
    "clear_mark",
    "set_mark",
]

_IN_ORDER: Final[tuple[KernelMarking, ...]] = ("tc", "nft")


def set_mark(
    host: Any,
    netns: str | None,
    device: Marked,
    way: Literal["auto", "tc", "nft"] = "auto",
    *,
    clean: bool = False,
) -> KernelMarking:
    """Have the kernel mark what passes `device`, and return who does: tc if it can, else nft.

    host: an `IPRoute` in `netns`, the namespace of the device (a name or a path; None: ours)
    way: the only one to try, if not "auto"; what the other had set is removed
    clean: the other is known to have set nothing, so nobody needs to look
    Raises CannotMark, which names what this machine lacks, and Refused.
    """
    reasons: list[str] = []
    for chosen in _IN_ORDER if way == "auto" else (way,):
        try:
            if chosen == "tc":
                tc.set_mark(host, device)
                if not clean:
                    nft.clear_marks(netns, [device.name])
            else:
                nft.set_mark(netns, device)
                if not clean:
                    tc.clear_mark(host, device.index)
        except CannotMark as lacking:
            reasons.append(str(lacking))
        else:
            return chosen
    raise CannotMark("; ".join(reasons))


def clear_mark(host: Any, netns: str | None, name: str, index: int | None) -> None:
    """Undo `set_mark`; nothing to undo is fine. index: None if the device is gone."""
    if index is not None:
        tc.clear_mark(host, index)
    nft.clear_marks(netns, [name])
