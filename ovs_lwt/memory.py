"""Give memory back: freed is not returned, by default, neither by the C library nor by Arrow."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Final

import pyarrow as pa

_LARGE: Final = 50_000


def give_back(rows: int) -> None:
    """After a job on so many rows return to the system what is free, if it is worth the
    milliseconds.

    malloc_trim(3); a C library that lacks it keeps what it has.
    """
    if rows < _LARGE:
        return
    pa.default_memory_pool().release_unused()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
