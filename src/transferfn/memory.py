"""How much memory this process holds, as the system tells it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

_STATUS = Path("/proc/self/status")


def resident(field: Literal["VmRSS", "VmHWM"]) -> int | None:
    """Return the bytes of this process that are in memory; None where the system does not tell.

    Args:
        field: Those of now (VmRSS), or the most of them there ever were (VmHWM).
    """
    try:
        rows = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(row.split()[1]) for row in rows if row.startswith(f"{field}:")), None)


def highest() -> int | None:
    """Return the most bytes of this process that ever were in memory; None where the system does not tell."""
    if (found := resident("VmHWM")) is not None:
        return found
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    # Only now: Linux hands this figure from the process that starts another to the other one.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
