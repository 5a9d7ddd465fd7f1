"""Free parameters to stable denominators by way of reflection coefficients, and taps to numerators, as Numba loops.

The order comes first in all arrays: (n, rows) for parameters and denominators, (n, rows, each) for the taps and the
numerators of ``each`` channels over every denominator, which may be none. A job takes ``TILE`` of the rows; what is
innermost and goes into registers side by side are rows, or the channels of a row where there are several. Imported on
first use.
"""

from __future__ import annotations

from functools import partial
from typing import no_type_check

import numpy as np

from transferfn.kernels._compile import native

TILE = 16
LOOSE = frozenset({"contract", "reassoc"})  # sums over channels go side by side


@native
@no_type_check
def _squash(x, c0, width, scaled, largest, k, scale):
    """k_m = tanh(g_m x_m) or tanh(x_m), kept within +-largest, and the scales g_m = prod (1 - k_j^2) over j > m."""
    n = x.shape[0]
    k[:], scale[:] = 0, 1
    for c in range(width):
        g = 1.0
        for m in range(n - 1, -1, -1):
            value = min(max(np.tanh((g if scaled else 1.0) * x[m, c0 + c]), -largest), largest)
            k[m, c], scale[m, c] = value, g
            g -= g * value * value


@native
@no_type_check
def _raise(head, k, m):
    """From order m - 1 to m, in place: head_i + k_m head_(m-i), for all i at once."""
    for i in range(m // 2 + 1):
        j = m - i
        if i < j:
            for c in range(TILE):
                low, high = head[i, c], head[j, c]
                head[i, c] = low + k[m - 1, c] * high
                head[j, c] = high + k[m - 1, c] * low
        elif i == j:
            for c in range(TILE):
                head[i, c] += k[m - 1, c] * head[i, c]


@native
@no_type_check
def _copy(x, to):
    """Copy rows. Written out: an assignment between arrays compiles the text of an error, which takes seconds."""
    for i in range(x.shape[0]):
        for c in range(TILE):
            to[i, c] = x[i, c]


@native
@no_type_check
def _deviations(k, scale, deviation):
    """(prod 1 - k_j^2)^(1/2) over j >= m: what makes the response of A_m reversed over A_n one of energy 1, from 0."""
    for m in range(k.shape[0]):
        for c in range(TILE):
            deviation[m, c] = np.sqrt(scale[m, c] * (1 - k[m, c]) * (1 + k[m, c]))


@native
@no_type_check
def _weigh(taps, deviation, head, m, c0, width, b):
    """Add A_m reversed to all numerators, as their taps weigh it."""
    each = taps.shape[2]
    if each == 1:
        for i in range(m + 1):
            for c in range(width):
                b[i, c0 + c, 0] += taps[m, c0 + c, 0] * deviation[m, c] * head[m - i, c]
        return
    for c in range(width):
        for i in range(m + 1):
            factor = deviation[m, c] * head[m - i, c]
            for e in range(each):
                b[i, c0 + c, e] += taps[m, c0 + c, e] * factor


@partial(native, fastmath=LOOSE)
@no_type_check
def _weigh_back(taps, deviation, stage, gb, m, c0, width, g, gt):
    """The adjoint of ``_weigh``: adds to g, the gradient at A_m, and sets that at the taps."""
    each = taps.shape[2]
    for c in range(width):
        for e in range(each):
            gt[m, c0 + c, e] = 0
    if each == 1:
        for i in range(m + 1):
            for c in range(width):
                scaled = deviation[m, c] * gb[i, c0 + c, 0]
                gt[m, c0 + c, 0] += scaled * stage[m - i, c]
                g[m - i, c] += scaled * taps[m, c0 + c, 0]
        return
    for c in range(width):
        for i in range(m + 1):
            factor, total = deviation[m, c] * stage[m - i, c], 0.0
            for e in range(each):
                gt[m, c0 + c, e] += factor * gb[i, c0 + c, e]
                total += taps[m, c0 + c, e] * gb[i, c0 + c, e]
            g[m - i, c] += deviation[m, c] * total


@native
@no_type_check
def filters(x, taps, scaled, largest, a, b, first, last):
    """From parameters x to a_1..a_n, both (n, rows), and from taps to b_1..b_n, both (n, rows, each)."""
    n, rows = x.shape
    k, scale, head = np.empty((n, TILE), x.dtype), np.empty((n, TILE), x.dtype), np.empty((n + 1, TILE), x.dtype)
    deviation = np.empty((n, TILE), x.dtype)
    for job in range(first, last):
        c0 = job * TILE
        width = min(TILE, rows - c0)
        _squash(x, c0, width, scaled, largest, k, scale)
        _deviations(k, scale, deviation)
        head[:] = 0
        head[0] = 1
        b[:, c0 : c0 + width] = 0
        for m in range(n):
            _weigh(taps, deviation, head, m, c0, width, b)
            _raise(head, k, m + 1)
        for m in range(n):
            for c in range(width):
                a[m, c0 + c] = head[m + 1, c]


@native
@no_type_check
def gradients(x, taps, ga, gb, scaled, largest, gx, gt, first, last):
    """The adjoint of ``filters``: from ga, gb to gx, gt, in the shapes of a, b and x, taps.

    The stages are needed in reverse. Stepping down again would divide by 1 - k^2, and keeping all takes n^2 / 2 numbers
    a row: so every sqrt(n)-th is kept, and those between are made again from there.
    """
    n, rows = x.shape
    each = taps.shape[2]
    stride = int(np.sqrt(n)) + 1
    k, scale, gk = np.empty((n, TILE), x.dtype), np.empty((n, TILE), x.dtype), np.empty((n, TILE), x.dtype)
    head, g = np.empty((n + 1, TILE), x.dtype), np.empty((n + 1, TILE), x.dtype)
    kept = np.empty(((n + stride - 1) // stride, n + 1, TILE), x.dtype)
    stages = np.empty((stride, n + 1, TILE), x.dtype)
    deviation = np.empty((n, TILE), x.dtype)
    for job in range(first, last):
        c0 = job * TILE
        width = min(TILE, rows - c0)
        _squash(x, c0, width, scaled, largest, k, scale)
        _deviations(k, scale, deviation)
        head[:] = 0
        head[0] = 1
        for m in range(1, n + 1):
            if (m - 1) % stride == 0:
                _copy(head, kept[(m - 1) // stride])
            _raise(head, k, m)
        g[:], gk[:] = 0, 0
        for m in range(n):
            for c in range(width):
                g[m + 1, c] = ga[m, c0 + c]
        for block in range(len(kept) - 1, -1, -1):
            start, end = block * stride, min((block + 1) * stride, n)
            _copy(kept[block], head)
            for m in range(start + 1, end + 1):
                _copy(head, stages[m - start - 1])
                _raise(head, k, m)
            for m in range(end, start, -1):
                stage = stages[m - start - 1]
                for i in range(m):
                    for c in range(TILE):
                        gk[m - 1, c] += g[i + 1, c] * stage[m - 1 - i, c]
                _raise(g, k, m)
                _weigh_back(taps, deviation, stage, gb, m - 1, c0, width, g, gt)
        for c in range(width):
            g_scale, at_taps = 0.0, 0.0
            for m in range(n):
                value = k[m, c]
                slope = 1 - value * value
                for e in range(each):
                    at_taps += gt[m, c0 + c, e] * taps[m, c0 + c, e]
                inner = 0.0
                if not abs(value) >= largest:
                    inner = slope * (gk[m, c] - 2 * g_scale * value * scale[m, c]) - value * at_taps
                gx[m, c0 + c] = inner
                if scaled:
                    gx[m, c0 + c] *= scale[m, c]
                    g_scale = g_scale * slope + inner * x[m, c0 + c]
