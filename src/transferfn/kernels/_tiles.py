"""Tiles of signals: W lanes that are channels of one batch row or, of few channels, of several rows side by side.

Signals are their storage with the strides of batch, time and channel and the place of their first sample, so that every
layout is read as it lies, also backwards in time.
"""

from __future__ import annotations

from typing import no_type_check

from transferfn.kernels._compile import part
from transferfn.kernels._simd import load, load_part, store, store_part


@part
@no_type_check
def directed(layout, end, reverse):
    """The layout of a row of ``end`` samples, the last one first if ``reverse``."""
    batch_step, step, lane_step = layout
    if reverse:
        return batch_step, -step, lane_step, max(end - 1, 0) * step
    return batch_step, step, lane_step, 0


@part
@no_type_check
def is_cut(resets, row, length, end, t, reverse):
    """Whether what comes before step t is forgotten: backwards in time, a reset cuts before the sample ahead of it."""
    if reverse:
        return t > 0 and resets[row * length + end - t]
    return resets[row * length + t]


@part
@no_type_check
def read(x, layout, tile, time, count, to, at, W):
    """Samples time, time + 1, ... of a tile into rows at, at + 1, ... of ``to``; lanes of no channel hold anything."""
    row, rows, c0, width = tile
    batch_step, step, lane_step, origin = layout
    base = origin + row * batch_step + time * step + c0 * lane_step
    if lane_step == 1 and width == W:
        for t in range(count):
            store(to, (at + t) * W, load(x, base + t * step))
        return
    for i in range(rows):
        source, lane = base + i * batch_step, at * W + i * width
        if lane_step == 1:
            for t in range(count):
                store_part(to, lane + t * W, load_part(x, source + t * step, width), width)
        else:
            for c in range(width):
                for t in range(count):
                    to[lane + t * W + c] = x[source + t * step + c * lane_step]


@part
@no_type_check
def write(x, layout, tile, time, count, source, at, W):
    """Rows at, at + 1, ... of ``source`` to samples time, time + 1, ... of a tile."""
    row, rows, c0, width = tile
    batch_step, step, lane_step, origin = layout
    base = origin + row * batch_step + time * step + c0 * lane_step
    if lane_step == 1 and width == W:
        for t in range(count):
            store(x, base + t * step, load(source, (at + t) * W))
        return
    for i in range(rows):
        to, lane = base + i * batch_step, at * W + i * width
        if lane_step == 1:
            for t in range(count):
                store_part(x, to + t * step, load_part(source, lane + t * W, width), width)
        else:
            for c in range(width):
                for t in range(count):
                    x[to + t * step + c * lane_step] = source[lane + t * W + c]


@part
@no_type_check
def read_lags(x, lags, channels, tile, to, newest, way, W):
    """Entries 0, 1, ... of a tile of ``x`` (B, D, lags) into rows newest, newest + way, ... of ``to``."""
    row, rows, c0, width = tile
    for i in range(rows):
        for c in range(width):
            source = ((row + i) * channels + c0 + c) * lags
            for lag in range(lags):
                to[(newest + way * lag) * W + i * width + c] = x[source + lag]


@part
@no_type_check
def read_lag(x, lags, channels, tile, lag, to, at, W):
    """One entry of a tile of ``x`` (B, D, lags) into row ``at`` of ``to``."""
    row, rows, c0, width = tile
    for i in range(rows):
        for c in range(width):
            to[at * W + i * width + c] = x[((row + i) * channels + c0 + c) * lags + lag]


@part
@no_type_check
def write_lags(x, lags, channels, tile, source, newest, way, W):
    """Rows newest, newest + way, ... of ``source`` to entries 0, 1, ... of a tile of ``x`` (B, D, lags)."""
    row, rows, c0, width = tile
    for i in range(rows):
        for c in range(width):
            to = ((row + i) * channels + c0 + c) * lags
            for lag in range(lags):
                x[to + lag] = source[(newest + way * lag) * W + i * width + c]


@part
@no_type_check
def move(x, at, to, count, W):
    """Move rows, overlapping or not."""
    if to < at:
        for r in range(count):
            store(x, (to + r) * W, load(x, (at + r) * W))
    else:
        for r in range(count - 1, -1, -1):
            store(x, (to + r) * W, load(x, (at + r) * W))


@part
@no_type_check
def clear_signal(x, layout, tile, time, end):
    """Zeros from ``time`` to ``end``; here the layout is that of time as it goes."""
    row, rows, c0, width = tile
    batch_step, step, lane_step = layout
    for i in range(rows):
        for t in range(time, end):
            for c in range(width):
                x[(row + i) * batch_step + t * step + (c0 + c) * lane_step] = 0
