"""Which overlay runs: what a source says is taken over, or the one that was last good stays.

What flows in: a source, and what runs already. What flows out: a topology to run, and why it is not
what the source says. A start is a change like any other: it is held against the overlay that was
last accepted, so that a host that boots onto a broken file has a network.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from ovs_lwt import transitions
from ovs_lwt.edit import Changes, changed
from ovs_lwt.findings import Finding, fail, warn
from ovs_lwt.mistakes import NotNow, OverlayInvalid, Refused
from ovs_lwt.slices import EMPTY
from ovs_lwt.sources import Source
from ovs_lwt.topology import Topology

LOG: Final = logging.getLogger("ovs_lwt")

_SUBJECT: Final = "overlay"


@dataclass(slots=True, eq=False)
class Intake:
    """Reads a source for one agent.

    share: percent of the endpoints that a change may take away
    refused: why what the source says now does not run; renamed: tenants that the last change has
    renamed, old name -> new name; again: when what was refused last may be taken over without more
    ado, on the clock that `next` is told; None: whenever somebody has mended it
    """

    source: Source
    share: int = transitions.BRAKE_SHARE
    refused: tuple[str, ...] = ()
    renamed: dict[str, str] = field(default_factory=dict)
    again: float | None = None
    _released: transitions.Released = field(default_factory=transitions.Released)
    _last_good: bool = False
    _read: float = 0.0
    _told: dict[str, Any] = field(default_factory=dict)
    _unkept: str = ""

    def first(self, fits: Callable[[Topology], object] = lambda topology: None) -> Topology:
        """What to run at start: what the source says, or what was last accepted.

        fits: raises Refused for an overlay that has no use for the agent, and that is not kept then
        Raises OverlayInvalid and Refused where nothing was accepted before, and what `fits` raises.
        """
        try:
            topology, problems, renamed = self._chosen()
            fits(topology)
        except BaseException:
            self.source.forget()
            raise
        return self._fall_back(topology, problems) if problems else self._take(topology, renamed)

    def _chosen(self) -> tuple[Topology, tuple[str, ...], Mapping[str, str]]:
        """What to run at start; why that is not what the source says; tenants that it renames."""
        good = None
        try:
            found = self.source.read()
        except (OverlayInvalid, Refused) as wrong:
            good = self.source.last_good()
            if good is None:
                raise
            return good, _sentences(wrong), {}
        if not self.source.accepted():
            good = self.source.last_good()
        if good is None:
            return found, (), {}
        verdict = transitions.judge(good, found, self.share)
        if verdict.handed_over:
            # Others may have done both steps while this host was down: it must not speak for
            # tenants whose numbers may be somebody else's by now.
            good = _without(good, verdict.strangers)
        problems = _problems(verdict)
        return (good, problems, {}) if problems else (found, (), verdict.renamed)

    def next(self, running: Topology, now: float, *, force: bool = False) -> Topology:
        """What the source says now. force: whatever that takes away or hands over.

        Raises OverlayInvalid and Refused; then `running` goes on. Of Refused NotNow, if it may be
        taken over once it is `again`.
        """
        self.renamed, self.again = {}, None
        try:
            found = self.source.read()
            verdict = transitions.judge(running, found, self.share)
            problems = () if force else _problems(verdict)
            if problems:
                raise Refused("\n".join(problems))
            rest = None if force else self._released.resting(found, now)
            if rest is not None:
                self.again, why = rest
                raise NotNow(why)
        except (OverlayInvalid, Refused) as wrong:
            self.refused = _sentences(wrong)
            raise
        self.renamed = dict(verdict.renamed)
        return found

    def accept(self, topology: Topology, before: Topology, now: float) -> None:
        """What was read last runs now, instead of `before`."""
        self._released.note(before, topology, self.renamed, now)
        self._take(topology, self.renamed)

    def refuse(self, reasons: tuple[str, ...]) -> None:
        """What was read last does not run after all."""
        self.refused = reasons

    def findings(self) -> tuple[Finding, ...]:
        """What is to be said on every host."""
        unkept = f"cannot be kept for a start onto a broken file: {self._unkept}"
        kept = (warn(_SUBJECT, unkept, "make room in --state"),) if self._unkept else ()
        if not self.refused:
            return kept
        told = "; ".join(self.refused[:3]) + ("; …" if len(self.refused) > 3 else "")
        mend = "mend it, then ovs-lwt reload (or see `ovs-lwt status`)"
        if self._last_good:
            return (fail(_SUBJECT, f"runs the one that was last good: {told}", mend),)
        if self.again is not None:
            return (warn(_SUBJECT, f"what is on disk is not taken over yet: {told}", ""), *kept)
        return (warn(_SUBJECT, f"what is on disk is not taken over: {told}", mend), *kept)

    def status(self) -> dict[str, Any]:
        """The part of `status` about the overlay."""
        ago = round(max(0.0, time.time() - self._read), 1)
        return {**self._told, "read": ago, "last_good": self._last_good, "refused": self.refused}

    def _take(self, topology: Topology, renamed: Mapping[str, str]) -> Topology:
        self.refused, self._last_good, self.renamed = (), False, dict(renamed)
        self._note(topology)
        self._unkept = ""
        try:
            self.source.accept()
        except OSError as error:
            self._unkept = str(error)
            LOG.warning(
                "the overlay is taken over and cannot be kept for the next start: %s", error
            )
        return topology

    def _fall_back(self, good: Topology, problems: tuple[str, ...]) -> Topology:
        LOG.error("the overlay is not taken over, the one that was last good runs:")
        for problem in problems:
            LOG.error("  %s", problem)
        self.refused, self._last_good = problems, True
        self._note(good)
        return good

    def _note(self, topology: Topology) -> None:
        self._read = time.time()
        self._told = {
            **self.source.describe(last_good=self._last_good),
            "tenants": len(topology.tenants),
            "endpoints": int(topology.endpoint_edges[-1]),
            "hosts": len(topology.vteps),
        }


def _problems(verdict: transitions.Verdict) -> tuple[str, ...]:
    return (*verdict.handed_over, *([verdict.braked] if verdict.braked else []))


def _sentences(wrong: OverlayInvalid | Refused) -> tuple[str, ...]:
    if isinstance(wrong, OverlayInvalid):
        return tuple(str(mistake) for mistake in wrong.mistakes)
    return tuple(str(wrong).splitlines())


def _without(topology: Topology, tenants: frozenset[int]) -> Topology:
    """The same overlay, with these tenants empty."""
    rows = [np.empty(0, np.intp)]
    for tenant in sorted(tenants):
        span = topology.tenant_span(tenant)
        rows.append(np.arange(span.start, span.stop))
    gone = topology.taken(np.concatenate(rows))
    return changed(topology, Changes(EMPTY, gone.tenant, gone.mac))
