"""The endpoints file: CSV into columns, a million rows in about a second.

pyarrow splits the rows, `text_columns` makes numbers of the columns. Only rows with a mistake
are ever looked at one by one, and of those only as many as are reported.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv
from pydantic import BeforeValidator, TypeAdapter, ValidationError

from ovs_lwt.columns import (
    NO,
    NO_PAIRS4,
    NO_PAIRS6,
    NO_PORT_KEYS,
    U8,
    U64,
    UNSAID,
    YES,
    Flags,
    Pairs4,
    Pairs6,
    PortKeys,
)
from ovs_lwt.mistakes import listing, suggestion
from ovs_lwt.model import AllowedPair
from ovs_lwt.port_keys import sparse
from ovs_lwt.sources import text_columns
from ovs_lwt.sources.report import Report, Spot
from ovs_lwt.sources.rows import I64, EndpointRows
from ovs_lwt.sources.words import message_of
from ovs_lwt.values import Interface, Mac, Name, Uuid, shown

REQUIRED = ("tenant", "name", "mac", "ip", "host")
OPTIONAL = ("spoofing", "router", "allowed_pairs", "port", "attached_mac")
_CODED = frozenset({"tenant", "host", "spoofing", "router", "attached_mac"})
_BLOCK = 1 << 24
_ALONE = re.compile(rb"\r(?!\n)")
_EMPTY = re.compile(rb"(?m)^[ \t]*,[, \t]*(?=\r?\n|\r?\Z)")
_BEFORE_HEADER = re.compile(rb"((?:[ \t]*,[, \t]*)?(?:\r?\n|\r?\Z))*")

_NAME: TypeAdapter[str] = TypeAdapter(Name)
_MAC: TypeAdapter[str] = TypeAdapter(Mac)
_INTERFACE: TypeAdapter[Any] = TypeAdapter(Interface)
_UUID: TypeAdapter[str] = TypeAdapter(Uuid)


def read(
    data: bytes, file: str, tenants: Mapping[str, int], hosts: Mapping[str, int], report: Report
) -> EndpointRows | None:
    """Read the endpoints in `data`, noting in `report` what is wrong with single rows.

    `tenants` and `hosts` give the number of every known name. `file` is the name to report
    under. Returns None if the rows could not be told apart at all.
    """
    body = _open(data, file, report)
    if body is None:
        return None
    table = _split(body, report)
    return None if table is None else _Reader(body, table, report).rows(tenants, hosts)


@dataclass(slots=True)
class _Body:
    """The file, split once: the header's names, and where (byte, line) the rows begin.

    `skipped` are the rows that had the wrong number of fields.
    """

    file: str
    data: bytes
    header: list[str]
    start: int
    line: int
    skipped: I64

    def content(self) -> U8:
        """Return the bytes of the rows: a view, no copy."""
        return np.frombuffer(self.data, np.uint8)[self.start :]

    def empty(self) -> None:
        """Take everything out of rows of nothing but commas, which a spreadsheet writes where rows
        were once in use: they are empty lines then.
        """
        self.data = self.data[: self.start] + _EMPTY.sub(b"", self.data[self.start :])

    def rows(self) -> tuple[I64, I64, I64]:
        """Return where every row begins and ends in `content`, and its line number."""
        content = self.content()
        ends = np.append(np.flatnonzero(content == ord("\n")), len(content))
        starts = np.append(0, ends[:-1] + 1)
        length = ends - starts
        first = content[np.minimum(starts, max(0, len(content) - 1))] if len(content) else starts
        # pyarrow passes over lines with nothing but their end.
        filled = np.flatnonzero((length > 1) | ((length == 1) & (first != ord("\r"))))
        return starts[filled], ends[filled], filled + self.line

    def lines(self) -> I64:
        """Return the line number of every row that was kept."""
        return np.delete(self.rows()[2], self.skipped)


def _open(data: bytes, file: str, report: Report) -> _Body | None:
    """Check that `data` is text with the right header."""
    whole = Spot(file)
    data = data.removeprefix(codecs.BOM_UTF8)
    if b"\0" in data:
        report.add(whole, "is binary, not a CSV text file")
        return None
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            report.add(Spot(file, line), "is not UTF-8 text")
            return None
    if b"\n" not in data:
        data = data.replace(b"\r", b"\n")
    # Two bytes take the longer to look for, the more often the first of them stands there.
    if b"\r" in data and (alone := _ALONE.search(data)):
        line = data.count(b"\n", 0, alone.start()) + 1
        report.add(
            Spot(file, line), "has a carriage return (\\r) in the middle: end lines with \\n"
        )
        return None
    before = _BEFORE_HEADER.match(data)
    first = before.end() if before else 0
    rest = data[first:] if first else data
    if not rest or rest.isspace():
        report.add(whole, f"is empty: its first line must be {','.join(REQUIRED)}")
        return None
    end = data.find(b"\n", first)
    end = len(data) if end < 0 else end
    line = data.count(b"\n", 0, first) + 1
    text = data[first:end].decode().rstrip("\r")
    spot = Spot(file, line)
    try:
        header = [name.strip().lower() for name in next(csv.reader([text], strict=True))]
    except csv.Error as error:
        report.add(spot, f"is not CSV: {error}")
        return None
    known = (*REQUIRED, *OPTIONAL)
    right = True
    for place, name in enumerate(header):
        if name not in known:
            near = suggestion(name, known)
            report.add(spot, f"unknown column {shown(name)}{near}; known: {', '.join(known)}")
            right = False
        elif name in header[:place]:
            report.add(spot, f"column '{name}' stands twice")
            right = False
    for name in REQUIRED:
        if name not in header:
            report.add(spot, f"column '{name}' is missing; the first line names the columns")
            right = False
    nothing = np.zeros(0, np.int64)
    return _Body(file, data, header, min(end + 1, len(data)), line + 1, nothing) if right else None


def _split(body: _Body, report: Report) -> pa.Table | None:
    """Split rows into columns of text; note rows with too few or too many fields."""
    if b'"' in body.data and (line := _open_quote(body)) is not None:
        report.add(Spot(body.file, line), "a quote is opened and not closed in the same line")
        return None
    try:
        return _table(body, report)
    except pa.ArrowInvalid as error:
        report.add(Spot(body.file), f"is not CSV: {str(error).splitlines()[0]}")
        return None


def _open_quote(body: _Body) -> int | None:
    content = body.content()
    ends = np.append(np.flatnonzero(content == ord("\n")), len(content))
    quotes = np.searchsorted(np.flatnonzero(content == ord('"')), ends)
    odd = np.flatnonzero(np.diff(quotes, prepend=0) % 2)
    return int(odd[0]) + body.line if len(odd) else None


def _table(body: _Body, report: Report) -> pa.Table:
    with suppress(pa.ArrowInvalid):
        table = _parsed(_whole(body), body.header)
        if not _begins_empty(table):
            return table
    body.empty()
    try:
        return _parsed(_whole(body), body.header)
    except pa.ArrowInvalid:
        body.skipped = _odd_rows(body, report)
        if len(body.skipped) == 0:
            raise
    starts, ends, _ = body.rows()
    change = np.zeros(len(body.content()) + 1, np.int8)
    change[starts[body.skipped]] += 1
    change[ends[body.skipped]] -= 1
    kept = body.content()[np.cumsum(change[:-1], dtype=np.int8) == 0].tobytes()
    return _parsed(pa.py_buffer(kept.strip(b"\r\n")), body.header)


def _whole(body: _Body) -> pa.Buffer:
    whole = pa.py_buffer(body.data).slice(body.start)
    # Only a body that begins with an empty line can hold nothing else.
    if body.content()[:1].tobytes() in (b"\r", b"\n") and len(body.lines()) == 0:
        whole = whole.slice(0, 0)
    return whole


def _begins_empty(table: pa.Table) -> bool:
    """Whether a row has nothing in its first column, or nothing but white space."""
    chunks = table.column(0).chunks
    words = [each.dictionary if pa.types.is_dictionary(each.type) else each for each in chunks]
    lengths = [pc.binary_length(pc.ascii_trim_whitespace(each)) for each in words]
    return any(pc.any(pc.equal(each, 0)).as_py() for each in lengths)


def _types(header: list[str]) -> dict[str, Any]:
    coded = pa.dictionary(pa.int32(), pa.string())
    return {name: coded if name in _CODED else pa.string() for name in header}


def _parsed(data: pa.Buffer, header: list[str]) -> pa.Table:
    types = _types(header)
    if data.size == 0:
        return pa.table({name: pa.array([], kind) for name, kind in types.items()})
    return arrow_csv.read_csv(
        pa.BufferReader(data),
        # Blocks are split in parallel; a row must fit into one.
        arrow_csv.ReadOptions(block_size=_BLOCK, column_names=header),
        convert_options=arrow_csv.ConvertOptions(
            column_types=types, strings_can_be_null=False, check_utf8=False
        ),
    ).combine_chunks()


def _odd_rows(body: _Body, report: Report) -> I64:
    """Note and return the rows that have too few or too many fields."""
    content = body.content()
    starts, ends, lines = body.rows()
    commas = np.flatnonzero(content == ord(","))
    quotes = np.flatnonzero(content == ord('"'))
    # A comma after an odd number of quotes stands inside a quoted value.
    commas = commas[np.searchsorted(quotes, commas) % 2 == 0]
    fields = np.searchsorted(commas, ends) - np.searchsorted(commas, starts) + 1
    odd = np.flatnonzero(fields != len(body.header))

    def say(row: int) -> tuple[Spot, str]:
        text = content[starts[row] : ends[row]].tobytes().decode().rstrip("\r")
        count = f"{fields[row]} fields instead of {len(body.header)}"
        return (
            Spot(body.file, int(lines[row])),
            f"{count} ({','.join(body.header)}): {shown(text)}",
        )

    report.rows(odd, say, "wrong number of fields")
    return odd


class _Reader:
    """Turns one table of text into `EndpointRows`."""

    def __init__(self, body: _Body, table: pa.Table, report: Report) -> None:
        self._body = body
        self._report = report
        self._lines: I64 | None = None
        self._size = table.num_rows
        spaces = b" " in body.data or b"\t" in body.data
        self._columns: dict[str, Any] = {}
        for name in body.header:
            chunks = table[name].chunks
            column = chunks[0] if chunks else pa.array([], table[name].type)
            if spaces and name not in _CODED:
                column = pc.ascii_trim_whitespace(column)
            self._columns[name] = column

    def rows(self, tenants: Mapping[str, int], hosts: Mapping[str, int]) -> EndpointRows:
        name, mac = self._columns["name"], self._columns["mac"]
        named = text_columns.names(name)
        self._bad(named, "name", name, _NAME)
        number, good = text_columns.macs(mac)
        self._bad(good, "mac", mac, _MAC)
        tenant = self._coded("tenant", tenants, "tenant")
        host = self._coded("host", hosts, "host")
        spoofing = np.zeros(self._size, np.bool_)
        if "spoofing" in self._columns:
            spoofing = self._coded("spoofing", {"": 0, "deny": 0, "allow": 1}, "value") == 1
        router = np.full(self._size, UNSAID, np.uint8)
        if "router" in self._columns:
            values = {"": UNSAID, "false": NO, "true": YES}
            router = np.maximum(self._coded("router", values, "value"), UNSAID).astype(np.uint8)
        row4, ip4, prefix4, row6, ip6, prefix6 = self._addresses()
        pairs4, pairs6 = NO_PAIRS4, NO_PAIRS6
        if "allowed_pairs" in self._columns:
            pairs4, pairs6 = self._pairs(number)
        return EndpointRows(
            tenant, host, number, spoofing, router, name, named,
            row4, ip4, prefix4, row6, ip6, prefix6, pairs4, pairs6, self._port_keys(), self._spot,
        )  # fmt: skip

    def _spot(self, row: int, field: str, text: str = "") -> Spot:
        if self._lines is None:
            self._lines = self._body.lines()
        return Spot(self._body.file, int(self._lines[row]), field)

    def _bad(
        self, good: Flags, field: str, column: pa.StringArray, adapter: TypeAdapter[Any],
        rows: I64 | None = None,
    ) -> None:  # fmt: skip
        """Note the rows whose text is not `good`, in the words of the model's validator."""
        if good.all():
            return
        places = np.flatnonzero(~good)

        def say(place: int) -> tuple[Spot, str]:
            text = column[place].as_py()
            row = place if rows is None else int(rows[place])
            if text:
                try:
                    adapter.validate_python(text)
                    message = f"{shown(text)} is malformed"
                except ValidationError as error:
                    message = message_of(error)
            else:
                message = "is empty"
            return self._spot(row, field), message

        self._report.rows(places, say, f"bad {field}")

    def _coded(self, field: str, known: Mapping[str, int], what: str) -> I64:
        """Return the number each row's text has in `known`, -1 where it has none."""
        column = self._columns[field]
        words: list[str] = [word.strip() for word in column.dictionary.to_pylist()]
        numbers = np.array([known.get(word, -1) for word in words], np.int64)
        codes = column.indices.to_numpy(zero_copy_only=False)
        result: NDArray[np.int64] = numbers[codes] if words else np.zeros(0, np.int64)
        if (numbers < 0).any():
            names = [name for name in known if name]

            def say(row: int) -> tuple[Spot, str]:
                word = words[int(codes[row])]
                if not word:
                    return self._spot(row, field), "is empty"
                near = suggestion(word, names)
                return (
                    self._spot(row, field),
                    f"unknown {what} {shown(word)}{near}; known: {listing(names)}",
                )

            self._report.rows(np.flatnonzero(result < 0), say, f"unknown {field}")
        return result

    def _addresses(self) -> tuple[I64, Any, Any, I64, Any, Any]:
        row, tokens = self._tokens("ip")
        six = np.zeros(len(tokens), np.bool_)
        if b":" in text_columns.buffers(tokens)[0].tobytes():
            six = pc.match_substring(tokens, ":").to_numpy(zero_copy_only=False)
        four = ~six
        tokens4 = tokens.filter(pa.array(four)) if six.any() else tokens
        row4, row6 = row[four], row[six]
        ip4, prefix4, good4 = text_columns.interfaces4(tokens4)
        self._bad(good4, "ip", tokens4, _INTERFACE, row4)
        if not good4.all():
            row4, ip4, prefix4 = row4[good4], ip4[good4], prefix4[good4]
        tokens6 = tokens.filter(pa.array(six))
        ip6, prefix6, good6 = text_columns.interfaces6(tokens6)
        self._bad(good6, "ip", tokens6, _INTERFACE, row6)
        return row4, ip4, prefix4, row6[good6], ip6[good6], prefix6[good6]

    def _pairs(self, own: U64) -> tuple[Pairs4, Pairs6]:
        """own: the MAC of every row, which is a pair's where it names none."""
        row, tokens = self._tokens("allowed_pairs")
        mac = own[row]
        addresses = tokens
        good = np.ones(len(tokens), np.bool_)
        named = pc.match_substring(tokens, "@").to_numpy(zero_copy_only=False)
        if named.any():
            parts = pc.split_pattern(tokens.filter(pa.array(named)), "@", max_splits=1)
            mac[named], good[named] = text_columns.macs(pc.list_element(parts, 1))
            places = np.cumsum(named) - 1
            every = pa.concat_arrays([tokens, pc.list_element(parts, 0)])
            addresses = every.take(
                pa.array(np.where(named, places + len(tokens), np.arange(len(tokens))))
            )
        six = pc.match_substring(addresses, ":").to_numpy(zero_copy_only=False)
        found = []
        for version, some in ((4, ~six), (6, six)):
            read = text_columns.interfaces4 if version == 4 else text_columns.interfaces6
            length = "/32" if version == 4 else "/128"
            whole = pc.binary_join_element_wise(addresses.filter(pa.array(some)), length, "")
            ip, _, well = read(whole)
            good[some] &= well
            kept = good[some]
            owner = row[some][kept].astype(np.uint32)
            found.append((owner, mac[some][kept], ip[kept]))
        self._bad(good, "allowed_pairs", tokens, _PAIR, row)
        return Pairs4(*found[0]), Pairs6(*found[1])

    def _port_keys(self) -> PortKeys:
        uuid, by_mac = np.zeros((0, 16), np.uint8), np.zeros(0, np.bool_)
        if "port" in self._columns:
            uuid, good = text_columns.uuids(self._columns["port"])
            self._bad(good, "port", self._columns["port"], _UUID)
        if "attached_mac" in self._columns:
            by_mac = self._coded("attached_mac", {"": 0, "false": 0, "true": 1}, "value") == 1
        if not len(uuid) and not len(by_mac):
            return NO_PORT_KEYS
        every = np.zeros((self._size, 16), np.uint8) if not len(uuid) else uuid
        return sparse(every, by_mac if len(by_mac) else np.zeros(self._size, np.bool_))

    def _tokens(self, column: str) -> tuple[I64, pa.StringArray]:
        """The words of a column that may hold several in a cell, and the row of each."""
        tokens = self._columns[column]
        row: I64 = np.arange(self._size)
        content, offsets = text_columns.buffers(tokens)
        text = content.tobytes()
        if b" " in text or b";" in text or b"\t" in text or (np.diff(offsets) == 0).any():
            lists = pc.ascii_split_whitespace(pc.replace_substring(tokens, ";", " "))
            row = pc.list_parent_indices(lists).to_numpy().astype(np.int64)
            tokens = lists.flatten()
            filled = np.diff(text_columns.buffers(tokens)[1]) > 0
            row, tokens = row[filled], tokens.filter(pa.array(filled))
        return row, tokens


def _pair(text: Any) -> Any:
    """A pair as the endpoints file writes it: ADDRESS, or ADDRESS@MAC."""
    if not isinstance(text, str):
        return text
    address, at, mac = text.partition("@")
    return {"ip": address, "mac": mac} if at else {"ip": address}


_PAIR: TypeAdapter[AllowedPair] = TypeAdapter(Annotated[AllowedPair, BeforeValidator(_pair)])
