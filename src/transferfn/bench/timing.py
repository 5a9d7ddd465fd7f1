"""Timing of calls that take turns, so that what else the machine does hits them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

FEWEST = 7  # calls of each side


def alternate(sides: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, list[float]]:
    """Seconds of calls that take turns.

    Args:
        sides: What to call.
        seconds: For how long, about.
    """
    for side in sides.values():
        side()  # compilers and caches are at work in the first call
    times: dict[str, list[float]] = {name: [] for name in sides}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or any(len(values) < FEWEST for values in times.values()):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            times[name].append(time.perf_counter() - start)
    return times


def spread(values: list[float]) -> str:
    """Half of the calls lie within these milliseconds.

    Args:
        values: Seconds.
    """
    low, _, high = statistics.quantiles(values, n=4)
    return f"{1e3 * low:.3g} to {1e3 * high:.3g}"
