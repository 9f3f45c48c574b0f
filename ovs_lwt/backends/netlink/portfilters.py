"""Take our filters off a port that is nobody's any more, whatever they are."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np
from pyroute2.netlink import NLM_F_REQUEST, rtnl
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from ovs_lwt.backends.netlink.catalogue.classifier import EVERY_PROTOCOL, PREFERENCES
from ovs_lwt.backends.netlink.kinds import EGRESS, INGRESS
from ovs_lwt.backends.netlink.transaction import Step

_NONE: Final = frozenset({errno.ENOENT, errno.EINVAL, errno.ENODEV, errno.EOPNOTSUPP})
"""What the kernel answers where there is no such filter, no clsact, or no device any more."""


def removal(device: str, index: int) -> Iterator[Step]:
    """All filters of our preferences: `tc filter del dev DEVICE ingress pref …`."""
    for parent, hook in ((INGRESS, "ingress"), (EGRESS, "egress")):
        for preference in PREFERENCES:
            message = tcmsg()
            message["header"]["type"] = rtnl.RTM_DELTFILTER
            message["header"]["flags"] = NLM_F_REQUEST
            message["header"]["sequence_number"] = message["header"]["pid"] = 0
            message["index"], message["parent"], message["handle"] = index, parent, 0
            message["info"] = preference << 16 | EVERY_PROTOCOL
            message.encode()
            rows = np.frombuffer(bytearray(message.data), np.uint8).reshape(1, -1)
            words = f"filter del dev {device} {hook} protocol all pref {preference}"
            yield Step(rows, _NONE, partial(_said, words))


def _said(words: str, row: int) -> str:
    return words
