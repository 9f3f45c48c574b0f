"""Which VLAN of the bridge is which tenant's: given once, and kept as long as the tenant is here.

A VLAN has a meaning on its own host only; between hosts a tenant is its VNI. It is kept in a file,
so that a restart finds every guest's port in the VLAN that it is in.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ovs_lwt.columns import U32
from ovs_lwt.mistakes import Refused
from ovs_lwt.model import VNI_MAX
from ovs_lwt.view import View

FIRST, LAST = 1, 4094
"""IEEE 802.1Q: 0 is no VLAN, and 4095 is reserved."""

_Vni = Annotated[int, Field(ge=1, le=VNI_MAX)]
_Vlan = Annotated[int, Field(ge=FIRST, le=LAST)]


def allocate(held: Mapping[int, int], marks: Mapping[int, int]) -> dict[int, int]:
    """VNI -> VLAN, by VNI, for the tenants that are here. Raises Refused if they are too many.

    held: VNI -> VLAN so far; marks: VNI -> mark, of the tenants that are here
    Who has a VLAN keeps it. Others get the VLAN whose number is their mark, if it is free, or else
    the lowest that is. Those of tenants that have just left come last: a guest's port may be in it
    for a moment more.
    """
    if len(marks) > LAST:
        raise Refused(
            f"{len(marks):,} tenants have an endpoint on this host, and a bridge has {LAST:,}"
            " VLANs: move some of them to other hosts, or take plane ovs or route"
        )
    given = {vni: held[vni] for vni in sorted(marks) if vni in held}
    left = set(held.values()) - set(given.values())
    free = dict.fromkeys(range(FIRST, LAST + 1))
    for number in chain(given.values(), left):
        del free[number]
    new = [vni for vni in sorted(marks) if vni not in held]
    for vni in new:
        if marks[vni] in free:
            del free[marks[vni]]
            given[vni] = marks[vni]
    lowest = chain(free, sorted(left))
    given |= {vni: next(lowest) for vni in new if vni not in given}
    return dict(sorted(given.items()))


class _Kept(BaseModel):
    """What the file says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vlans: dict[_Vni, _Vlan]


class VlanStore:
    """The VLANs of one host.

    path: the file, made when there is something to keep; None keeps them as long as we run
    keep: False to look only: what is newly given is forgotten
    """

    def __init__(self, path: Path | None, *, keep: bool = True) -> None:
        self._path = path
        self._keep = keep and path is not None
        self._held: dict[int, int] | None = None

    def of(self, view: View) -> U32:
        """The VLAN of every tenant: uint32[T], 0 where it is not here. Keeps nothing.

        Raises Refused if the tenants here are too many, or the file cannot be read.
        """
        tenants = view.topology.tenants
        vlans = np.zeros(len(tenants), np.uint32)
        # By VNI, as the tenants stand.
        vlans[view.here] = list(self._given(view).values())
        return vlans

    def keep(self, view: View) -> None:
        """Give the view's tenants their VLANs for good. Raises Refused if that cannot be kept."""
        given = self._given(view)
        if given != self._held:
            if self._keep:
                self._write(given)
            self._held = given

    def _given(self, view: View) -> dict[int, int]:
        if self._held is None:
            self._held = self._read()
        tenants, here = view.topology.tenants, view.here
        marks = zip(tenants.vni[here].tolist(), tenants.mark[here].tolist(), strict=True)
        return allocate(self._held, dict(marks))

    def _read(self) -> dict[int, int]:
        if self._path is None:
            return {}
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise Refused(
                f"cannot read {self._path}, which says what tenant has what VLAN:"
                f" {error.strerror}; see to its permissions"
            ) from error
        try:
            held = _Kept.model_validate_json(text).vlans
        except ValidationError as error:
            raise self._damaged(error.errors()[0]["msg"]) from None
        if len(set(held.values())) < len(held):
            raise self._damaged("one VLAN is two tenants'")
        return held

    def _damaged(self, why: str) -> Refused:
        return Refused(
            f"{self._path} does not say what tenant has what VLAN ({why}): restore it, or delete it"
            " to have VLANs given anew"
        )

    def _write(self, given: Mapping[int, int]) -> None:
        assert self._path is not None, "nothing is kept without a file"
        new = self._path.with_name(f"{self._path.name}.new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with new.open("w") as file:
                file.write(json.dumps({"vlans": given}, indent=1) + "\n")
                file.flush()
                os.fsync(file.fileno())
            # As a whole or not at all: who reads it after a crash finds the old one or the new.
            new.replace(self._path)
        except OSError as error:
            raise Refused(
                f"cannot keep the tenants' VLANs in {self._path}: {error.strerror}; make its folder"
                " writable, or choose another"
            ) from error
