"""Filtering with rational transfer functions, from coefficients to output, as Numba loops. Imported on first use.

A job samples the kernels of its tile of channels in float64, puts their first taps into the transform by which it
convolves all its rows, and forgets them; backwards it samples them anew. Its work space is a few transforms: no kernel
ever lies in memory as a whole.

There are one or two banks of coefficients: the causal one, and the one that looks ahead.
"""

from __future__ import annotations

from typing import Any, no_type_check

import numpy as np
from numba.np.numpy_support import carray

from transferfn.kernels._aliased import far_kernels, kernel_gradients, unit_of
from transferfn.kernels._compile import clear, inline, once, part
from transferfn.kernels._convolve import BLOCK, correlate_rows, filter_rows, tile_of
from transferfn.kernels._entry import HEAD, array, entry, share, view
from transferfn.kernels._fft import far_down, far_up, transform, transform_back
from transferfn.kernels._simd import halves, join, load, load_part, splat, spread, store, where_less, width


@part
@no_type_check
def _put_taps(x, units, h0, at_h0, k, ahead, tile, length, growing, peaks, plan, signal_plan, small, block):
    """Finish kernels that lack the far passes, and add their weighted taps to k; those ahead are imaginary.

    ``growing`` is what taps are multiplied by, if there is any. Then ``peaks`` (D, 2) gets the largest tap, and the
    largest of those that are not put.
    """
    _, table, (_, near, pitch, columns, _) = plan
    weights, _, (_, signal_near, signal_pitch, _, _) = signal_plan
    _, rows, c0, channels = tile
    W = width(k)
    groups, signal_groups = plan[2][0], signal_plan[2][0]
    lanes = width(x)
    period, points = groups * near, signal_groups * signal_near
    taps = length - 1 if ahead else length
    constant = small[8 * lanes : 10 * lanes]
    constant[:] = 0
    zero = splat(x.dtype.type(0))
    low_peak, high_peak, low_later, high_later = zero, zero, zero, zero
    for c in range(2 * lanes):
        units[c] /= period
    for c in range(channels):
        constant[c] = _value(h0, at_h0 + c0 + c)
    for column in range(0, near, columns):
        some = min(columns, near - column)
        far_up(x, column, some, table)
        for g in range(groups):
            t0 = g * near + column
            for t in range(t0, min(t0 + some, taps)):
                at = 2 * lanes * (g * pitch + t - g * near)
                low, high = load(x, at) * load(units, 0), load(x, at + lanes) * load(units, lanes)
                if growing.size:
                    growth = spread(growing, t)
                    low, high = low * growth, high * growth
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
            if growing.size:
                for t in range(max(t0, taps), t0 + some):
                    at = 2 * lanes * (g * pitch + t - g * near)
                    growth = spread(growing, t)
                    low_later = _larger(low_later, load(x, at) * load(units, 0) * growth, zero)
                    high_later = _larger(high_later, load(x, at + lanes) * load(units, lanes) * growth, zero)
    if peaks.size:
        store(constant, 0, low_peak), store(constant, lanes, high_peak)
        for c in range(channels):
            peaks[2 * (c0 + c)] = max(constant[c], abs(_value(h0, at_h0 + c0 + c)))
        store(constant, 0, low_later), store(constant, lanes, high_later)
        for c in range(channels):
            peaks[2 * (c0 + c) + 1] = constant[c]


@inline
@no_type_check
def _value(of, i):
    narrow, wide = of
    return wide[i] if wide.size else np.float64(narrow[i])


@inline
@no_type_check
def _larger(most, value, zero):
    """The larger one of a register and the absolute value of another."""
    value = where_less(value, zero, zero - value, value)
    return where_less(most, value, value, most)


@inline
@no_type_check
def _bank(banks, bank):
    """One of the banks, as :mod:`transferfn.kernels._aliased` takes it."""
    (b_narrow, b_wide), (a_narrow, a_wide), channels, groups, order, damping = banks
    of_b, of_a = bank * channels * order, bank * groups * order
    return (b_narrow[of_b:], b_wide[of_b:]), (a_narrow[of_a:], a_wide[of_a:]), channels, groups, order, damping


@once
@no_type_check
def _spectrum(count, banks, h0, tile, length, growing, peaks, x, y, k, plan, partners, signal_plan, small, block):
    """The spectrum of a tile's kernels. With one bank, k may be y."""
    table = signal_plan[1]
    channels, lanes = banks[2], width(x)
    floors, units = small[: 4 * lanes], small[4 * lanes : 6 * lanes]
    for bank in range(count):
        far_kernels(_bank(banks, bank), tile[2], tile[3], x, y, floors, units, plan, partners)
        if bank == 0:
            clear(k, 0, k.size // width(k), width(k))
        _put_taps(
            x, units, h0, bank * channels, k, bank == 1, tile, length, growing,
            peaks[2 * bank * channels :], plan, signal_plan, small, block,
        )  # fmt: skip
    transform(k, table)


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
def _take_gradients(s, ahead, tile, length, growing, z, gh0, at_h0, plan, signal_plan, small, block):
    """Gradients of a tile's taps, summed over rows side by side and over their sizes, and the far passes of them."""
    _, table, layout = plan
    weights, _, (signal_groups, signal_near, signal_pitch, _, _) = signal_plan
    groups, near, pitch, columns, _ = layout
    _, rows, c0, channels = tile
    lanes = width(z)
    points, sizes = signal_groups * signal_near, small[6 * lanes : 8 * lanes]
    taps = length - 1 if ahead else length
    scale = splat(s.dtype.type(1 / points))
    zero, nought = splat(z.dtype.type(0)), splat(s.dtype.type(0))
    most = nought
    for t in range(taps):
        value = _gradient_of_tap(s, t, ahead, weights, points, signal_near, signal_pitch)
        most = where_less(most, value, value, where_less(most, nought - value, nought - value, most))
    store(block, 0, scale * most)
    inverse = small[8 * lanes : 10 * lanes]
    inverse[:] = 0
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
                if growing.size:
                    growth = spread(growing, t)
                    low, high = low * growth, high * growth
                to = at + 2 * lanes * (t - t0)
                store(z, to, low * load(inverse, 0)), store(z, to + lanes, high * load(inverse, lanes))
                if t == 0:
                    store(block, 0, value)
                    narrow, wide = gh0
                    for c in range(channels):
                        if wide.size:
                            wide[at_h0 + c0 + c] = block[c]
                        else:
                            narrow[at_h0 + c0 + c] = block[c]
        far_down(z, column, some, table)


@once
@no_type_check
def convolve(count, u, u_strides, banks, h0, growing, peaks, y, y_strides, sizes, plans, work, first, last):
    """Filter a signal by h0 + b/a, sampled at the roots of unity, and by what looks ahead."""
    batch, length, channels, parts, buffers, size = sizes
    plan, partners, signal_plan = plans
    x, y64, k = work[:size], work[size : 2 * size], view(work[(buffers - 1) * size : buffers * size], u)
    z = view(x, u)
    small, block = _small(work, buffers * size, u)
    for job in range(first, last):
        tile, end = tile_of(job, parts, batch, channels, width(k))
        _spectrum(count, banks, h0, tile, length, growing, peaks, x, y64, k, plan, partners, signal_plan, small, block)
        filter_rows(u, u_strides, y, y_strides, tile, end, length, z, k, signal_plan, block)


@once
@no_type_check
def backward(
    count, gy, gy_strides, u, u_strides, banks, h0, growing, gu, gu_strides, gb, ga, gh0, sizes, plans, work,
    first, last,
):  # fmt: skip
    """The adjoint of ``convolve`` in u, and for each part of the batch gradients of b, a (of each channel) and h0.

    Those have axes of parts, banks, channels and, of b and a, coefficients.
    """
    batch, length, channels, parts, buffers, size = sizes
    plan, partners, signal_plan = plans
    table = signal_plan[1]
    order, lanes = banks[4], width(work)
    w0, w1, w2 = work[:size], work[size : 2 * size], work[2 * size : 3 * size]
    single = count == 1
    z, s = view(w0, u), view(work[(buffers - 1) * size : buffers * size], u)  # with three buffers s is x
    k, x = view(w1 if single else w2, u), view(w2 if single else w1, u)
    small, block = _small(work, buffers * size, u)
    floors, units, scales = small[: 4 * lanes], small[4 * lanes : 6 * lanes], small[6 * lanes : 8 * lanes]
    none = small[:0]
    for job in range(first, last):
        tile, end = tile_of(job, parts, batch, channels, width(z))
        part = job % parts
        _spectrum(count, banks, h0, tile, length, growing, none, w0, w1, k, plan, partners, signal_plan, small, block)
        correlate_rows(
            gy, gy_strides, u, u_strides, gu, gu_strides, tile, end, length, z, x, k, s, signal_plan, block,
            buffers == 3,
        )  # fmt: skip
        transform_back(s, table)
        for bank in range(count):
            at = (part * count + bank) * channels
            _take_gradients(s, bank == 1, tile, length, growing, w0, gh0, at, plan, signal_plan, small, block)
            to_b = gb[0][at * order :], gb[1][at * order :]
            to_a = ga[0][at * order :], ga[1][at * order :]
            kernel_gradients(
                _bank(banks, bank), tile[2], tile[3], w0, w1, w2, to_b, to_a, floors, scales, units, plan, partners
            )


@inline
@no_type_check
def _small(work, at, u):
    """Behind the transforms: numbers of each channel (floors, units, sizes, a constant), and some samples of a tile."""
    lanes = width(work)
    small = work[at : at + 10 * lanes]
    small[:] = 1
    return small, view(work[at + 10 * lanes : at + (11 + BLOCK) * lanes], u)


SMALL = 11 + BLOCK  # registers of it


@once
@no_type_check
def _pair(address, size, is_wide):
    """Coefficients at an address, as a float32 and a float64 array of which one is empty."""
    narrow, wide = (0, address) if is_wide != 0 else (address, 0)
    return array(narrow, size, np.float32), array(wide, size, np.float64)


@once
@no_type_check
def _table(p, kind):
    """The plan of a transform, from its seven entries."""
    layout = p[2], p[3], p[4], p[5], p[6]
    return array(p[0], 2 * p[2] * p[3], kind), array(p[1], 1, np.int64), layout


@once
@no_type_check
def _given(p, thread, kind):
    """What both loops begin with: banks, feedthroughs, growth, sizes, plans and work space."""
    count, channels, groups, order, is_wide = p[0], p[1], p[2], p[3], p[7]
    b, a = _pair(p[4], count * channels * order, is_wide), _pair(p[5], count * groups * order, is_wide)
    banks = b, a, channels, groups, order, array(p[8], order, np.float64)
    table = _table(p[17:24], np.float64)
    points = table[2][0] * table[2][1]
    plans = table, array(p[24], table[2][0] * table[2][2], np.int64), _table(p[25:32], kind)
    work = array(p[10] + thread * p[11] * 8, p[11], np.float64)
    sizes = p[13], p[14], channels, p[15], p[16], p[12]
    return banks, _pair(p[6], count * channels, is_wide), array(p[9], points, np.float64), sizes, plans, work


def convolve_entry(kind: type) -> Any:
    """``convolve`` as C threads enter it.

    Args:
        kind: float32 or float64, of signals; coefficients may be of either.
    """

    @no_type_check
    def run(block):
        p = carray(block, (64,))[HEAD:]
        first, last, thread = share(carray(block, (HEAD,)))
        banks, h0, growing, sizes, plans, work = _given(p, thread, kind)
        q = p[32:]
        convolve(
            p[0], array(q[0], 1, kind), (q[1], q[2], q[3]), banks, h0, growing,
            array(q[8], 2 * p[0] * p[1], np.float64),
            array(q[4], 1, kind), (q[5], q[6], q[7]), sizes, plans, work, first, last,
        )  # fmt: skip

    return entry(run)


def backward_entry(kind: type) -> Any:
    """``backward`` as C threads enter it.

    Args:
        kind: float32 or float64, of signals; coefficients may be of either, and their gradients are of the same.
    """

    @no_type_check
    def run(block):
        p = carray(block, (64,))[HEAD:]
        first, last, thread = share(carray(block, (HEAD,)))
        banks, h0, growing, sizes, plans, work = _given(p, thread, kind)
        q, size = p[32:], p[15] * p[0] * p[1]
        backward(
            p[0], array(q[0], 1, kind), (q[1], q[2], q[3]), array(q[4], 1, kind), (q[5], q[6], q[7]),
            banks, h0, growing,
            array(q[8], 1, kind), (q[9], q[10], q[11]), _pair(q[12], size * p[3], p[7]),
            _pair(q[13], size * p[3], p[7]),
            _pair(q[14], size, p[7]), sizes, plans, work, first, last,
        )  # fmt: skip

    return entry(run)
