"""How a switch port says whose it is: the keys of an Interface's ``external_ids``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# TENANT/NAME of the endpoint behind the port.
ENDPOINT_KEY: Final = "ovs-lwt-endpoint"
# What libvirt and Neutron write: a claim where it has the form TENANT/NAME, or where it is a UUID
# that the overlay lists as an endpoint's `port` (libvirt takes no other form).
IFACE_ID_KEY: Final = "iface-id"
# The MAC of the guest, by libvirt and Neutron: a claim where an endpoint has `attached_mac: true`.
ATTACHED_MAC_KEY: Final = "attached-mac"
# Who sets the tenant's mark: "tc" or "nft" in the kernel, "flow" in the pipeline.
MARKING_KEY: Final = "ovs-lwt-marking"
# What is wrong with the claim, for the person who made it.
ERROR_KEY: Final = "ovs-lwt-error"

KERNEL_MARKINGS: Final = frozenset({"tc", "nft"})


Renamed = Mapping[str, tuple[str, str]]
"""Port -> (the claim that it had, the one that it is to have). A port that claims something else by
now is another's."""


def renamed_claims(guests: Mapping[str, str], renamed: Mapping[str, str]) -> Renamed:
    """Of guests (port -> endpoint) those whose tenants are renamed (old -> new)."""
    parts = ((port, claim, *claim.partition("/")) for port, claim in guests.items())
    return {
        port: (claim, f"{renamed[tenant]}/{name}")
        for port, claim, tenant, _, name in parts
        if tenant in renamed
    }


def one_after_the_other(first: Renamed, then: Renamed) -> Renamed:
    """Both in one: a port that is renamed twice goes from the first name to the last."""
    both = dict(first)
    for port, (before, now) in then.items():
        begun = first.get(port)
        both[port] = (begun[0] if begun and begun[1] == before else before, now)
    return both


def claimed_endpoint(external_ids: Mapping[str, str]) -> str | None:
    """Return the endpoint (``TENANT/NAME``) a port claims, or None if it claims none.

    ``ovs-lwt-endpoint`` wins and is returned as it stands, well formed or not: whoever wrote it
    meant this overlay and is to be told of a mistake. Whether an ``iface-id`` of any other form
    than TENANT/NAME is an endpoint's, only the overlay can say: see `ovs_lwt.ports.identified`.
    """
    claim = external_ids.get(ENDPOINT_KEY)
    if claim is not None:
        return claim
    claim = external_ids.get(IFACE_ID_KEY, "")
    tenant, slash, name = claim.partition("/")
    return claim if tenant and slash and name and "/" not in name else None
