"""Kernels sampled at the roots of unity, and their gradients, as Numba loops. Imported on first use.

The coefficients of a channel's numerator and denominator are the real and the imaginary part of one signal, so that one
transform serves both; B and A at z come from its values at z and at 1/z. The kernels of two tiles of channels come back
as the real and the imaginary part of one transform. What shares a transform takes on the rounding of the larger part,
so numerators are scaled by powers of two to the size of denominators, whose largest coefficient is 1 or about 1.
"""

from __future__ import annotations

import math
from typing import no_type_check

import numpy as np

from transferfn.kernels._compile import clear, inline, native
from transferfn.kernels._convolve import BLOCK
from transferfn.kernels._fft import transform, transform_back
from transferfn.kernels._simd import load, splat, store, where_less


def opposite(passes: np.ndarray) -> np.ndarray:
    """Where the value at 1/z stands, for each value at a root of unity z, in the permuted order of the transforms.

    Args:
        passes: As of :func:`transferfn.kernels._fft.tables`.
    """
    order = np.zeros(1, np.int64)
    for radix in passes[::-1, 0]:
        order = np.concatenate([k + radix * order for k in range(radix)])
    return np.argsort(order)[-order % len(order)]


@native
@no_type_check
def _read_coefficients(b, a, c0, width, re, im, floor, unit, W):
    """b_1, b_2, ... and 1, a_1, ... as real and imaginary parts; the rounding error of A(z) squared and inverted.

    The numerator of each lane is divided by its ``unit``, the power of two next to its largest coefficient, or zero.
    """
    channels, n = b.shape
    clear(re, 0, re.size // W, W), clear(im, 0, im.size // W, W)
    for lane in range(W):
        im[lane], floor[lane], floor[W + lane], unit[lane] = 1, 0, 0, 1
    eps = np.finfo(re.dtype).eps
    for lane in range(width):
        group = (c0 + lane) * a.shape[0] // channels
        total, largest = 1.0, 0.0
        for i in range(n):
            largest = max(largest, abs(b[c0 + lane, i]))
        if largest == 0:
            unit[lane] = 0
        elif largest < np.inf:
            unit[lane] = max(math.ldexp(1.0, math.frexp(largest)[1] - 1), np.finfo(re.dtype).tiny)
        for i in range(n):
            if unit[lane] != 0:
                re[(i + 1) * W + lane] = b[c0 + lane, i] / unit[lane]
            im[(i + 1) * W + lane] = a[group, i]
            total += abs(a[group, i])
        floor[lane], floor[W + lane] = (eps * total) ** 2, 1 / (eps * total)


@inline
@no_type_check
def _at_pair(re, im, i, j, floor, W):
    """B and 1/A at position i, from the values there and at the opposite one, |A| held at its rounding error."""
    half = splat(re.dtype.type(0.5))
    pr, pi, qr, qi = load(re, i), load(im, i), load(re, j), load(im, j)
    br, bi = half * (pr + qr), half * (pi - qi)
    ar, ai = half * (pi + qi), half * (qr - pr)
    square, smallest, zero = ar * ar + ai * ai, load(floor, 0), splat(re.dtype.type(0))
    sr = where_less(square, smallest, load(floor, W), ar / square)
    si = where_less(square, smallest, zero, (zero - ai) / square)
    return br, bi, sr, si, square


@native
@no_type_check
def kernels(b, a, h0, k, plan, partners, work, first, last):
    """Put (1/P) sum_m z_m^t B(z_m)/A(z_m), and h0 at 0, into k (D, P); b (D, n), a (G, n). Jobs are pairs of tiles."""
    channels, period = k.shape
    _, factors, passes = plan
    size = work.size // 4
    W = size // period
    xr, xi, yr, yi = work[:size], work[size : 2 * size], work[2 * size : 3 * size], work[3 * size :]
    floor, other_floor = np.zeros(2 * W, work.dtype), np.zeros(2 * W, work.dtype)
    unit, other_unit = np.ones(W, work.dtype), np.ones(W, work.dtype)
    for job in range(first, last):
        c0 = 2 * job * W
        c1 = c0 + W
        width, other = min(W, channels - c0), max(min(W, channels - c1), 0)
        _read_coefficients(b, a, c0, width, xr, xi, floor, unit, W)
        transform(xr, xi, passes, factors, W)
        _read_coefficients(b, a, c1, other, yr, yi, other_floor, other_unit, W)
        transform(yr, yi, passes, factors, W)
        for m in range(period):
            if m <= partners[m]:
                i, j = m * W, partners[m] * W
                br, bi, sr, si, _ = _at_pair(xr, xi, i, j, floor, W)
                dr, di, tr, ti, _ = _at_pair(yr, yi, i, j, other_floor, W)
                pr, pi = br * sr - bi * si, br * si + bi * sr
                qr, qi = dr * tr - di * ti, dr * ti + di * tr
                # Both kernels are real: their values at 1/z are conjugates.
                store(xr, j, pr + qi), store(xi, j, qr - pi)
                store(xr, i, pr - qi), store(xi, i, pi + qr)
        transform_back(xr, xi, passes, factors, W)
        for t0 in range(0, period, BLOCK):
            for c in range(width):
                for t in range(t0, min(t0 + BLOCK, period)):
                    k[c0 + c, t] = xr[t * W + c] / period * unit[c]
            for c in range(other):
                for t in range(t0, min(t0 + BLOCK, period)):
                    k[c1 + c, t] = xi[t * W + c] / period * other_unit[c]
        for c in range(c0, c0 + width + other):
            k[c, 0] += h0[c]


@native
@no_type_check
def gradients(gk, b, a, gb, ga, plan, partners, work, first, last):
    """Gradients of ``kernels``: gb_i = sum_t gk_t s_(t-i) with s of 1/A, ga_i = -sum_t gk_t r_(t-i) with r of B/A^2.

    gk (D, P), b, gb and ga (D, n), a (G, n). Where |A| is held at its rounding error, it passes no gradient.
    """
    channels, period = gk.shape
    n = b.shape[1]
    _, factors, passes = plan
    size = work.size // 4
    W = size // period
    re, im, gr, gi = work[:size], work[size : 2 * size], work[2 * size : 3 * size], work[3 * size :]
    floor, unit = np.zeros(2 * W, work.dtype), np.ones(W, work.dtype)
    zero = splat(work.dtype.type(0))
    for job in range(first, last):
        c0 = job * W
        width = min(W, channels - c0)
        _read_coefficients(b, a, c0, width, re, im, floor, unit, W)
        transform(re, im, passes, factors, W)
        clear(gr, 0, period, W), clear(gi, 0, period, W)
        for t0 in range(0, period, BLOCK):
            for c in range(width):
                for t in range(t0, min(t0 + BLOCK, period)):
                    gr[t * W + c] = gk[c0 + c, t]
        transform(gr, gi, passes, factors, W)
        smallest = load(floor, 0)
        for m in range(period):
            if m <= partners[m]:
                i, j = m * W, partners[m] * W
                br, bi, sr, si, square = _at_pair(re, im, i, j, floor, W)
                kr, ki = br * sr - bi * si, br * si + bi * sr
                xr, xi = load(gr, i) * sr + load(gi, i) * si, load(gi, i) * sr - load(gr, i) * si
                yr = where_less(square, smallest, zero, zero - (xr * kr + xi * ki))
                yi = where_less(square, smallest, zero, xr * ki - xi * kr)
                store(re, j, xr + yi), store(im, j, yr - xi)
                store(re, i, xr - yi), store(im, i, xi + yr)
        transform_back(re, im, passes, factors, W)
        for c in range(width):
            for i in range(n):
                gb[c0 + c, i] = re[(i + 1) * W + c] / period
                ga[c0 + c, i] = im[(i + 1) * W + c] / period * unit[c]
