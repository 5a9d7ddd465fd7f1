"""Filters one after the other in transposed direct form II, as a Numba loop. Imported on first use.

A job takes two registers of channels through all sections, a piece of the signal at a time, which stays in the nearest
cache: memory is read once and written once, whatever the layout. Arithmetic is in float64 in either type of signal. A
sample waits for the one before it for two multiply-adds; two registers are what fills the time.
"""

from __future__ import annotations

from typing import Any, no_type_check

import numpy as np
from numba.np.numpy_support import carray

from transferfn.kernels._compile import clear, once, part
from transferfn.kernels._entry import HEAD, array, entry, share
from transferfn.kernels._simd import load, store

PIECE = 128  # samples


@part
@no_type_check
def _biquad(signal, c, s, size, W):
    """A section of order 2 over rows of two registers; c holds b0, b1, b2, a1, a2, and s the two states."""
    R = 2 * W
    b0, b1, b2, a1, a2 = load(c, 0), load(c, R), load(c, 2 * R), load(c, 3 * R), load(c, 4 * R)
    d0, d1, d2, e1, e2 = load(c, W), load(c, R + W), load(c, 2 * R + W), load(c, 3 * R + W), load(c, 4 * R + W)
    s1, s2, r1, r2 = load(s, 0), load(s, R), load(s, W), load(s, R + W)
    for i in range(0, size * R, R):
        x, u = load(signal, i), load(signal, i + W)
        y, v = b0 * x + s1, d0 * u + r1
        s1, r1 = (b1 * x + s2) - a1 * y, (d1 * u + r2) - e1 * v
        s2, r2 = b2 * x - a2 * y, d2 * u - e2 * v
        store(signal, i, y), store(signal, i + W, v)
    store(s, 0, s1), store(s, R, s2), store(s, W, r1), store(s, R + W, r2)


@part
@no_type_check
def _section(signal, c, s, order, size, width, W):
    """A section of any order, at least 1; c holds b_0..b_n, a_1..a_n."""
    R = 2 * W
    for i in range(0, size * R, R):
        for h in range(0, width, W):
            x = load(signal, i + h)
            y = load(c, h) * x + load(s, h)
            for k in range(1, order):
                at = k * R + h
                store(s, at - R, (load(c, at) * x + load(s, at)) - load(c, at + order * R) * y)
            at = order * R + h
            store(s, at - R, load(c, at) * x - load(c, at + order * R) * y)
            store(signal, i + h, y)


@once
@no_type_check
def _cascade(x, x_layout, y, y_layout, c, zi, zf, sections, order, length, channels, work, W, first, last):
    """Filter (D, L); c (sections, D, 2 n + 1), states zi and zf (sections, D, n), of which zi may be empty."""
    R, terms = 2 * W, 2 * order + 1
    signal, own = work, work[PIECE * R :]
    states = own[sections * terms * R :]
    for job in range(first, last):
        c0 = job * R
        width = min(R, channels - c0)
        if width < R or not zi.size:
            clear(work, 0, PIECE + sections * (terms + order), R)
        for k in range(sections):
            for lane in range(width):
                at = k * channels + c0 + lane
                for i in range(terms):
                    own[(k * terms + i) * R + lane] = c[at * terms + i]
                if zi.size:
                    for i in range(order):
                        states[(k * order + i) * R + lane] = zi[at * order + i]
        for t in range(0, length, PIECE):
            size = min(PIECE, length - t)
            _move(x, x_layout, c0, width, t, size, signal, R, True)
            for k in range(sections):
                if order == 2:
                    _biquad(signal, own[k * terms * R :], states[k * order * R :], size, W)
                else:
                    _section(signal, own[k * terms * R :], states[k * order * R :], order, size, width, W)
            _move(y, y_layout, c0, width, t, size, signal, R, False)
        for k in range(sections):
            for lane in range(width):
                for i in range(order):
                    zf[(k * channels + c0 + lane) * order + i] = states[(k * order + i) * R + lane]


@part
@no_type_check
def _move(x, layout, c0, width, time, size, signal, R, inwards):
    """Samples time, time + 1, ... of some channels to rows of the signal, or back."""
    lane_step, step = layout
    base = c0 * lane_step + time * step
    outer, outer_step, outer_row, inner, inner_step, inner_row = width, lane_step, 1, size, step, R
    if lane_step < step:  # neighbours in memory one after the other
        outer, outer_step, outer_row, inner, inner_step, inner_row = size, step, R, width, lane_step, 1
    for i in range(outer):
        for j in range(inner):
            at, row = base + i * outer_step + j * inner_step, i * outer_row + j * inner_row
            if inwards:
                signal[row] = x[at]
            else:
                x[at] = signal[row]


def rows_of_work(sections: int, order: int) -> int:
    """How many rows of two registers a thread works in.

    Args:
        sections: Number of sections.
        order: Order of each.
    """
    return PIECE + sections * (3 * order + 1)


def cascade_entry(kind: type) -> Any:
    """``_cascade`` as C threads enter it.

    Args:
        kind: float32 or float64, of the signals.
    """

    @no_type_check
    def run(block):
        p = carray(block, (64,))[HEAD:]
        first, last, thread = share(carray(block, (HEAD,)))
        sections, order, length, channels = p[0], p[1], p[2], p[3]
        count = sections * channels * order
        _cascade(
            array(p[4], 1, kind), (p[5], p[6]), array(p[7], 1, kind), (p[8], p[9]),
            array(p[10], 1, np.float64), array(p[11], count, np.float64), array(p[12], 1, np.float64),
            sections, order, length, channels, array(p[13] + thread * p[14] * 8, p[14], np.float64), p[15],
            first, last,
        )  # fmt: skip

    return entry(run)
