"""Give memory back: freed is not returned by itself, neither by the C library nor by Arrow."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

_LARGE: Final = 50_000


def share_allocator() -> None:
    """Let Arrow take its memory where numpy takes it, from the C library.

    One keeps what the other has freed; and Arrow's own allocator is slow with memory that was
    never used.
    """
    pa.set_memory_pool(pa.system_memory_pool())


def give_back(rows: int) -> None:
    """After a job on so many rows return to the system what is free, if it is worth the
    milliseconds.

    malloc_trim(3), by way of Arrow; a C library that lacks it keeps what it has.
    """
    if rows >= _LARGE:
        pa.system_memory_pool().release_unused()
