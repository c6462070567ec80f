"""The peak memory of a process."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path


def peak_megabytes() -> float:
    """Return the peak memory of this process so far, in MB.

    On Linux, `VmHWM` is reset when a new program is executed. The value of `getrusage` is not
    reset, so it can be the peak of the parent process; it is used only where `VmHWM` is missing.
    """
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
