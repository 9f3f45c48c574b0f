"""Give memory back: freed is not returned, by default, neither by the C library nor by Arrow."""

from __future__ import annotations

import ctypes
from contextlib import suppress

import pyarrow as pa


def give_back() -> None:
    """Return to the system what is free: for after a large job, since it takes milliseconds.

    malloc_trim(3); a C library that lacks it keeps what it has.
    """
    pa.default_memory_pool().release_unused()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
