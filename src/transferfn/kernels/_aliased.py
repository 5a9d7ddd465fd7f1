"""Kernels sampled at the roots of unity, and their gradients, as Numba loops. Imported on first use.

The coefficients of a channel's numerator and denominator are the real and the imaginary part of one signal, so that one
transform serves both; B and A at z come from its values at z and at 1/z. The kernels of two tiles of channels come back
as the real and the imaginary part of one transform. What shares a transform takes on the rounding of the larger part,
so numerators are scaled by powers of two to the size of denominators, whose largest coefficient is 1 or about 1.

A pair of tiles is up to 2 W channels, beginning with ``c0``; ``x`` holds the polynomials of the first W and ``y`` those
of the others, if any. Of each channel in the pair ``units`` holds the power of two; ``floors`` holds of W channels
after the other the rounding error of A(z) squared, and then its inverse.

A bank of coefficients is (b, a, channels, groups, order, damping): b (D, n) and a (G, n) as pairs of a float32 and a
float64 array, one of which is empty, so that no wider copy is made of narrow ones; ``damping`` (n), which may be empty,
is what both are multiplied by.
"""

from __future__ import annotations

import math
from typing import no_type_check

import numpy as np

from transferfn.kernels._compile import clear, inline, native, part
from transferfn.kernels._convolve import BLOCK
from transferfn.kernels._fft import HEADER, far_down, far_up, near_down, near_up
from transferfn.kernels._simd import load, splat, store, where_less, width


def opposite(table: np.ndarray, layout: tuple[int, ...]) -> np.ndarray:
    """The row of the value at 1/z, for each row that holds the value at a root of unity z, in permuted order.

    Args:
        table: As of :func:`transferfn.kernels._fft.tables`.
        layout: As of the same.
    """
    groups, near, pitch = layout[:3]
    order = np.zeros(1, np.int64)
    for radix in table[HEADER : HEADER + 3 * table[1] : 3][::-1]:
        order = np.concatenate([k + radix * order for k in range(radix)])
    places = np.argsort(order)[-order % len(order)].reshape(groups, near)
    partners = np.zeros((groups, pitch), np.int64)
    partners[:, :near] = places // near * pitch + places % near
    return partners.ravel()


@part
@no_type_check
def unit_of(largest, tiny):
    """The power of two next to the largest of some numbers, or zero, or one where they are not all finite."""
    if largest == 0:
        return 0.0
    if largest < np.inf:
        return max(math.ldexp(1.0, math.frexp(largest)[1] - 1), tiny)
    return 1.0


@inline
@no_type_check
def _coefficient(of, channel, order, i, damping):
    narrow, wide = of
    at = channel * order + i
    value = wide[at] if wide.size else np.float64(narrow[at])
    return value * damping[i] if damping.size else value


@inline
@no_type_check
def _put_coefficient(of, channel, order, i, damping, value):
    narrow, wide = of
    at = channel * order + i
    value = value * damping[i] if damping.size else value
    if wide.size:
        wide[at] = value
    else:
        narrow[at] = value


@part
@no_type_check
def _far_polynomials(bank, c0, channels, z, floor, unit, plan):
    """b_1, b_2, ... and 1, a_1, ... as real and imaginary parts, divided by units, and the far passes of both."""
    b, a, of_all, groups, n, damping = bank
    _, table, layout = plan
    _, near, pitch, columns, _ = layout
    W = width(z)
    clear(z, 0, z.size // W, W)
    for lane in range(W):
        z[W + lane], floor[lane], floor[W + lane], unit[lane] = 1, 0, 0, 1
    eps = np.finfo(z.dtype).eps
    for lane in range(channels):
        channel = c0 + lane
        group = channel * groups // of_all
        total, largest = 1.0, 0.0
        for i in range(n):
            largest = max(largest, abs(_coefficient(b, channel, n, i, damping)))
        scale = unit_of(largest, np.finfo(z.dtype).tiny)
        inverse = 1 / scale if scale != 0 else 0.0
        for i in range(n):
            row = (i + 1) // near * pitch + (i + 1) % near
            z[2 * W * row + lane] = _coefficient(b, channel, n, i, damping) * inverse
            value = _coefficient(a, group, n, i, damping)
            z[2 * W * row + W + lane] = value
            total += abs(value)
        floor[lane], floor[W + lane], unit[lane] = (eps * total) * (eps * total), 1 / (eps * total), scale
    for column in range(0, min(near, n + 1), columns):  # further ones are zero in all groups
        far_down(z, column, min(columns, near - column), table)


@inline
@no_type_check
def _at_pair(z, i, j, floor):
    """B and 1/A at row i, from the values there and at the opposite row j, |A| held at its rounding error."""
    W = width(z)
    half = splat(z.dtype.type(0.5))
    pr, pi, qr, qi = load(z, 2 * W * i), load(z, 2 * W * i + W), load(z, 2 * W * j), load(z, 2 * W * j + W)
    br, bi = half * (pr + qr), half * (pi - qi)
    ar, ai = half * (pi + qi), half * (qr - pr)
    square, smallest, zero = ar * ar + ai * ai, load(floor, 0), splat(z.dtype.type(0))
    sr = where_less(square, smallest, load(floor, W), ar / square)
    si = where_less(square, smallest, zero, (zero - ai) / square)
    return br, bi, sr, si, square


@inline
@no_type_check
def _both_ways(z, i, j, xr, xi, yr, yi):
    """Write the values at row i and at the opposite row j of a signal whose real and imaginary part have x and y."""
    W = width(z)
    store(z, 2 * W * j, xr + yi), store(z, 2 * W * j + W, yr - xi)
    store(z, 2 * W * i, xr - yi), store(z, 2 * W * i + W, xi + yr)


@part
@no_type_check
def far_kernels(bank, c0, channels, x, y, floors, units, plan, partners):
    """Put B/A of a pair of tiles, transformed back but for the far passes, into x, times P and over units."""
    _, table, layout = plan
    groups, near, pitch, _, _ = layout
    W = width(x)
    more = channels > W
    floor, more_floor, unit, more_unit = floors[: 2 * W], floors[2 * W :], units[:W], units[W:]
    _far_polynomials(bank, c0, min(W, channels), x, floor, unit, plan)
    if more:
        _far_polynomials(bank, c0 + W, channels - W, y, more_floor, more_unit, plan)
    zero = splat(x.dtype.type(0))
    for g in range(groups):
        h = partners[g * pitch] // pitch
        if h < g:
            continue
        for second in range(1 if g == h else 2):
            near_down(x, h if second else g, table)
            if more:
                near_down(y, h if second else g, table)
        for i in range(g * pitch, g * pitch + near):
            j = partners[i]
            if g < h or i <= j:
                br, bi, sr, si, _ = _at_pair(x, i, j, floor)
                pr, pi, qr, qi = br * sr - bi * si, br * si + bi * sr, zero, zero
                if more:
                    br, bi, sr, si, _ = _at_pair(y, i, j, more_floor)
                    qr, qi = br * sr - bi * si, br * si + bi * sr
                _both_ways(x, i, j, pr, pi, qr, qi)
        for second in range(1 if g == h else 2):
            near_up(x, h if second else g, table)


@inline
@no_type_check
def _adjoint(z, i, j, floor, gr, gi):
    """Replace B and A by the spectra of the gradients of b and a, from that of the kernel."""
    smallest, zero = load(floor, 0), splat(z.dtype.type(0))
    br, bi, sr, si, square = _at_pair(z, i, j, floor)
    kr, ki = br * sr - bi * si, br * si + bi * sr
    xr, xi = gr * sr + gi * si, gi * sr - gr * si
    yr = where_less(square, smallest, zero, zero - (xr * kr + xi * ki))
    yi = where_less(square, smallest, zero, xr * ki - xi * kr)
    _both_ways(z, i, j, xr, xi, yr, yi)


@part
@no_type_check
def _write_gradients(bank, z, c0, channels, gb, ga, size, unit, plan):
    _, _, _, _, n, damping = bank
    _, table, layout = plan
    groups, near, pitch, columns, _ = layout
    W = width(z)
    for column in range(0, min(near, n + 1), columns):
        far_up(z, column, min(columns, near - column), table)
    for i in range(n):
        row = (i + 1) // near * pitch + (i + 1) % near
        for c in range(channels):
            scale = size[c] / (groups * near)
            _put_coefficient(gb, c0 + c, n, i, damping, z[2 * W * row + c] * scale)
            _put_coefficient(ga, c0 + c, n, i, damping, z[2 * W * row + W + c] * scale * unit[c])


@part
@no_type_check
def kernel_gradients(bank, c0, channels, z, x, y, gb, ga, floors, sizes, units, plan, partners):
    """Gradients of a pair of tiles' coefficients, from those of their kernels over their ``sizes`` in z.

    These are real and imaginary parts of one transform, like the kernels, so ``sizes`` are powers of two near them.
    gb_i = sum_t gk_t s_(t-i) with s of 1/A, ga_i = -sum_t gk_t r_(t-i) with r of B/A^2. The far passes of z are done.
    Where |A| is held at its rounding error, it passes no gradient.
    """
    _, table, layout = plan
    groups, near, pitch, _, _ = layout
    W = width(x)
    more = channels > W
    floor, more_floor, unit, more_unit = floors[: 2 * W], floors[2 * W :], units[:W], units[W:]
    _far_polynomials(bank, c0, min(W, channels), x, floor, unit, plan)
    if more:
        _far_polynomials(bank, c0 + W, channels - W, y, more_floor, more_unit, plan)
    half = splat(x.dtype.type(0.5))
    for g in range(groups):
        h = partners[g * pitch] // pitch
        if h < g:
            continue
        for second in range(1 if g == h else 2):
            near_down(z, h if second else g, table)
            near_down(x, h if second else g, table)
            if more:
                near_down(y, h if second else g, table)
        for i in range(g * pitch, g * pitch + near):
            j = partners[i]
            if g < h or i <= j:
                pr, pi, qr, qi = load(z, 2 * W * i), load(z, 2 * W * i + W), load(z, 2 * W * j), load(z, 2 * W * j + W)
                _adjoint(x, i, j, floor, half * (pr + qr), half * (pi - qi))
                if more:
                    _adjoint(y, i, j, more_floor, half * (pi + qi), half * (qr - pr))
        for second in range(1 if g == h else 2):
            near_up(x, h if second else g, table)
            if more:
                near_up(y, h if second else g, table)
    _write_gradients(bank, x, c0, min(W, channels), gb, ga, sizes[:W], unit, plan)
    if more:
        _write_gradients(bank, y, c0 + W, channels - W, gb, ga, sizes[W:], more_unit, plan)


@native
@no_type_check
def kernels(bank, h0, k, plan, partners, work, first, last):
    """Put (1/P) sum_m z_m^t B(z_m)/A(z_m), and h0 at 0, into k (D, P). Jobs are pairs of tiles."""
    channels, period = k.shape
    _, table, layout = plan
    groups, near, pitch, columns, _ = layout
    size, W = work.size // 2, width(work)
    x, y = work[:size], work[size:]
    floors, units = np.empty(4 * W, work.dtype), np.empty(2 * W, work.dtype)
    for job in range(first, last):
        c0 = 2 * job * W
        far_kernels(bank, c0, min(2 * W, channels - c0), x, y, floors, units, plan, partners)
        for column in range(0, near, columns):
            far_up(x, column, min(columns, near - column), table)
        for g in range(groups):
            for j0 in range(0, near, BLOCK):
                for c in range(min(2 * W, channels - c0)):
                    for j in range(j0, min(j0 + BLOCK, near)):
                        k[c0 + c, g * near + j] = x[2 * W * (g * pitch + j) + c] / period * units[c]
        for c in range(c0, min(c0 + 2 * W, channels)):
            k[c, 0] += h0[c]


@native
@no_type_check
def gradients(gk, bank, gb, ga, plan, partners, work, first, last):
    """Gradients of ``kernels``: gk (D, P), gb and ga (D, n)."""
    channels, period = gk.shape
    _, table, layout = plan
    groups, near, pitch, columns, _ = layout
    size, W = work.size // 3, width(work)
    z, x, y = work[:size], work[size : 2 * size], work[2 * size :]
    floors, units, sizes = np.empty(4 * W, work.dtype), np.empty(2 * W, work.dtype), np.zeros(2 * W, work.dtype)
    for job in range(first, last):
        c0 = 2 * job * W
        clear(z, 0, size // W, W)
        for c in range(min(2 * W, channels - c0)):
            largest = 0.0
            for t in range(period):
                largest = max(largest, abs(gk[c0 + c, t]))
            sizes[c] = unit_of(largest, np.finfo(work.dtype).tiny)
        for g in range(groups):
            for j0 in range(0, near, BLOCK):
                for c in range(min(2 * W, channels - c0)):
                    for j in range(j0, min(j0 + BLOCK, near)):
                        if sizes[c] != 0:
                            z[2 * W * (g * pitch + j) + c] = gk[c0 + c, g * near + j] / sizes[c]
        for column in range(0, near, columns):
            far_down(z, column, min(columns, near - column), table)
        kernel_gradients(bank, c0, min(2 * W, channels - c0), z, x, y, gb, ga, floors, sizes, units, plan, partners)
