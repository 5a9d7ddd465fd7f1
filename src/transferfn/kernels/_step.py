"""One sample of the recurrence as a Numba loop. Imported on first use."""

from __future__ import annotations

from typing import Any, no_type_check

import numpy as np
from numba.np.numpy_support import carray

from transferfn.kernels._compile import part
from transferfn.kernels._entry import HEAD, array, entry, share
from transferfn.kernels._simd import load, load_part, splat, store, store_part, total


@part
@no_type_check
def _step(u, x, b, a, h0, y, after, overflow, channels, groups, n, W, first, last):
    """Put w = u - a . x, y = h0 u + b . x, after = (w, x_1, ..., x_(n-1)); u (B, D), x (B, D, n), a (G, n).

    A job is one channel of one row.
    """
    members = channels // groups
    whole = n // W * W
    for job in range(first, last):
        d = job % channels
        at, at_b, at_a = job * n, d * n, d // members * n
        back, out = splat(u.dtype.type(0)), splat(u.dtype.type(0))
        # The state moves up by one; its last entry goes where the next channel's first one will, and is not written.
        for i in range(0, whole, W):
            value = load(x, at + i)
            back, out = back + load(a, at_a + i) * value, out + load(b, at_b + i) * value
            if i + W < n:
                store(after, at + i + 1, value)
            else:
                store_part(after, at + i + 1, value, W - 1)
        if whole < n:
            rest = n - whole
            value = load_part(x, at + whole, rest)
            back = back + load_part(a, at_a + whole, rest) * value
            out = out + load_part(b, at_b + whole, rest) * value
            store_part(after, at + whole + 1, value, rest - 1)
        w = u[job] - total(back)
        y[job] = h0[d] * u[job] + total(out)
        if n:
            after[at] = w
        if not np.isfinite(w):
            overflow[0] = 1


@part
@no_type_check
def _ring_step(u, x, b, a, h0, y, overflow, channels, groups, n, capacity, head, W, first, last):
    """The same where the states are entries head..head+n-1 of rows of x (B, D, capacity): w goes before them."""
    members = channels // groups
    whole = n // W * W
    for job in range(first, last):
        d = job % channels
        at, at_b, at_a = job * capacity + head, d * n, d // members * n
        back, out = splat(u.dtype.type(0)), splat(u.dtype.type(0))
        for i in range(0, whole, W):
            value = load(x, at + i)
            back, out = back + load(a, at_a + i) * value, out + load(b, at_b + i) * value
        if whole < n:
            value = load_part(x, at + whole, n - whole)
            back = back + load_part(a, at_a + whole, n - whole) * value
            out = out + load_part(b, at_b + whole, n - whole) * value
        w = u[job] - total(back)
        y[job] = h0[d] * u[job] + total(out)
        x[at - 1] = w
        if not np.isfinite(w):
            overflow[0] = 1


def ring_step_entry(kind: type) -> Any:
    """``_ring_step`` as C threads enter it.

    Args:
        kind: float32 or float64, of everything.
    """

    @no_type_check
    def run(block):
        p = carray(block, (64,))[HEAD:]
        first, last, _ = share(carray(block, (HEAD,)))
        u, x, b, a = array(p[0], 1, kind), array(p[1], 1, kind), array(p[2], 1, kind), array(p[3], 1, kind)
        h0, y, overflow = array(p[4], 1, kind), array(p[5], 1, kind), array(p[6], 1, np.int64)
        _ring_step(u, x, b, a, h0, y, overflow, p[7], p[8], p[9], p[10], p[11], p[12], first, last)

    return entry(run)


def step_entry(kind: type) -> Any:
    """``_step`` as C threads enter it.

    Args:
        kind: float32 or float64, of everything.
    """

    @no_type_check
    def run(block):
        p = carray(block, (64,))[HEAD:]
        first, last, _ = share(carray(block, (HEAD,)))
        u, x, b, a = array(p[0], 1, kind), array(p[1], 1, kind), array(p[2], 1, kind), array(p[3], 1, kind)
        h0, y, after = array(p[4], 1, kind), array(p[5], 1, kind), array(p[6], 1, kind)
        _step(u, x, b, a, h0, y, after, array(p[7], 1, np.int64), p[8], p[9], p[10], p[11], first, last)

    return entry(run)
