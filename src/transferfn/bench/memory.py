"""Peak memory of one call, measured in a process of its own: ``python -m transferfn.bench.memory``.

The peak is that of the resident set, counted from just before the call, with inputs and parameters in place, libraries
loaded and loops compiled. It needs Linux, whose kernel can forget an earlier peak.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

from transferfn.memory import resident

Name = Literal["ours", "published", "floor"]

_FORGET = Path("/proc/self/clear_refs")


def is_measurable() -> bool:
    """Whether this system can tell the peak of a call."""
    return _FORGET.exists() and os.access(_FORGET, os.W_OK)


def peak(call: Callable[[], Any]) -> int:
    """Bytes that the resident set grows by at most during a call, what it returns included.

    Args:
        call: What to measure.
    """
    ctypes.CDLL(None).malloc_trim(0)  # what earlier calls have freed would be there for this one
    _FORGET.write_text("5")
    before = resident("VmRSS")
    kept = call()
    after = resident("VmHWM")
    del kept
    assert before is not None  # whoever can forget a peak tells it
    assert after is not None
    return max(after - before, 0)


def retain_freed_memory() -> None:
    """Keep freed memory in the process, as its next owner would find it: no mapping and no page faults anew."""
    libc = ctypes.CDLL(None)
    for option, value in ((-1, 2**31 - 1), (-3, 2**30), (-4, 0)):  # trim threshold, mapping threshold, no mappings
        libc.mallopt(option, value)


def measure(name: str, shape: tuple[int, int, int], order: int, numerator: str, *, training: bool, retain: bool) -> int:
    """Peak of one call in a fresh process, in bytes.

    Args:
        name: Which side: a :data:`Name`, or a layer of :mod:`transferfn.bench.contenders`.
        shape: B, L and D.
        order: Order n.
        numerator: Which numerator ours learns.
        training: Whether with gradients.
        retain: Whether the allocator keeps freed memory.
    """
    told = json.dumps([name, shape, order, numerator, training, retain])
    command = [sys.executable, "-W", "ignore", "-m", "transferfn.bench.memory", told]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the process that measures memory failed: {done.stderr.strip().splitlines()[-1:]}")
    return int(done.stdout)


def _main(told: str) -> None:
    name, (batch, length, channels), order, numerator, training, retain = json.loads(told)
    if retain:
        retain_freed_memory()
    from transferfn.bench import sides
    from transferfn.ops.cost import block_size

    def call(length: int, method: Any = "auto") -> Callable[[], Any]:
        shape = batch, length, channels
        if name not in get_args(Name):
            from transferfn.bench import contenders, mixers

            one = mixers.side(contenders.build(name, channels, min(order, length - 2), length), shape)
            return one.training if training else one.inference
        mine, layer = sides.ours(shape, min(order, length - 1), numerator)
        layer.method = method
        if name != "ours":
            mine = sides.published(shape, layer) if name == "published" else sides.floor(shape)
        return mine.training if training else mine.inference

    for method in ("scan", "fft"):  # small signals compile and load all that there is to be, with orders of either kind
        for some in (64, min(order + 2, length)):
            peak(call(some, method))
    if length > (several := 2 * block_size(order)):
        peak(call(several, "blocks"))
    print(peak(call(length)))


if __name__ == "__main__":
    _main(sys.argv[1])
