"""Convolution of signals with one kernel a channel, and its backward pass, as Numba loops. Imported on first use.

A job takes the ``W`` lanes of a tile: ``W`` channels of one batch row after the other or, of few channels, several rows
at once. Signals come as their storage with the strides of batch, time and channel, so that every layout is read as
it lies. Whatever touches a transform does so a few columns or one group at a time, while these are in the nearest
cache.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from transferfn.kernels._compile import clear, inline, native, part
from transferfn.kernels._fft import far_down, far_up, near_down, near_up, transform, transform_back
from transferfn.kernels._simd import load, splat, spread, store, width
from transferfn.kernels._tiles import read, write

BLOCK = 16  # taps for which a tile is read channel by channel

# A tile is (first row of the batch, rows side by side, first channel, channels).


@inline
@no_type_check
def put(z, to, value, weights, t):
    """Write a sample of every lane, weighted."""
    store(z, to, value * spread(weights, 2 * t)), store(z, to + width(z), value * spread(weights, 2 * t + 1))


@inline
@no_type_check
def real_part(z, at, weights, t):
    """The real part of a row without its weight."""
    return load(z, at) * spread(weights, 2 * t) + load(z, at + width(z)) * spread(weights, 2 * t + 1)


@inline
@no_type_check
def _imaginary(z, at, weights, t):
    return load(z, at) * spread(weights, 2 * t + 1) - load(z, at + width(z)) * spread(weights, 2 * t)


@part
@no_type_check
def read_samples(x, strides, tile, length, column, columns, weights, z, layout, block):
    """Weighted samples of a tile into a few columns, zero past ``length``."""
    groups, near, pitch, _, _ = layout
    row, _, c0, channels = tile
    W = width(z)
    batch_step, step, lane_step = strides
    base = row * batch_step + c0 * lane_step
    zero = splat(z.dtype.type(0))
    whole = lane_step == 1 and channels == W
    if not whole:
        clear(block, 0, BLOCK, W)
    for g in range(groups):
        t0 = g * near + column
        to = 2 * W * (g * pitch + column)
        count = max(min(columns, length - t0), 0)
        for i in range(to + 2 * W * count, to + 2 * W * columns, W):
            store(z, i, zero)
        if whole:
            for j in range(count):
                put(z, to + 2 * W * j, load(x, base + (t0 + j) * step), weights, t0 + j)
            continue
        for j0 in range(0, count, BLOCK):
            some = min(BLOCK, count - j0)
            read(x, (*strides, 0), tile, t0 + j0, some, block, 0, W)
            for j in range(some):
                put(z, to + 2 * W * (j0 + j), load(block, j * W), weights, t0 + j0 + j)


@part
@no_type_check
def _write(y, strides, tile, length, column, columns, weights, z, layout, block):
    """The real parts of a few columns, their weights taken off, as samples of a tile."""
    groups, near, pitch, _, _ = layout
    row, _, c0, channels = tile
    W = width(z)
    batch_step, step, lane_step = strides
    base = row * batch_step + c0 * lane_step
    scale = splat(z.dtype.type(1 / (groups * near)))
    whole = lane_step == 1 and channels == W
    for g in range(groups):
        t0 = g * near + column
        to = 2 * W * (g * pitch + column)
        count = max(min(columns, length - t0), 0)
        if whole:
            for j in range(count):
                store(y, base + (t0 + j) * step, scale * real_part(z, to + 2 * W * j, weights, t0 + j))
            continue
        for j0 in range(0, count, BLOCK):
            some = min(BLOCK, count - j0)
            for j in range(some):
                store(block, j * W, scale * real_part(z, to + 2 * W * (j0 + j), weights, t0 + j0 + j))
            write(y, (*strides, 0), tile, t0 + j0, some, block, 0, W)


@part
@no_type_check
def read_kernel(k, ahead, tile, length, weights, z, layout, block):
    """Weighted taps of a tile's channels: those ahead are imaginary, from the end backwards."""
    groups, near, pitch, _, _ = layout
    _, rows, c0, channels = tile
    W = width(z)
    points = groups * near
    causal, further = min(k.shape[1], length), min(ahead.shape[1], length - 1)
    clear(z, 0, 2 * groups * pitch, W), clear(block, 0, BLOCK, W)
    for begin in range(0, points, near):
        end = begin + near
        row = begin // near * (pitch - near)
        for t0 in range(begin, min(end, causal), BLOCK):
            some = min(BLOCK, end - t0, causal - t0)
            for c in range(channels):
                for j in range(some):
                    block[j * W + c] = k[c0 + c, t0 + j]
            _repeat(block, channels, rows, W)
            for t in range(t0, t0 + some):
                put(z, 2 * W * (row + t), load(block, (t - t0) * W), weights, t)
        for t0 in range(max(begin, points - further), end, BLOCK):
            some = min(BLOCK, end - t0)
            for c in range(channels):
                for j in range(some):
                    block[j * W + c] = ahead[c0 + c, points - 1 - t0 - j]
            _repeat(block, channels, rows, W)
            for t in range(t0, t0 + some):
                at, tap = 2 * W * (row + t), load(block, (t - t0) * W)
                store(z, at, load(z, at) + tap * spread(weights, 2 * t + 1))
                store(z, at + W, load(z, at + W) - tap * spread(weights, 2 * t))


@part
@no_type_check
def _repeat(block, channels, rows, W):
    """The taps of the channels again for every further row beside them."""
    if rows > 1:
        for begin in range(0, BLOCK * W, W):
            for lane in range(begin + channels, begin + rows * channels):
                block[lane] = block[lane - channels]


@part
@no_type_check
def write_kernel(k, ahead, tile, length, weights, z, layout, block):
    """Gradients of a tile's taps, summed over the rows it holds side by side."""
    groups, near, pitch, _, _ = layout
    _, rows, c0, channels = tile
    W = width(z)
    points = groups * near
    causal, further = min(k.shape[1], length), min(ahead.shape[1], length - 1)
    scale = splat(z.dtype.type(1 / points))
    for begin in range(0, points, near):
        end = begin + near
        row = begin // near * (pitch - near)
        for t0 in range(begin, min(end, causal), BLOCK):
            some = min(BLOCK, end - t0, causal - t0)
            for t in range(t0, t0 + some):
                store(block, (t - t0) * W, scale * real_part(z, 2 * W * (row + t), weights, t))
            _sum(block, channels, rows, W)
            for c in range(channels):
                for j in range(some):
                    k[c0 + c, t0 + j] = block[j * W + c]
        for t0 in range(max(begin, points - further), end, BLOCK):
            some = min(BLOCK, end - t0)
            for t in range(t0, t0 + some):
                store(block, (t - t0) * W, scale * _imaginary(z, 2 * W * (row + t), weights, t))
            _sum(block, channels, rows, W)
            for c in range(channels):
                for j in range(some):
                    ahead[c0 + c, points - 1 - t0 - j] = block[j * W + c]


@part
@no_type_check
def _sum(block, channels, rows, W):
    """Add what belongs to the same channel in further rows to the first."""
    for begin in range(0, BLOCK * W, W):
        for lane in range(begin + rows * channels - 1, begin + channels - 1, -1):
            block[lane - channels] += block[lane]


@part
@no_type_check
def _multiply(x, k, begin, end):
    """X <- x k, of rows begin..end."""
    W = width(x)
    for i in range(2 * W * begin, 2 * W * end, 2 * W):
        ar, ai, br, bi = load(x, i), load(x, i + W), load(k, i), load(k, i + W)
        store(x, i, ar * br - ai * bi), store(x, i + W, ar * bi + ai * br)


@part
@no_type_check
def _correlate(s, g, u, k, begin, end):
    """S <- s + g conj(u) and g <- g conj(k), of rows begin..end."""
    W = width(s)
    for i in range(2 * W * begin, 2 * W * end, 2 * W):
        gr, gi, ur, ui, kr, ki = load(g, i), load(g, i + W), load(u, i), load(u, i + W), load(k, i), load(k, i + W)
        store(s, i, load(s, i) + gr * ur + gi * ui), store(s, i + W, load(s, i + W) + gi * ur - gr * ui)
        store(g, i, gr * kr + gi * ki), store(g, i + W, gi * kr - gr * ki)


@part
@no_type_check
def _correlate_once(u, g, k, begin, end):
    """U <- g conj(u) and g <- g conj(k), of rows begin..end."""
    W = width(u)
    for i in range(2 * W * begin, 2 * W * end, 2 * W):
        gr, gi, ur, ui, kr, ki = load(g, i), load(g, i + W), load(u, i), load(u, i + W), load(k, i), load(k, i + W)
        store(u, i, gr * ur + gi * ui), store(u, i + W, gi * ur - gr * ui)
        store(g, i, gr * kr + gi * ki), store(g, i + W, gi * kr - gr * ki)


@part
@no_type_check
def far_read(x, strides, tile, length, z, plan, block):
    """Weighted samples of a tile, and the far passes of their transform."""
    weights, table, layout = plan
    _, near, _, columns, _ = layout
    for column in range(0, near, columns):
        some = min(columns, near - column)
        read_samples(x, strides, tile, length, column, some, weights, z, layout, block)
        far_down(z, column, some, table)


@part
@no_type_check
def far_write(y, strides, tile, length, z, plan, block):
    """The far passes of an inverse transform, and the samples that it consists of."""
    weights, table, layout = plan
    _, near, _, columns, _ = layout
    for column in range(0, near, columns):
        some = min(columns, near - column)
        far_up(z, column, some, table)
        _write(y, strides, tile, length, column, some, weights, z, layout, block)


@part
@no_type_check
def filter_rows(u, u_strides, y, y_strides, tile, end, length, z, k, plan, block):
    """Convolve the rows of a tile with the kernels whose spectrum is k."""
    _, table, layout = plan
    groups, near, pitch, _, _ = layout
    row, rows, c0, channels = tile
    while row < end:
        some = row, min(rows, end - row), c0, channels
        far_read(u, u_strides, some, length, z, plan, block)
        for g in range(groups):
            near_down(z, g, table)
            _multiply(z, k, g * pitch, g * pitch + near)
            near_up(z, g, table)
        far_write(y, y_strides, some, length, z, plan, block)
        row += rows


@part
@no_type_check
def correlate_rows(gy, gy_strides, u, u_strides, gu, gu_strides, tile, end, length, z, x, k, s, plan, block, once):
    """The adjoint of ``filter_rows`` in u, and in s the spectrum of the gradient of its kernels.

    ``once`` says that rows fit side by side, and then the spectrum of the gradient takes the place of that of u, in x.
    """
    _, table, layout = plan
    groups, near, pitch, _, _ = layout
    row, rows, c0, channels = tile
    if not once:
        clear(s, 0, 2 * groups * pitch, width(s))
    while row < end:
        some = row, min(rows, end - row), c0, channels
        far_read(gy, gy_strides, some, length, z, plan, block)
        far_read(u, u_strides, some, length, x, plan, block)
        for g in range(groups):
            near_down(z, g, table)
            near_down(x, g, table)
            if once:
                _correlate_once(x, z, k, g * pitch, g * pitch + near)
            else:
                _correlate(s, z, x, k, g * pitch, g * pitch + near)
            near_up(z, g, table)
        far_write(gu, gu_strides, some, length, z, plan, block)
        row += rows


@part
@no_type_check
def tile_of(job, parts, batch, channels, W):
    """A job's tile, and where its rows end."""
    rows = max(W // channels, 1)
    c0 = job // parts * W
    groups = (batch + rows - 1) // rows
    part = job % parts
    tile = groups * part // parts * rows, rows, c0, min(W, channels - c0)
    return tile, min(groups * (part + 1) // parts * rows, batch)


@native
@no_type_check
def convolve(u, u_strides, k, ahead, y, y_strides, sizes, plan, work, first, last):
    """y_t = sum_s k_s u_(t-s) + sum_s ahead_s u_(t+1+s)."""
    batch, length, channels, parts = sizes
    weights, table, layout = plan
    size = work.size // 2
    z, spectrum = work[:size], work[size:]
    block = np.empty(BLOCK * width(work), work.dtype)
    for job in range(first, last):
        tile, end = tile_of(job, parts, batch, channels, width(work))
        read_kernel(k, ahead, tile, length, weights, spectrum, layout, block)
        transform(spectrum, table)
        filter_rows(u, u_strides, y, y_strides, tile, end, length, z, spectrum, plan, block)


@native
@no_type_check
def backward(gy, gy_strides, u, u_strides, k, ahead, gu, gu_strides, gk, ga, sizes, plan, work, first, last):
    """The adjoint of ``convolve`` in u, and of its kernels: gu, and for each part of the batch gk and ga."""
    batch, length, channels, parts = sizes
    weights, table, layout = plan
    size = work.size // 4
    z, x, spectrum, s = work[:size], work[size : 2 * size], work[2 * size : 3 * size], work[3 * size :]
    block = np.empty(BLOCK * width(work), work.dtype)
    for job in range(first, last):
        tile, end = tile_of(job, parts, batch, channels, width(work))
        read_kernel(k, ahead, tile, length, weights, spectrum, layout, block)
        transform(spectrum, table)
        correlate_rows(
            gy, gy_strides, u, u_strides, gu, gu_strides, tile, end, length, z, x, spectrum, s, plan, block, False
        )
        transform_back(s, table)
        part = job % parts
        write_kernel(gk[part], ga[part], tile, length, weights, s, layout, block)
