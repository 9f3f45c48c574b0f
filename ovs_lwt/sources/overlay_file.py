"""The overlay from a file: ``overlay.yaml`` and the endpoints file it names."""

from __future__ import annotations

import logging
import stat
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ovs_lwt.columns import Addresses4, Addresses6, EndpointColumns
from ovs_lwt.mistakes import NotNow, OverlayInvalid
from ovs_lwt.model import Overlay
from ovs_lwt.sources import endpoints_csv
from ovs_lwt.sources.checks import Draft, check_rows, check_tenants, check_vteps
from ovs_lwt.sources.draft import draft_of, endpoints_of, validated
from ovs_lwt.sources.kept import ENDPOINTS, OVERLAY, Kept
from ovs_lwt.sources.pairs import check_pairs
from ovs_lwt.sources.planes import check_planes
from ovs_lwt.sources.port_keys import check_port_keys
from ovs_lwt.sources.replicators import check_replicators
from ovs_lwt.sources.report import Report, Spot
from ovs_lwt.sources.rows import EndpointRows, joined
from ovs_lwt.sources.settled import Stamp, stamp, whole
from ovs_lwt.sources.words import path_text
from ovs_lwt.sources.yaml_places import LOADER, line_of, parse, to_python
from ovs_lwt.topology import TenantColumns, Topology, VtepColumns

LOG = logging.getLogger(__name__)

# Endpoints by the million belong into the endpoints file.
YAML_LIMIT = 64 << 20
CSV_LIMIT = 1 << 30
_PIECE = 1 << 20

_NUMBERS = frozenset({"udp_port", "replication_udp_port", "mtu", "vni", "mark", "label"})
_FLAGS = frozenset({"external", "replicator", "router", "attached_mac"})


@dataclass(slots=True)
class OverlayFile:
    """A `Source`: the overlay file at `path`, and the endpoints file it named last.

    keep: the folder for the overlay that was last accepted; None: it is read once, and may be a
    pipe
    """

    path: Path
    keep: Path | None = None
    _endpoints: Path | None = field(default=None, init=False)
    _kept: Kept = field(init=False)
    _settled: dict[Path, Stamp | None] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._kept = Kept(self.keep)

    def read(self) -> Topology:
        """Return the overlay; raise `OverlayInvalid` with all mistakes, and `Refused` while
        somebody is writing it.
        """
        self._kept.begin()
        again = self.keep is not None
        if again:
            self._refuse_unfinished()
        reading = _Reading(str(self.path), self.path.parent, self._kept, pipes=not again)
        try:
            return reading.load(self.path)
        finally:
            # An unreadable overlay names none: then go on watching the one known before.
            self._endpoints = reading.endpoints_path or self._endpoints

    def accept(self) -> None:
        """What was last read runs now: keep it for the next start. Raises OSError."""
        self._kept.accept()

    def forget(self) -> None:
        """What was last read does not run: leave nothing of it behind."""
        self._kept.forget()

    def accepted(self) -> bool:
        """Say whether what was last read is what was last accepted."""
        return self._kept.digests() == self._kept.accepted()

    def last_good(self) -> Topology | None:
        """Return the overlay that was last accepted; None if none was, or if it is damaged."""
        files = self._kept.files()
        if files is None:
            return None
        overlay, endpoints = files
        try:
            return _Reading(str(overlay), overlay.parent, endpoints_file=endpoints).load(overlay)
        except OverlayInvalid as invalid:
            LOG.error("the overlay that was last accepted is damaged: %s", invalid.mistakes[0])
            return None

    def describe(self, *, last_good: bool = False) -> dict[str, Any]:
        """Return the files with their digests, as `sha256sum` prints them."""
        digests = self._kept.accepted() if last_good else self._kept.digests()
        about: dict[str, Any] = {"file": str(self.path), "sha256": digests.get(OVERLAY)}
        if ENDPOINTS in digests:
            about["endpoints_file"] = str(self._endpoints)
            about["endpoints_sha256"] = digests[ENDPOINTS]
        return about

    def version(self) -> Hashable:
        """Return what `stat` says of both files; it changes when one of them has been written, and
        not while somebody writes it.
        """
        for path in self._files():
            if (found := stamp(path)) != self._settled.get(path):
                # The other file may be next: both are taken over together.
                if not whole(path, self._settled.get(path)):
                    break
                self._settled[path] = found
        return tuple(self._settled.get(path) for path in self._files())

    def _files(self) -> tuple[Path, ...]:
        return (self.path,) if self._endpoints is None else (self.path, self._endpoints)

    def _refuse_unfinished(self) -> None:
        for path in self._files():
            if not whole(path, self._settled.get(path)):
                raise NotNow(
                    f"{path} is being written: try again once it is closed. (Better write another"
                    " file, and rename it)"
                )


def load(path: Path) -> Topology:
    """Read the overlay at `path`; raise `OverlayInvalid` with everything wrong in it."""
    return OverlayFile(path).read()


def planes_in(path: Path) -> dict[str, str]:
    """Return the hosts of the overlay file, each with its plane.

    A glance, to know what to start: what is wrong with the file, `load` will say. Nothing is taken
    from a pipe, which can be read once, or from a device.
    """
    try:
        if not path.is_file():
            return {}
        with path.open("rb") as stream:
            vteps = yaml.load(stream.read(YAML_LIMIT), LOADER)["vteps"]
        return {str(name): str(vtep.get("plane", "ovs")) for name, vtep in vteps.items()}
    except (OSError, yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def parse_text(text: str, name: str = "overlay.yaml", base: Path | None = None) -> Topology:
    """Read an overlay from `text`, called `name` in messages; like `load` otherwise.

    `base` is where the path of an endpoints file begins; by default where `name` lies.
    """
    return _Reading(name, Path(name).parent if base is None else base).parse(text)


def parse_bytes(data: bytes, name: str, base: Path) -> Topology:
    """Read an overlay from the bytes of a file; like `parse_text` otherwise."""
    return _Reading(name, base, pipes=True).decode(data)


def from_dict(overlay: dict[str, Any], name: str = "overlay.yaml") -> Topology:
    """Read an overlay from plain dicts, lists, text and numbers, as if they stood in a file."""
    return parse_text(yaml.safe_dump(overlay, sort_keys=False, allow_unicode=True), name)


class _Reading:
    """One reading of one overlay: what is found wrong on the way, and the result."""

    def __init__(
        self,
        name: str,
        base: Path,
        kept: Kept | None = None,
        endpoints_file: Path | None = None,
        *,
        pipes: bool = False,
    ) -> None:
        """endpoints_file: where the endpoints are, whatever the overlay names; pipes: read those,
        too.
        """
        self._pipes = pipes
        self._name = name
        self._base = base
        self._kept = kept
        self._endpoints_file = endpoints_file
        self._report = Report(name)
        self.endpoints_path: Path | None = None

    def load(self, path: Path) -> Topology:
        data = self._bytes(path, self._name, YAML_LIMIT)
        self._report.raise_if_any()
        if self._kept is not None:
            self._kept.note(OVERLAY, data)
        return self.decode(data)

    def decode(self, data: bytes) -> Topology:
        if len(data) > YAML_LIMIT:
            self._report.add(Spot(self._name), f"is larger than {YAML_LIMIT >> 20} MiB")
            self._report.raise_if_any()
        try:
            return self.parse(data.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            binary = b"\0" in data and not data.startswith((b"\xff\xfe", b"\xfe\xff"))
            what = "is binary, not a YAML text file" if binary else "is not UTF-8 text"
            self._report.add(Spot(self._name, None if binary else line), what)
            raise OverlayInvalid(self._report.mistakes()) from None

    def parse(self, text: str) -> Topology:
        report = self._report
        if "\0" in text:
            report.add(Spot(self._name), "is binary, not a YAML text file")
            report.raise_if_any()
        root = parse(text, lambda line, text: report.add(Spot(self._name, line), text, "YAML"))
        if root is None:
            if not report:
                report.add(Spot(self._name), "is empty: it needs at least 'vteps' and 'tenants'")
            raise OverlayInvalid(report.mistakes())

        def place(*location: int | str) -> Spot:
            return Spot(self._name, line_of(root, location), path_text(location))

        raw = to_python(root, _NUMBERS, _FLAGS)
        overlay, errors = validated(raw)
        for location, message in errors:
            report.add(place(*location), message)
        draft = draft_of(raw, overlay)
        check_vteps(draft, place, report)
        check_tenants(draft, place, report)
        check_replicators(draft, place, report)
        rows = endpoints_of(raw, overlay, draft, place, report)
        named = overlay.endpoints_file if overlay else _text(raw, "endpoints_file")
        if named:
            more = self._endpoints(named, draft, place("endpoints_file"))
            rows = rows if more is None else joined(rows, more)
        check_rows(rows, draft, place, report)
        check_pairs(rows, draft, report)
        check_port_keys(rows, draft, report)
        check_planes(rows, draft, place, report)
        report.raise_if_any()
        if overlay is None:
            raise AssertionError("an overlay that is not valid has mistakes")
        return _topology(overlay, rows)

    def _endpoints(self, named: str, draft: Draft, spot: Spot) -> EndpointRows | None:
        path = self._endpoints_file or self._base / named
        self.endpoints_path = path
        before = len(self._report)
        data = self._bytes(path, str(path), CSV_LIMIT, spot)
        if len(self._report) > before:
            return None
        if self._kept is not None:
            self._kept.note(ENDPOINTS, data)
        tenants = {name: index for index, name in enumerate(draft.tenants)}
        hosts = {name: index for index, name in enumerate(draft.vteps)}
        return endpoints_csv.read(data, str(path), tenants, hosts, self._report)

    def _bytes(self, path: Path, label: str, limit: int, spot: Spot | None = None) -> bytes:
        """Return what the file holds; on failure note why, at `spot` if that names the file."""
        said = "" if spot is None else f"{label} "
        spot = spot or Spot(label)
        try:
            about = path.stat()
            # A pipe is somebody's <(…), and can be read once; a device may never end.
            pipe = stat.S_ISFIFO(about.st_mode)
            if not stat.S_ISREG(about.st_mode) and not (pipe and self._pipes):
                kinds = {"directory": stat.S_ISDIR(about.st_mode), "pipe": pipe}
                what = next((kind for kind, it in kinds.items() if it), "device")
                self._report.add(spot, f"{said}is a {what}, not a file")
                return b""
            pieces: list[bytes] = []
            held = 0
            with path.open("rb") as stream:
                # By the piece: a read of the limit sets that much memory aside for any file.
                size = max(_PIECE, min(about.st_size, limit) + 1)
                while held <= limit and (piece := stream.read(size)):
                    pieces.append(piece)
                    held += len(piece)
            data = b"".join(pieces)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            self._report.add(spot, f"{said}cannot be read: {reason}")
            return b""
        except ValueError:
            self._report.add(spot, "is not a usable file name")
            return b""
        if len(data) > limit:
            self._report.add(spot, f"{said}is larger than {limit >> 20} MiB")
        return data


def _text(raw: Any, key: str) -> str | None:
    value = raw.get(key) if isinstance(raw, dict) else None
    return value if isinstance(value, str) else None


def _topology(overlay: Overlay, rows: EndpointRows) -> Topology:
    return Topology.from_columns(
        overlay.underlay,
        VtepColumns.build(overlay.vteps),
        TenantColumns.build(overlay.tenants),
        EndpointColumns(
            tenant=rows.tenant.astype("uint32"),
            mac=rows.mac,
            vtep=rows.host.astype("uint32"),
            spoofing=rows.spoofing,
            router=rows.router,
            name=rows.name,
        ),
        Addresses4(rows.row4.astype("uint32"), rows.ip4, rows.prefix4),
        Addresses6(rows.row6.astype("uint32"), rows.ip6, rows.prefix6),
        rows.pairs4,
        rows.pairs6,
        rows.port_keys,
    )
