"""Large overlays, written as a user would: overlay.yaml and a CSV of endpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np

PER_TENANT = 250


def write(folder: Path, endpoints: int, vteps: int = 100) -> Path:
    """An overlay of `endpoints` endpoints, 250 to a tenant, spread over `vteps` hosts (h0, h1, …);
    returns its path.

    Every tenant uses the same MACs and addresses.
    """
    tenants = max(1, endpoints // PER_TENANT)
    names = [f"  t{tenant}: {{vni: {tenant + 1}}}" for tenant in range(tenants)]
    hosts = [
        f"  h{host}: {{address: 192.0.{host >> 8}.{(host & 255) or 255}}}" for host in range(vteps)
    ]
    overlay = folder / "overlay.yaml"
    lines = ["vteps:", *hosts, "tenants:", *names, "endpoints_file: endpoints.csv", ""]
    overlay.write_text("\n".join(lines))
    number = np.arange(endpoints)
    tenant, place = number % tenants, number // tenants
    rows = ["tenant,name,mac,ip,host"]
    guests = [
        f"02:00:00:00:{p >> 8:02x}:{p & 255:02x},10.0.{p >> 8}.{p & 255 or 255}/16,h{p % vteps}"
        for p in range(int(place.max()) + 1)
    ]
    rows += [f"t{t},e{p},{guests[p]}" for t, p in zip(tenant.tolist(), place.tolist(), strict=True)]
    (folder / "endpoints.csv").write_text("\n".join(rows) + "\n")
    return overlay


def empty(overlay: Path) -> None:
    """Leave the overlay's hosts and tenants, but no endpoint."""
    (overlay.parent / "endpoints.csv").write_text("tenant,name,mac,ip,host\n")
