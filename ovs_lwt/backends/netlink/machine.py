"""What this machine's kernel can do, and where its underlay begins: asked once, and remembered.

A kernel tells what it can do only when asked to do it. So the very entries that are to be installed
are tried, on a device that exists for a moment and is never up.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ovs_lwt.backends.netlink.program import Rows, stamp
from ovs_lwt.backends.netlink.templates import Devices
from ovs_lwt.backends.netlink.transaction import between
from ovs_lwt.backends.netlink.transport import Kernel, Outcome
from ovs_lwt.mistakes import Refused
from ovs_lwt.netns import entered
from ovs_lwt.stencil import Column

_NET: Final = Path("/proc/sys/net")
_TRIAL, _OTHER_END = "lwt-trial0", "lwt-trial1"
_NOWHERE: Final = 0x7FFFFFFF  # an interface index that no device has
_LACKING: Final = frozenset({errno.EOPNOTSUPP, errno.ENOENT, errno.ENOTSUP})


class Machine(Protocol):
    """What plane route asks of a machine."""

    @property
    def ipv6(self) -> bool:
        """Whether the kernel speaks IPv6."""

    @property
    def marks_tunnels(self) -> bool:
        """Whether tc can mark packets by the tunnel that they came out of."""

    @property
    def labels(self) -> bool:
        """Whether the kernel routes by MPLS label, as far as it is loaded."""

    @property
    def lacks_for_labels(self) -> tuple[str, ...]:
        """The modules that the kernel lacks for MPLS: empty if it can do it."""

    def towards(self, address: str) -> str | None:
        """The device whose link the address is on; None if it is behind a router, or nowhere."""

    def forget(self) -> None:
        """Look again where addresses are; what the kernel can do stays known."""


class ThisMachine:
    """The machine we are on.

    netns: a network namespace's name or path, None for our own
    trying: False to touch nothing: then it is said to do what any kernel can, and MPLS
    """

    def __init__(self, netns: str | None = None, *, trying: bool = True) -> None:
        self._netns = netns
        self._trying = trying
        self._links: dict[str, str | None] = {}

    @cached_property
    def ipv6(self) -> bool:
        """Whether the kernel speaks IPv6."""
        return (_NET / "ipv6").exists()

    @cached_property
    def marks_tunnels(self) -> bool:
        """Whether tc can mark packets by the tunnel that they came out of (flower, skbedit).

        Who may not try is told that it cannot.
        """
        if not self._trying:
            return False
        one: Column = np.ones(1, np.uint32)
        dev: Column = np.zeros(1, np.uint32)
        rows = [
            Rows("qdisc.clsact", 1, {"dev": dev}),
            Rows("filter.tunnel_mark", 1, {"handle": one, "vni": one, "mark": one, "dev": dev}),
        ]
        try:
            with self._trial() as index:
                return not self._tried(rows, index).failed
        except (NetlinkError, PermissionError):
            return False

    @property
    def labels(self) -> bool:
        """Whether the kernel routes by MPLS label, as far as it is loaded."""
        return (_NET / "mpls").exists()

    @property
    def lacks_for_labels(self) -> tuple[str, ...]:
        """The modules that the kernel lacks for MPLS: empty if it can do it. Trying loads them."""
        if not self._trying:
            return ()
        zero: Column = np.zeros(1, np.uint32)
        columns = dict.fromkeys(("prefix", "via", "dev"), zero) | {
            "table": np.array([_NOWHERE], np.uint32),
            "length": np.array([32], np.uint8),
            "label": np.array([16], np.uint32),
        }
        # A route by a device that does not exist: what is said of it tells of the encapsulation.
        outcome = self._tried([Rows("route.labelled_prefix", 1, columns)], _NOWHERE)
        lacks = [] if outcome.failures[0].code not in _LACKING else ["mpls_iptunnel"]
        if not self.labels:
            lacks.append("mpls_router")
        if not self._makes_vrfs():
            lacks.append("vrf")
        return tuple(lacks)

    def towards(self, address: str) -> str | None:
        """The device whose link the address is on; None if it is behind a router, or nowhere."""
        if address not in self._links:
            self._links[address] = self._ask(address)
        return self._links[address]

    def forget(self) -> None:
        """Look again where addresses are; what the kernel can do stays known."""
        self._links.clear()

    def _ask(self, address: str) -> str | None:
        with self._speaking() as speaking:
            try:
                (route,) = speaking.route("get", dst=address)
            except NetlinkError:
                return None
            if route.get("gateway") or route.get("via") or not route.get("oif"):
                return None
            (link,) = speaking.link("get", index=route.get("oif"))
            return str(link.get("ifname"))

    def _makes_vrfs(self) -> bool:
        with self._speaking() as speaking:
            try:
                speaking.link("add", ifname=_TRIAL, kind="vrf", vrf_table=_NOWHERE)
            except NetlinkError as error:
                return bool(error.code == errno.EEXIST)
            speaking.link("del", ifname=_TRIAL)
        return True

    def _tried(self, rows: list[Rows], index: int) -> Outcome:
        program = stamp(rows, Devices.of({_TRIAL: index}))
        with entered(self._netns):
            kernel = Kernel()
        with closing(kernel):
            return kernel.run(between([], program))

    @contextmanager
    def _trial(self) -> Iterator[int]:
        """A device to try something on."""
        with self._speaking() as speaking:
            for left in speaking.link_lookup(ifname=_TRIAL):
                speaking.link("del", index=left)
            speaking.link("add", ifname=_TRIAL, kind="veth", peer=_OTHER_END)
            (index,) = speaking.link_lookup(ifname=_TRIAL)
            try:
                yield index
            finally:
                speaking.link("del", index=index)

    @contextmanager
    def _speaking(self) -> Iterator[Any]:
        try:
            with entered(self._netns):
                speaking = IPRoute()
        except OSError as error:
            raise Refused(f"the kernel cannot be asked what it can do: {error}") from error
        with speaking:
            yield speaking
