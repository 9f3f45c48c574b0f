"""The host hears nothing of its guests: walls between a guest's port and the host's own stack.

First of all nft, where the stack begins, by the port's name: so it stands before there is a device
of that name, and after whatever forwards for it has let go of it. Where nft is missing, tc, as far
as it can (`tc.py`). The sysctls of the device in either case. `before` and `settle` are what
`attach` does; a `MuteKeeper` keeps it so.
"""

from __future__ import annotations

from ovs_lwt.veth.mute.keeper import MuteKeeper
from ovs_lwt.veth.mute.once import before, release, settle
from ovs_lwt.veth.mute.values import MASTERS, CannotMute, Mute, Wall, heard

__all__ = [
    "MASTERS",
    "CannotMute",
    "Mute",
    "MuteKeeper",
    "Wall",
    "before",
    "heard",
    "release",
    "settle",
]
