"""Stencils: a message with slots, found by asking its encoder, stamped for many rows."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np
import pytest

from ovs_lwt.stencil import Columns, Stencil, big_endian


def frame(values: Mapping[str, int]) -> bytes:
    """A MAC, the same MAC again, a VNI of 24 bits between constants."""
    mac = values["mac"].to_bytes(6, "big")
    return b"<" + mac + b"|" + values["vni"].to_bytes(3, "big") + b"|" + mac + b">"


WIDTHS = {"mac": 6, "vni": 3}


def test_slots_are_where_the_encoder_puts_them() -> None:
    stencil = Stencil.trace(frame, WIDTHS)
    assert stencil.slots == {"mac": (6, (1, 12)), "vni": (3, (8,))}
    assert stencil.width == 19


def test_what_is_stamped_is_what_the_encoder_makes() -> None:
    macs, vnis = [0, 1, 0x0200000000FF, 2**48 - 1], [1, 0xFFFFFF, 0x010203, 1010]
    columns: Columns = {"mac": np.array(macs, np.uint64), "vni": np.array(vnis, np.uint32)}
    rows = Stencil.trace(frame, WIDTHS).stamp(4, columns)
    assert [row.tobytes() for row in rows] == [
        frame({"mac": mac, "vni": vni}) for mac, vni in zip(macs, vnis, strict=True)
    ]


def test_one_value_serves_all_rows_and_no_rows_are_no_trouble() -> None:
    stencil = Stencil.trace(frame, WIDTHS)
    columns: Columns = {"mac": np.arange(3, dtype=np.uint64), "vni": np.array([7], np.uint32)}
    assert [row.tobytes()[8:11] for row in stencil.stamp(3, columns)] == [b"\0\0\7"] * 3
    nothing = {name: column[:0] for name, column in columns.items()}
    assert stencil.stamp(0, nothing).shape == (0, 19)


def test_columns_without_a_slot_are_passed_over() -> None:
    columns = {name: np.array([5], np.uint64) for name in ("mac", "vni", "colour")}
    assert Stencil.trace(frame, WIDTHS).stamp(1, columns)[0].tobytes() == frame(
        {"mac": 5, "vni": 5}
    )


def test_a_slot_without_a_column_is_refused_unless_somebody_else_fills_it_in() -> None:
    """Misspelt, a column would else leave the probe in the message: dl_dst=5a:5a:5a:5a:5a:5a."""
    stencil = Stencil.trace(frame, WIDTHS)
    misspelt: Columns = {"mac_": np.array([5], np.uint64), "vni": np.array([7], np.uint32)}
    with pytest.raises(KeyError, match="no column for slot mac, only mac_, vni"):
        stencil.stamp(1, misspelt)
    left = stencil.stamp(1, misspelt, leave=("mac",))[0].tobytes()
    assert left == frame({"mac": 0x5A5A5A5A5A5A, "vni": 7})


def test_addresses_of_16_bytes_are_stamped_as_they_stand() -> None:
    stencil = Stencil.trace(lambda values: b"@" + values["ip6"].to_bytes(16, "big"), {"ip6": 16})
    addresses = np.arange(32, dtype=np.uint8).reshape(2, 16)
    assert [row.tobytes() for row in stencil.stamp(2, {"ip6": addresses})] == [
        b"@" + bytes(range(16)),
        b"@" + bytes(range(16, 32)),
    ]


def test_stamping_leaves_the_stencil_as_it_was() -> None:
    stencil = Stencil.trace(frame, WIDTHS)
    before = stencil.message.tobytes()
    columns = {name: np.array([9], np.uint64) for name in WIDTHS}
    stencil.stamp(1, columns)[:] = 0
    assert stencil.message.tobytes() == before


@pytest.mark.parametrize(
    ("encode", "mistake"),
    [
        (lambda values: b"the same for all", "slot vni: 0 bytes changed"),
        (lambda values: values["vni"].to_bytes(3, "big")[:2], "slot vni: 2 bytes changed"),
        (lambda values: str(values["vni"] % 10).encode(), "slot vni: 1 bytes changed"),
        (
            lambda values: b"|".join(bytes([octet]) for octet in values["vni"].to_bytes(3, "big")),
            "slot vni: its bytes are not side by side",
        ),
    ],
    ids=["left out", "cut", "in words", "scattered"],
)
def test_a_slot_that_cannot_be_stamped_is_refused(encode: object, mistake: str) -> None:
    assert callable(encode)
    with pytest.raises(ValueError, match=mistake):
        Stencil.trace(encode, {"vni": 3})


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32, np.uint64, np.int64])
def test_numbers_of_any_size_become_big_endian(kind: type[np.generic]) -> None:
    column = np.array([0, 1, 100], kind)
    assert big_endian(column, 4).tobytes() == struct.pack("!3I", 0, 1, 100)


def test_only_the_low_bytes_of_a_number_are_taken() -> None:
    assert big_endian(np.array([0x0102030405060708], np.uint64), 3).tobytes() == b"\6\7\x08"


def test_columns_that_are_slices_of_others_are_stamped_right() -> None:
    column = np.arange(10, dtype=np.uint32)[::3]
    assert big_endian(column, 2).tobytes() == struct.pack("!4H", 0, 3, 6, 9)
