"""How the switch's ports are configured (`ovs-ofctl mod-port`), and what must not be.

What flows in: descriptions of ports, listed or told of as they change. What flows out: the messages
that take off what keeps a port of ours from receiving or forwarding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from ovs_lwt.backends.openflow import encode, wire
from ovs_lwt.view import View

# ofp_port_config (OpenFlow 1.4.1, 7.2.1), by the words of ovs-ofctl.
_DOWN: Final = 1 << 0
_MUTE: Final = {"no-receive": 1 << 2, "no-forward": 1 << 5, "no-packet-in": 1 << 6}
# ofp_port: number, length, MAC, name, configuration, state.
_PORT: Final = struct.Struct("!IH2x6s2x16sII")
_STATUS: Final = struct.Struct("!B7x")  # ofp_port_status, behind the header: the reason
_DELETED: Final = 1


@dataclass(frozen=True, slots=True)
class _Port:
    name: str
    hw_addr: str
    config: int


@dataclass(slots=True, eq=False)
class PortConfigs:
    """The configuration of every port of the switch, by its number."""

    _ports: dict[int, _Port] = field(default_factory=dict)

    def listed(self, body: bytes) -> None:
        """Take note of the ports of a list (its body, behind the multipart header)."""
        at = 0
        while at + _PORT.size <= len(body):
            at += self._note(body, at)

    def changed(self, message: bytes) -> None:
        """Take note of an OFPT_PORT_STATUS, given whole."""
        (reason,) = _STATUS.unpack_from(message, wire.HEADER.size)
        at = wire.HEADER.size + _STATUS.size
        if reason == _DELETED:
            self._ports.pop(int.from_bytes(message[at : at + 4], "big"), None)
        else:
            self._note(message, at)

    def mends(self, view: View, xid: int) -> Iterator[tuple[bytes, str]]:
        """What is to be sent so that the tunnel and the guests' ports work, and what it mends.

        A guest's port that is down was set down on this machine (ip link): it stays.
        """
        for number in (view.tunnel, *view.ports.port.tolist()):
            port = self._ports.get(number)
            if port is None:
                continue
            words = [word for word, bit in _MUTE.items() if port.config & bit]
            mask = sum(_MUTE[word] for word in words)
            if number == view.tunnel and port.config & _DOWN:
                words, mask = [*words, "down"], mask | _DOWN
            if mask:
                message = encode.port_mod(number, port.hw_addr, mask, xid)
                self._ports[number] = _Port(port.name, port.hw_addr, port.config & ~mask)
                yield (
                    message,
                    f"port {port.name} was set {' and '.join(words)} (ovs-ofctl mod-port)",
                )

    def _note(self, octets: bytes, at: int) -> int:
        number, length, hw_addr, name, config, _ = _PORT.unpack_from(octets, at)
        text = name.rstrip(b"\0").decode(errors="backslashreplace")
        self._ports[number] = _Port(text, hw_addr.hex(":"), config)
        return max(int(length), _PORT.size)
