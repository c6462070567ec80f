"""How much a compressed file may unpack to before it is refused.

A megabyte of deflate can hold a gigabyte of zeros. What a file declares is compared with its size
on disk before it is unpacked: real arrays rarely shrink to less than a sixtieth.
"""

from __future__ import annotations

__all__ = ["SMALL", "allowed", "refusal"]

SMALL = 16 << 20  # bytes that any file may unpack to
_RATIO = 64


def allowed(packed: int) -> int:
    """Return how many bytes a stream of `packed` compressed bytes may unpack to.

    Examples
    --------
    >>> allowed(1 << 20) >> 20
    64
    """
    return max(SMALL, _RATIO * packed)


def refusal(packed: int, declared: int) -> str:
    """Return the middle of a message: what was expected, and what the file declares.

    Examples
    --------
    >>> refusal(1 << 20, 1 << 30)
    'expected at most 67 MB in 1.0 MB of compressed data, got 1074 MB declared'
    """
    return (
        f"expected at most {allowed(packed) / 1e6:.0f} MB in {packed / 1e6:.1f} MB of compressed "
        f"data, got {declared / 1e6:.0f} MB declared"
    )
