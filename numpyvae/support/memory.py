"""Reuse of freed memory: new memory from the operating system can cost more than arithmetic."""

from __future__ import annotations

from functools import cache

import numpy as np

__all__ = ["keep_freed_memory"]


@cache
def keep_freed_memory() -> None:
    """Make the C library keep up to 64 MB of freed memory for new arrays.

    A training step allocates and frees the same few megabytes of arrays each time. If the memory
    goes back to the operating system in between, each page of 4 KiB must be mapped and zeroed
    again: up to 1900 page faults in a step of 784-500-20, a third of its time.

    glibc adapts its thresholds when a large block is freed (mallopt(3), M_MMAP_THRESHOLD): blocks
    up to the size of that block are kept from then on, and twice that size in total; 32 MB is the
    largest block that has this effect. This function allocates and frees such a block, once per
    process. Nothing is written to the block, so no memory is used. Other C libraries do not
    change their behavior.
    """
    np.empty((1 << 25) - (1 << 13), np.uint8)
