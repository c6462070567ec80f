"""Freed arrays stay with the process: fresh memory from the system costs more than arithmetic."""

from __future__ import annotations

from functools import cache

import numpy as np

__all__ = ["keep_freed_memory"]


@cache
def keep_freed_memory() -> None:
    """Let the C library keep up to 64 MB of freed arrays, to hand them out again.

    A training step makes and drops the same few megabytes of arrays each time. Where they go
    back to the system in between, each page of 4 KiB is faulted in and zeroed again: up to 1900
    faults in a step of 784-500-20, a third of its time. glibc adapts to its caller (mallopt(3),
    M_MMAP_THRESHOLD): a block obtained from the system and freed raises the size up to which
    blocks are kept, to that block's own, and the amount of free memory kept to twice that; 32 MB
    is the most it learns from. Nothing is written to the block here, so it costs no memory; other
    C libraries are left as they are. Once for a process is enough.
    """
    np.empty((1 << 25) - (1 << 13), np.uint8)
