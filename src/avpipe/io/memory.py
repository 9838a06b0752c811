"""Memory that was freed, given back to the system."""

from __future__ import annotations

import ctypes


def release_memory() -> None:
    """Give freed memory back to the system, where the C library can (glibc).

    Blocks that are kept lie between freed ones, and the C library would hold on to those.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
