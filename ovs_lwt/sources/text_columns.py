"""Numbers out of columns of text: MACs, addresses, names; a column at a time.

Every reader returns, beside the numbers, which rows could be read. It says no more than that:
the words for a bad row come from the validators of `ovs_lwt.model`, which see only those rows.
That both agree on what is good is held by a property test.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from ipaddress import AddressValueError, IPv6Address
from itertools import repeat
from socket import AF_INET6, inet_pton
from typing import Any, TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ovs_lwt.columns import U8, U32, U64, Flags

_Found = TypeVar("_Found", bound=tuple[NDArray[Any], ...])

_NO_DIGIT = 0xFF
_HEX = np.full(256, _NO_DIGIT, np.uint8)
for _value, _digits in enumerate(zip(b"0123456789abcdef", b"0123456789ABCDEF", strict=True)):
    _HEX[list(_digits)] = _value
_NAME_BYTES = np.zeros(256, np.bool_)
_NAME_BYTES[list(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")] = True
_NAME_LIMIT = 63
_MAC_LENGTH = 17
_UUID_LENGTH, _UUID_DASHES = 36, (8, 13, 18, 23)
_PIECE = 1 << 16
_PREFIX6 = {str(length): length for length in range(129)}


def buffers(column: pa.StringArray) -> tuple[U8, NDArray[np.int64]]:
    """Return the bytes of a text column without nulls, and the N + 1 offsets of its rows."""
    _, offsets, data = column.buffers()
    if len(column) == 0 or offsets is None:
        return np.zeros(0, np.uint8), np.zeros(len(column) + 1, np.int64)
    spans = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    content = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return content[spans[0] : spans[-1]], spans.astype(np.int64) - int(spans[0])


def _by_pieces(read: Callable[[pa.StringArray], _Found]) -> Callable[[pa.StringArray], _Found]:
    """Have a long column read piece by piece, so that what that takes stays in the cache."""

    @wraps(read)
    def pieces(column: pa.StringArray) -> _Found:
        if len(column) <= _PIECE:
            return read(column)
        found = [read(column.slice(at, _PIECE)) for at in range(0, len(column), _PIECE)]
        return cast(_Found, tuple(map(np.concatenate, zip(*found, strict=True))))

    return pieces


@_by_pieces
def macs(column: pa.StringArray) -> tuple[U64, Flags]:
    """Read ``02:00:00:00:00:01``; return 48-bit numbers (0 where bad) and which rows are good.

    Good means usable by an endpoint: well formed, unicast and not zero.
    """
    content, offsets = buffers(column)
    number = np.zeros(len(column), np.uint64)
    well = np.diff(offsets) == _MAC_LENGTH
    if not well.all():
        if well.any():
            number[well], well[well] = macs(column.filter(pa.array(well)))
        return number, well
    text = content.reshape(-1, _MAC_LENGTH)
    wrong = np.zeros(len(text), np.uint8)
    for place in range(_MAC_LENGTH):
        # One contiguous column at a time: the arrays stay in the cache.
        char = np.ascontiguousarray(text[:, place])
        if place % 3 == 2:
            wrong |= char ^ ord(":")
        else:
            digit = _HEX[char]
            wrong |= digit & 0xF0
            number <<= np.uint64(4)
            number |= digit
    good = (wrong == 0) & (number != 0) & ((number >> np.uint64(40)) & np.uint64(1) == 0)
    if not good.all():
        number[~good] = 0
    return number, good


@_by_pieces
def uuids(column: pa.StringArray) -> tuple[U8, Flags]:
    """Read ``0f8fad5b-d9cb-469f-a165-70867728950e``; return ``[N, 16]`` bytes, all zero where there
    is none or a bad one, and which rows are good. An empty one is good.
    """
    content, offsets = buffers(column)
    length = np.diff(offsets)
    number, good = np.zeros((len(column), 16), np.uint8), length == 0
    some = length == _UUID_LENGTH
    text = content[np.flatnonzero(np.repeat(some, length))].reshape(-1, _UUID_LENGTH)
    wrong = (text[:, _UUID_DASHES] != ord("-")).any(axis=1)
    digits = _HEX[np.delete(text, _UUID_DASHES, axis=1)]
    wrong |= (digits > 0xF).any(axis=1) | ~digits.any(axis=1)
    digits[wrong] = 0
    number[some] = digits[:, 0::2] << 4 | digits[:, 1::2]
    good[some] = ~wrong
    return number, good


@_by_pieces
def interfaces4(column: pa.StringArray) -> tuple[U32, U8, Flags]:
    """Read ``10.0.0.11/24``; return addresses, prefix lengths (0 where bad), which are good."""
    content, offsets = buffers(column)
    rows = len(column)
    address, prefix = np.zeros(rows, np.uint32), np.zeros(rows, np.uint8)
    separators = np.flatnonzero((content == ord(".")) | (content == ord("/")))
    first = np.searchsorted(separators, offsets) if len(separators) != 4 * rows else None
    if first is None:
        # Four each on average; four each in fact if every fourth lies within its own row.
        quads = separators.reshape(-1, 4)
        four = (quads[:, 0] >= offsets[:-1]) & (quads[:, 3] < offsets[1:])
    else:
        four = np.diff(first) == 4
    if not four.all():
        if first is None:
            four = np.diff(np.searchsorted(separators, offsets)) == 4
        if four.any():
            address[four], prefix[four], four[four] = interfaces4(column.filter(pa.array(four)))
        return address, prefix, four
    quads = separators.reshape(-1, 4)
    digits = content - np.uint8(ord("0"))
    good = (content[quads[:, 3]] == ord("/")) if rows else np.ones(0, np.bool_)
    start = offsets[:-1]
    for place in range(5):
        end = quads[:, place] if place < 4 else offsets[1:]
        if place < 3:
            good &= content[end] == ord(".")
        part, well = _small_numbers(digits, start, end)
        good &= well
        if place < 4:
            good &= part < 256
            address = (address << np.uint32(8)) | part
            start = end + 1
        else:
            good &= part <= 32
            prefix = np.minimum(part, 32).astype(np.uint8)
    good &= usable4(address, prefix)
    if not good.all():
        address[~good], prefix[~good] = 0, 0
    return address, prefix, good


def _small_numbers(
    digits: U8, start: NDArray[np.int64], end: NDArray[np.int64]
) -> tuple[NDArray[np.uint16], Flags]:
    """Read the numbers of 1 to 3 digits at ``start:end``, without leading zeros."""
    length = end - start
    ones = digits[end - 1]
    # Clipped, not masked: what is read beyond a short number counts for nothing below.
    tens = digits[np.maximum(end - 2, 0)]
    hundreds = digits[np.maximum(end - 3, 0)]
    two, three = length >= 2, length >= 3
    number = ones.astype(np.uint16)
    number += np.where(two, tens, 0).astype(np.uint16) * np.uint16(10)
    number += np.where(three, hundreds, 0).astype(np.uint16) * np.uint16(100)
    good = (length >= 1) & (length <= 3) & (ones < 10)
    good &= ~two | ((tens < 10) & (three | (tens > 0)))
    good &= ~three | ((hundreds < 10) & (hundreds > 0))
    return number, good


def usable4(address: U32, prefix: U8) -> Flags:
    """Say which IPv4 addresses an endpoint can have: `model.unusable`, a column at a time."""
    high = address >> np.uint32(24)
    good: Flags = (high != 0) & (high != 127) & (high < 224)
    hosts = (np.uint64(1) << (32 - prefix).astype(np.uint64)) - np.uint64(1)
    rest = address & hosts.astype(np.uint32)
    good &= (prefix >= 31) | ((rest != 0) & (rest != hosts))
    return good


def interfaces6(column: pa.StringArray) -> tuple[U8, U8, Flags]:
    """Read ``fd00::11/64``; return ``[N, 16]`` bytes, prefix lengths, and which rows are good."""
    rows = len(column)
    texts = column.to_pylist()
    parts = [text.partition("/") for text in texts]
    try:
        joined = b"".join(map(inet_pton, repeat(AF_INET6), [part[0] for part in parts]))
        good = np.ones(rows, np.bool_)
    except (OSError, ValueError):
        maybe = [_packed6(part[0]) for part in parts]
        joined = b"".join(packed or bytes(16) for packed in maybe)
        good = np.array([packed is not None for packed in maybe], np.bool_)
    address = np.frombuffer(joined, np.uint8).reshape(-1, 16).copy()
    prefix = np.array([_PREFIX6.get(part[2], 255) for part in parts], np.uint8)
    good &= (prefix <= 128) & usable6(address, prefix)
    address[~good], prefix[~good] = 0, 0
    return address, prefix, good


def _packed6(text: str) -> bytes | None:
    try:
        return IPv6Address(text).packed if "%" not in text else None
    except AddressValueError:
        return None


def usable6(address: U8, prefix: U8) -> Flags:
    """Say which IPv6 addresses ``[N, 16]`` an endpoint can have."""
    good: Flags = address[:, 0] != 0xFF
    nearly_zero = ~address[:, :15].any(axis=1)
    good &= ~(nearly_zero & (address[:, 15] <= 1))
    good &= ~(~address[:, :10].any(axis=1) & (address[:, 10:12] == 0xFF).all(axis=1))
    host_bits = np.maximum(0, 128 - prefix.astype(np.int16))[:, None]
    # Bits of each byte that belong to the host part, most significant byte first.
    in_byte = np.clip(host_bits - 8 * np.arange(15, -1, -1), 0, 8)
    rest = address & ((1 << in_byte) - 1).astype(np.uint8)
    good &= (prefix >= 127) | rest.any(axis=1)
    return good


def names(column: pa.StringArray) -> Flags:
    """Say which rows can be a name: what `ovs_lwt.names.is_name` says, a column at a time."""
    content, offsets = buffers(column)
    length = np.diff(offsets)
    good: Flags = (length >= 1) & (length <= _NAME_LIMIT)
    odd = np.flatnonzero(~_NAME_BYTES[content])
    good[np.searchsorted(offsets, odd, side="right") - 1] = False
    short = np.flatnonzero(length <= 2)
    if len(short):
        dots = pc.is_in(column.take(pa.array(short)), value_set=pa.array([".", ".."]))
        good[short[dots.to_numpy(zero_copy_only=False)]] = False
    return good


def twins(group: NDArray[Any], column: pa.StringArray) -> NDArray[np.int64]:
    """Return, ascending, the rows whose (group, text) stands in more than one row.

    Texts are compared by a 64-bit hash first, and exactly where hashes are equal.
    """
    if len(column) < 2:
        return np.zeros(0, np.int64)
    _, offsets = buffers(column)
    words = max(1, -(-int(np.diff(offsets).max()) // 8))
    padded = pc.ascii_rpad(column, width=8 * words, padding="\0")
    cells = np.frombuffer(buffers(padded)[0], np.uint64).reshape(-1, words)
    weights = np.random.default_rng(0).integers(1, 2**64, words + 1, dtype=np.uint64) | np.uint64(1)
    key = group.astype(np.uint64) * weights[words]
    for word in range(words):
        key += cells[:, word] * weights[word]
    rows = repeated(key)
    if len(rows) == 0:
        return rows
    codes = column.take(pa.array(rows)).dictionary_encode().indices.to_numpy()
    exact = group[rows].astype(np.uint64) * np.uint64(len(rows)) + codes.astype(np.uint64)
    return rows[repeated(exact)]


def repeated(key: U64) -> NDArray[np.int64]:
    """Return, ascending, the rows whose key stands in more than one row."""
    ordered = np.sort(key)
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(again) == 0:
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.isin(key, np.unique(again)))
