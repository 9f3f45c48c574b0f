"""Who calls: a switch is believed to be one by its process's owner, or by its certificate.

The datapath id that a caller claims proves nothing: it can be guessed from the overlay, and whoever
is taken for a host's switch gets all of the host's flows.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any, Final

from ovs_lwt import unixsockets

_ESTABLISHED: Final = "01"  # TCP_ESTABLISHED of the kernel's net/tcp_states.h
_WORD: Final = 4  # bytes in which /proc/net/tcp writes addresses, each in the machine's order


class Stranger(Exception):
    """One who is not let in; says who it is, and why not."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One who was let in. about: who it is, in words; hosts: whose switch it may be, by name; None:
    any host's.
    """

    about: str
    hosts: frozenset[str] | None = None

    def may_be(self, host: str) -> bool:
        """Whether it is believed to be this host's switch."""
        return self.hosts is None or host in self.hosts


def by_process(connected: Any, uids: Collection[int], host: str | None = None) -> Caller:
    """Look at the owner of the process behind a unix socket (SO_PEERCRED). Raises Stranger."""
    process = unixsockets.process_behind(connected)
    if process.uid not in uids:
        raise Stranger(f"{process} is not {_owners(uids)}")
    return Caller(str(process), None if host is None else frozenset({host}))


def by_loopback(connected: Any, uids: Collection[int]) -> Caller:
    """Look at the owner of the other end of a TCP connection within this machine. Raises Stranger.

    The other end is found among the sockets of this network namespace (/proc/net/tcp). One whose
    process has closed it belongs to nobody, which the kernel writes as uid 0: it has no inode.
    """
    here, there = connected.getsockname()[:2], connected.getpeername()[:2]
    for line in _sockets(connected.family):
        fields = line.split()
        if (fields[1], fields[2]) == (_written(*there), _written(*here)):
            state, uid, inode = fields[3], int(fields[7]), int(fields[9])
            if state == _ESTABLISHED and inode and uid in uids:
                return Caller(f"{there[0]} port {there[1]}, of uid {uid}")
            whose = f"of uid {uid}" if inode else "closed already"
            raise Stranger(f"{there[0]} port {there[1]}, {whose}, is not {_owners(uids)}")
    raise Stranger(f"{there[0]} port {there[1]} is no socket of this network namespace")


def by_certificate(certificate: dict[str, Any], address: str) -> Caller:
    """Read the names of a certificate that was verified (ssl.SSLSocket.getpeercert): its subject's
    common name and its DNS names are the hosts whose switch it may be.
    """
    subject = [pair for part in certificate.get("subject", ()) for pair in part]
    names = [value for key, value in subject if key == "commonName"]
    names += [value for key, value in certificate.get("subjectAltName", ()) if key == "DNS"]
    # ovs-pki without --unique: "host1 id:01234567-…".
    names = [name.partition(" id:")[0] for name in names]
    said = ", ".join(ascii(name) for name in dict.fromkeys(names)) or "nobody"
    return Caller(f"{address}, by its certificate {said}", frozenset(names))


def _owners(uids: Collection[int]) -> str:
    return f"the switch's owner (uid {' or '.join(map(str, sorted(uids)))})"


def _sockets(family: int) -> list[str]:
    table = "tcp6" if family == socket.AF_INET6 else "tcp"
    # The thread's own: it may have stepped into a namespace.
    lines = Path("/proc/thread-self/net", table).read_text().splitlines()[1:]
    if family == socket.AF_INET6:
        # A socket of IPv4 may call one of IPv6.
        lines += Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:]
    return lines


def _written(address: str, port: int) -> str:
    """An address and a port as /proc/net/tcp has them."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    packed = ip.packed
    words = (packed[start : start + _WORD] for start in range(0, len(packed), _WORD))
    numbers = (int.from_bytes(word, sys.byteorder) for word in words)
    return "".join(f"{number:08X}" for number in numbers) + f":{port:04X}"
