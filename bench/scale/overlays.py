"""The overlay that everything here is measured on: a fabric of pods, written as a user would.

    1,000 hosts in 8 pods of 125; a tenant lies in one pod, and has 244 endpoints: a million
    endpoints are 4,096 tenants. The first endpoint of every tenant is on h0, which therefore needs
    all of them; the others are dealt out to the hosts of its pod in order, so that the tenants of a
    pod have the same VTEPs.

Every tenant uses the same MACs and addresses. Its neighbours are not answered by flows: then an
endpoint is one flow on h0, and the overlay's own cost weighs the most. (With `neighbours: answer`,
the default, it is two.)
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from ovs_lwt.backends import words

HOSTS: Final = 1000
PODS: Final = 8
PER_TENANT: Final = 244
HEADER: Final = "tenant,name,mac,ip,host\n"
_MAC: Final = 0x020000000000
_UNDER_PREFIX: Final = 24  # bits that a host gives out
_FIRST: Final = 0x0A000100  # 10.0.1.0, of 10.0.0.0/16


@dataclass(frozen=True, slots=True)
class Fabric:
    """An overlay on disk. endpoints: the file with all of them, beside the one that it names."""

    overlay: Path
    endpoints: Path
    size: int
    tenants: int

    def fill(self) -> None:
        """Let the overlay have its endpoints, at once."""
        self._named.unlink(missing_ok=True)
        self._named.hardlink_to(self.endpoints)

    def empty(self) -> None:
        """Let it have its hosts and tenants, and no endpoint."""
        self._named.unlink(missing_ok=True)
        self._named.write_text(HEADER)

    @property
    def _named(self) -> Path:
        return self.overlay.parent / "endpoints.csv"


def tenants_of(size: int) -> int:
    """How many tenants share `size` endpoints."""
    return min(4096, max(1, size // PER_TENANT))


def write(
    folder: Path,
    size: int,
    *,
    tenants: int | None = None,
    neighbours: str = "flood",
    plan: bool = False,
    astray: int = 0,
) -> Fabric:
    """Write the overlay of `size` endpoints into a new folder; it begins without them.

    tenants: how many share them, if not as many as usual
    plan: whether MACs are given out host by host, and hosts have a `mac_prefix`; astray: how many
    endpoints have a MAC of another host's
    """
    folder.mkdir()
    tenants = tenants or tenants_of(size)
    vteps = [f"  h{n}: {{{_host(n, plan)}}}" for n in range(HOSTS)]
    names = [
        f"  t{tenant}: {{vni: {tenant + 1}, neighbours: {neighbours}}}" for tenant in range(tenants)
    ]
    overlay = folder / "overlay.yaml"
    lines = ["vteps:", *vteps, "tenants:", *names, "endpoints_file: endpoints.csv", ""]
    overlay.write_text("\n".join(lines))
    place, tenant = np.divmod(np.arange(size), tenants)
    by_tenant = np.argsort(tenant, kind="stable")
    place, tenant = place[by_tenant], tenant[by_tenant]
    host = host_of(tenant, place)
    mac = _MAC + place
    if plan:
        mac += ((host + (np.arange(size) < astray)) % HOSTS) << _UNDER_PREFIX
    columns = {
        "tenant": _word("t", tenant),
        "name": _word("e", place),
        "mac": words.macs(mac.astype(np.uint64)),
        "ip": pc.binary_join_element_wise(
            words.ipv4s((_FIRST + place).astype(np.uint32)), "/16", ""
        ),
        "host": _word("h", host),
    }
    file = folder / "endpoints.full.csv"
    with file.open("wb") as out:
        out.write(HEADER.encode())
        plain = csv.WriteOptions(include_header=False, quoting_style="none")
        csv.write_csv(pa.table(columns), out, plain)
    fabric = Fabric(overlay, file, size, tenants)
    fabric.empty()
    return fabric


def _host(number: int, plan: bool) -> str:
    address = f"address: 192.0.{number // 250}.{number % 250 + 1}"
    prefix = (_MAC + (number << _UNDER_PREFIX)).to_bytes(6, "big").hex(":")
    return f'{address}, mac_prefix: "{prefix}/{48 - _UNDER_PREFIX}"' if plan else address


def host_of(tenant: NDArray[np.int64], place: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of the host of each tenant's endpoints, by their place in it."""
    pod = HOSTS // PODS
    return np.where(place == 0, 0, tenant % PODS * pod + place % pod)


def places_here(count: int) -> list[int]:
    """The places in tenant t0 of endpoints that are on h0, the first of them."""
    return [turn * (HOSTS // PODS) for turn in range(count)]


def mac_of(place: int) -> str:
    """The MAC of every tenant's endpoint with this place, in text."""
    return (_MAC + place).to_bytes(6, "big").hex(":")


def address_of(place: int) -> str:
    """Its address."""
    return str(IPv4Address(_FIRST + place))


def _word(letter: str, number: NDArray[np.int64]) -> pa.StringArray:
    return pc.binary_join_element_wise(letter, pa.array(number).cast(pa.string()), "")
