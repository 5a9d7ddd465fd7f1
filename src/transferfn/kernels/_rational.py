"""Filtering with rational transfer functions, from coefficients to output, as Numba loops. Imported on first use.

A job samples the kernels of its tile of channels in float64, puts their first taps into the transform by which it
convolves all its rows, and forgets them; backwards it samples them anew. Its work space is a few transforms: no kernel
ever lies in memory as a whole.

Coefficients have an axis of banks in front: the causal one and, if there are two, the one that looks ahead.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from transferfn.kernels._aliased import far_kernels, kernel_gradients, unit_of
from transferfn.kernels._compile import clear, inline, native, part
from transferfn.kernels._convolve import BLOCK, correlate_rows, filter_rows, tile_of
from transferfn.kernels._fft import far_down, far_up, transform, transform_back
from transferfn.kernels._simd import halves, join, load, load_part, splat, spread, store, where_less, width


@part
@no_type_check
def _put_taps(x, units, h0, k, ahead, tile, length, growing, peaks, plan, signal_plan, block):
    """Finish kernels that lack the far passes, and add their weighted taps to k; those ahead are imaginary.

    ``peaks`` (2, D), if it has any, gets the largest tap, and the largest of those that are not put.
    """
    _, factors, passes, (_, near, pitch, columns, _) = plan
    weights, _, _, (_, signal_near, signal_pitch, _, _) = signal_plan
    _, rows, c0, channels = tile
    W = width(k)
    groups, signal_groups = plan[3][0], signal_plan[3][0]
    lanes = width(x)
    period, points = groups * near, signal_groups * signal_near
    taps = length - 1 if ahead else length
    constant = np.zeros(2 * lanes, x.dtype)
    zero = splat(x.dtype.type(0))
    low_peak, high_peak, low_later, high_later = zero, zero, zero, zero
    for c in range(2 * lanes):
        units[c] /= period
    for c in range(channels):
        constant[c] = h0[c0 + c]
    for column in range(0, near, columns):
        some = min(columns, near - column)
        far_up(x, column, some, factors, passes, plan[3])
        for g in range(groups):
            t0 = g * near + column
            for t in range(t0, min(t0 + some, taps)):
                at = 2 * lanes * (g * pitch + t - g * near)
                growth = spread(growing, t)
                low = load(x, at) * load(units, 0) * growth
                high = load(x, at + lanes) * load(units, lanes) * growth
                if peaks.size:
                    low_peak, high_peak = _larger(low_peak, low, zero), _larger(high_peak, high, zero)
                if t == 0:
                    low, high = low + load(constant, 0), high + load(constant, lanes)
                tap = join(k, low, high)
                if rows > 1:  # in turns at several places, so that no tap waits for the one before it
                    slot = t % BLOCK * W
                    for c in range(slot, slot + rows * channels, channels):
                        store(block, c, tap)
                    tap = load(block, slot)
                place = points - 1 - t if ahead else t
                to = 2 * W * (place // signal_near * signal_pitch + place % signal_near)
                re, im = spread(weights, 2 * place), spread(weights, 2 * place + 1)
                if ahead:
                    store(k, to, load(k, to) + tap * im), store(k, to + W, load(k, to + W) - tap * re)
                else:
                    store(k, to, tap * re), store(k, to + W, tap * im)
            if peaks.size:
                for t in range(max(t0, taps), t0 + some):
                    at = 2 * lanes * (g * pitch + t - g * near)
                    growth = spread(growing, t)
                    low_later = _larger(low_later, load(x, at) * load(units, 0) * growth, zero)
                    high_later = _larger(high_later, load(x, at + lanes) * load(units, lanes) * growth, zero)
    if peaks.size:
        store(constant, 0, low_peak), store(constant, lanes, high_peak)
        for c in range(channels):
            peaks[0, c0 + c] = max(constant[c], abs(h0[c0 + c]))
        store(constant, 0, low_later), store(constant, lanes, high_later)
        for c in range(channels):
            peaks[1, c0 + c] = constant[c]


@inline
@no_type_check
def _larger(most, value, zero):
    """The larger one of a register and the absolute value of another."""
    value = where_less(value, zero, zero - value, value)
    return where_less(most, value, value, most)


@part
@no_type_check
def _spectrum(b, a, h0, tile, length, growing, peaks, x, y, k, floors, units, plan, partners, signal_plan, block):
    """The spectrum of a tile's kernels. With one bank, k may be y."""
    _, factors, passes, layout = signal_plan
    for bank in range(len(b)):
        far_kernels(b[bank], a[bank], tile[2], tile[3], x, y, floors, units, plan, partners)
        if bank == 0:
            clear(k, 0, k.size // width(k), width(k))
        _put_taps(x, units, h0[bank], k, bank == 1, tile, length, growing, peaks[bank], plan, signal_plan, block)
    transform(k, factors, passes, layout)


@inline
@no_type_check
def _gradient_of_tap(s, t, ahead, weights, points, near, pitch):
    W = width(s)
    place = points - 1 - t if ahead else t
    at = 2 * W * (place // near * pitch + place % near)
    re, im = load(s, at), load(s, at + W)
    wr, wi = spread(weights, 2 * place), spread(weights, 2 * place + 1)
    return re * wi - im * wr if ahead else re * wr + im * wi


@part
@no_type_check
def _take_gradients(s, ahead, tile, length, growing, z, sizes, gh0, plan, signal_plan, block):
    """Gradients of a tile's taps, summed over rows side by side and over their sizes, and the far passes of them."""
    _, factors, passes, layout = plan
    weights, _, _, (signal_groups, signal_near, signal_pitch, _, _) = signal_plan
    groups, near, pitch, columns, _ = layout
    _, rows, c0, channels = tile
    lanes = width(z)
    points = signal_groups * signal_near
    taps = length - 1 if ahead else length
    scale = splat(s.dtype.type(1 / points))
    zero, nought = splat(z.dtype.type(0)), splat(s.dtype.type(0))
    most = nought
    for t in range(taps):
        value = _gradient_of_tap(s, t, ahead, weights, points, signal_near, signal_pitch)
        most = where_less(most, value, value, where_less(most, nought - value, nought - value, most))
    store(block, 0, scale * most)
    inverse = np.zeros(2 * lanes, z.dtype)
    for c in range(channels):
        largest = 0.0
        for i in range(c, rows * channels, channels):
            largest = max(largest, block[i])
        sizes[c] = unit_of(largest, np.finfo(z.dtype).tiny)
        inverse[c] = 1 / sizes[c] if sizes[c] != 0 else 0.0
    for column in range(0, near, columns):
        some = min(columns, near - column)
        for g in range(groups):
            t0 = g * near + column
            end = max(min(t0 + some, taps), t0)
            at = 2 * lanes * (g * pitch + column)
            for i in range(at + 2 * lanes * (end - t0), at + 2 * lanes * some, lanes):
                store(z, i, zero)
            for t in range(t0, end):
                value = scale * _gradient_of_tap(s, t, ahead, weights, points, signal_near, signal_pitch)
                if rows > 1:
                    slot = t % BLOCK * width(s)
                    store(block, slot, value)
                    value = nought
                    for c in range(slot, slot + rows * channels, channels):
                        value = value + load_part(block, c, channels)
                low, high = halves(value)
                growth = spread(growing, t)
                low, high = low * growth, high * growth
                to = at + 2 * lanes * (t - t0)
                store(z, to, low * load(inverse, 0)), store(z, to + lanes, high * load(inverse, lanes))
                if t == 0:
                    store(block, 0, value)
                    for c in range(channels):
                        gh0[c0 + c] = block[c]
        far_down(z, column, some, factors, passes, layout)


@native
@no_type_check
def convolve(u, u_strides, b, a, h0, growing, peaks, y, y_strides, sizes, plans, work, first, last):
    """Filter a signal by h0 + b/a, sampled at the roots of unity, and by what looks ahead."""
    batch, length, channels, parts, buffers = sizes
    plan, partners, signal_plan = plans
    size = work.size // buffers
    lanes = width(work)
    x, y64, k = work[:size], work[size : 2 * size], work[(buffers - 1) * size :].view(u.dtype)
    z = x.view(u.dtype)
    W = width(k)
    floors, units = np.zeros(4 * lanes, work.dtype), np.ones(2 * lanes, work.dtype)
    block = np.empty((BLOCK + 1) * W, u.dtype)
    for job in range(first, last):
        tile, end = tile_of(job, parts, batch, channels, W)
        _spectrum(b, a, h0, tile, length, growing, peaks, x, y64, k, floors, units, plan, partners, signal_plan, block)
        filter_rows(u, u_strides, y, y_strides, tile, end, length, z, k, signal_plan, block)


@native
@no_type_check
def backward(
    gy, gy_strides, u, u_strides, b, a, h0, growing, peaks, gu, gu_strides, gb, ga, gh0, sizes, plans, work, first, last
):  # fmt: skip
    """The adjoint of ``convolve`` in u, and for each part of the batch gradients of b, a (of each channel) and h0."""
    batch, length, channels, parts, buffers = sizes
    plan, partners, signal_plan = plans
    _, factors, passes, layout = signal_plan
    lanes = width(work)
    size = work.size // buffers
    w0, w1, w2, w3 = work[:size], work[size : 2 * size], work[2 * size : 3 * size], work[(buffers - 1) * size :]
    single = len(b) == 1
    z, s = w0.view(u.dtype), w3.view(u.dtype)  # with three buffers, where every job has one row, s is x
    k, x = (w1 if single else w2).view(u.dtype), (w2 if single else w1).view(u.dtype)
    W = width(z)
    floors, units, scales = (
        np.zeros(4 * lanes, work.dtype),
        np.ones(2 * lanes, work.dtype),
        np.ones(2 * lanes, work.dtype),
    )
    block = np.empty((BLOCK + 1) * W, u.dtype)
    for job in range(first, last):
        tile, end = tile_of(job, parts, batch, channels, W)
        part = job % parts
        _spectrum(b, a, h0, tile, length, growing, peaks, w0, w1, k, floors, units, plan, partners, signal_plan, block)
        correlate_rows(
            gy,
            gy_strides,
            u,
            u_strides,
            gu,
            gu_strides,
            tile,
            end,
            length,
            z,
            x,
            k,
            s,
            signal_plan,
            block,
            buffers == 3,
        )
        transform_back(s, factors, passes, layout)
        for bank in range(len(b)):
            _take_gradients(s, bank == 1, tile, length, growing, w0, scales, gh0[part, bank], plan, signal_plan, block)
            kernel_gradients(
                b[bank], a[bank], tile[2], tile[3], w0, w1, w2, gb[part, bank], ga[part, bank],
                floors, scales, units, plan, partners,
            )  # fmt: skip
