"""The recurrence, its adjoint and its products over one piece of a tile, four time steps at once, as Numba loops.

Four time steps are held in registers, for w and for y; four lags are added to each of them with seven samples of the
past, of which three stay in registers for the next four lags. The last four samples never leave the registers, so that
orders up to 4 read nothing of the past. Lags are padded to a multiple of 4 with coefficients of zero.
"""

from __future__ import annotations

from typing import no_type_check

from transferfn.kernels._compile import inline, part
from transferfn.kernels._simd import load, splat, store

CHUNK = 128  # the longest piece; a multiple of 4


@inline
@no_type_check
def _four(x, at, W):
    i = at * W
    return load(x, i), load(x, i + W), load(x, i + 2 * W), load(x, i + 3 * W)


@inline
@no_type_check
def _put(x, at, x0, x1, x2, x3, W):
    i = at * W
    store(x, i, x0), store(x, i + W, x1), store(x, i + 2 * W, x2), store(x, i + 3 * W, x3)


@inline
@no_type_check
def _lags_of_four(x0, x1, x2, x3, c, i, q1, q2, q3, q4, q5, q6, q7, W):
    """Add four lags, the first with the coefficients at ``i``, to four steps; q4 is the sample it gives to x0."""
    c0, c1, c2, c3 = load(c, i), load(c, i + W), load(c, i + 2 * W), load(c, i + 3 * W)
    x0, x1, x2, x3 = x0 + c0 * q4, x1 + c0 * q3, x2 + c0 * q2, x3 + c0 * q1
    x0, x1, x2, x3 = x0 + c1 * q5, x1 + c1 * q4, x2 + c1 * q3, x3 + c1 * q2
    x0, x1, x2, x3 = x0 + c2 * q6, x1 + c2 * q5, x2 + c2 * q4, x3 + c2 * q3
    x0, x1, x2, x3 = x0 + c3 * q7, x1 + c3 * q6, x2 + c3 * q5, x3 + c3 * q4
    return x0, x1, x2, x3


@inline
@no_type_check
def _zeros(like):
    zero = splat(like.dtype.type(0))
    return zero, zero, zero, zero


@inline
@no_type_check
def _nearest(x0, x1, x2, x3, c, r1, r2, r3, r4, W):
    """Add lags 1 to 4, as far as they reach before the first of four steps."""
    c1, c2, c3, c4 = load(c, 0), load(c, W), load(c, 2 * W), load(c, 3 * W)
    x0 = x0 + c4 * r4 + c3 * r3 + c2 * r2 + c1 * r1
    x1 = x1 + c4 * r3 + c3 * r2 + c2 * r1
    x2 = x2 + c4 * r2 + c3 * r1
    return x0, x1, x2, x3 + c4 * r1


@inline
@no_type_check
def _among(x1, x2, x3, c, w0, w1, w2, W):
    """Add lags 1 to 3 among four steps whose first three samples are known."""
    c1, c2, c3 = load(c, 0), load(c, W), load(c, 2 * W)
    return x1 + c1 * w0, x2 + c2 * w0 + c1 * w1, x3 + c3 * w0 + c2 * w1 + c1 * w2


@inline
@no_type_check
def _resolve(x0, x1, x2, x3, c, W):
    """Add lags 1 to 3 among four steps of a recurrence."""
    c1, c2, c3 = load(c, 0), load(c, W), load(c, 2 * W)
    x1 = x1 + c1 * x0
    x2 = x2 + c2 * x0 + c1 * x1
    x3 = x3 + c3 * x0 + c2 * x1 + c1 * x2
    return x1, x2, x3


@part
@no_type_check
def filter_piece(signal, window, back, out, h, lags, size, W):
    """Rows 0, 1, ... of the signal from u to y, and w into the window behind its first ``lags`` rows, the past."""
    r4, r3, r2, r1 = _four(window, lags - 4, W)
    for t in range(0, size, 4):
        x0, x1, x2, x3 = _four(signal, t, W)
        y0, y1, y2, y3 = h * x0, h * x1, h * x2, h * x3
        q1, q2, q3 = r2, r3, r4
        for lag in range(4, lags, 4):
            q7, q6, q5, q4 = _four(window, lags + t - lag - 4, W)
            x0, x1, x2, x3 = _lags_of_four(x0, x1, x2, x3, back, lag * W, q1, q2, q3, q4, q5, q6, q7, W)
            y0, y1, y2, y3 = _lags_of_four(y0, y1, y2, y3, out, lag * W, q1, q2, q3, q4, q5, q6, q7, W)
            q1, q2, q3 = q5, q6, q7
        x0, x1, x2, x3 = _nearest(x0, x1, x2, x3, back, r1, r2, r3, r4, W)
        y0, y1, y2, y3 = _nearest(y0, y1, y2, y3, out, r1, r2, r3, r4, W)
        x1, x2, x3 = _resolve(x0, x1, x2, x3, back, W)
        y1, y2, y3 = _among(y1, y2, y3, out, x0, x1, x2, W)
        _put(window, lags + t, x0, x1, x2, x3, W)
        _put(signal, t, y0, y1, y2, y3, W)
        r1, r2, r3, r4 = x3, x2, x1, x0


@part
@no_type_check
def recur_piece(signal, window, start, back, lags, size, W):
    """As ``filter_piece``, but w alone, from row ``start`` of the window on."""
    r4, r3, r2, r1 = _four(window, start - 4, W)
    for t in range(0, size, 4):
        x0, x1, x2, x3 = _four(signal, t, W)
        if lags > 4:
            q1, q2, q3 = r2, r3, r4
            # Two sums for each step: additions that wait for each other would take all the time.
            z0, z1, z2, z3 = _zeros(signal)
            for lag in range(4, lags - 4, 8):
                q7, q6, q5, q4 = _four(window, start + t - lag - 4, W)
                x0, x1, x2, x3 = _lags_of_four(x0, x1, x2, x3, back, lag * W, q1, q2, q3, q4, q5, q6, q7, W)
                p7, p6, p5, p4 = _four(window, start + t - lag - 8, W)
                z0, z1, z2, z3 = _lags_of_four(z0, z1, z2, z3, back, (lag + 4) * W, q5, q6, q7, p4, p5, p6, p7, W)
                q1, q2, q3 = p5, p6, p7
            if lags % 8 == 0:
                lag = lags - 4
                q7, q6, q5, q4 = _four(window, start + t - lag - 4, W)
                x0, x1, x2, x3 = _lags_of_four(x0, x1, x2, x3, back, lag * W, q1, q2, q3, q4, q5, q6, q7, W)
            x0, x1, x2, x3 = x0 + z0, x1 + z1, x2 + z2, x3 + z3
        x0, x1, x2, x3 = _nearest(x0, x1, x2, x3, back, r1, r2, r3, r4, W)
        x1, x2, x3 = _resolve(x0, x1, x2, x3, back, W)
        _put(window, start + t, x0, x1, x2, x3, W)
        r1, r2, r3, r4 = x3, x2, x1, x0


@part
@no_type_check
def adjoint_piece(signal, given, lam, back, out, h, lags, first, W):
    """Rows first, ..., CHUNK - 1 backwards in time: lam_t = x_t + sum_i b_i gy_(t+i) - sum_i a_i lam_(t+i).

    x is in the signal, which becomes lam + h gy; gy is in ``given``, and both have the future from row CHUNK on.
    """
    r1, r2, r3, r4 = _four(lam, CHUNK, W)
    g1, g2, g3, g4 = _four(given, CHUNK, W)
    for t in range(CHUNK - 4, first - 1, -4):
        # Step 0 is the last of the four, so that lags count as in the other direction.
        x3, x2, x1, x0 = _four(signal, t, W)
        w3, w2, w1, w0 = _four(given, t, W)
        y0, y1, y2, y3 = h * w0, h * w1, h * w2, h * w3
        z0, z1, z2, z3 = _zeros(signal)
        q1, q2, q3, p1, p2, p3 = r2, r3, r4, g2, g3, g4
        for lag in range(4, lags, 4):
            q4, q5, q6, q7 = _four(lam, t + 4 + lag, W)
            p4, p5, p6, p7 = _four(given, t + 4 + lag, W)
            x0, x1, x2, x3 = _lags_of_four(x0, x1, x2, x3, back, lag * W, q1, q2, q3, q4, q5, q6, q7, W)
            z0, z1, z2, z3 = _lags_of_four(z0, z1, z2, z3, out, lag * W, p1, p2, p3, p4, p5, p6, p7, W)
            q1, q2, q3, p1, p2, p3 = q5, q6, q7, p5, p6, p7
        z0, z1, z2, z3 = _nearest(z0, z1, z2, z3, out, g1, g2, g3, g4, W)
        z1, z2, z3 = _among(z1, z2, z3, out, w0, w1, w2, W)
        x0, x1, x2, x3 = x0 + z0, x1 + z1, x2 + z2, x3 + z3
        x0, x1, x2, x3 = _nearest(x0, x1, x2, x3, back, r1, r2, r3, r4, W)
        x1, x2, x3 = _resolve(x0, x1, x2, x3, back, W)
        _put(lam, t, x3, x2, x1, x0, W)
        _put(signal, t, x3 + y3, x2 + y2, x1 + y1, x0 + y0, W)
        r1, r2, r3, r4, g1, g2, g3, g4 = x3, x2, x1, x0, w3, w2, w1, w0


@inline
@no_type_check
def _products_of_four(s0, s1, s2, s3, x0, x1, x2, x3, v0, v1, v2, v3, v4, v5, v6):
    """Add x_j w_(j-i) for four steps j to the sums over four lags i; v3 is what the first lag gives to x0."""
    s0, s1, s2, s3 = s0 + x0 * v3, s1 + x0 * v2, s2 + x0 * v1, s3 + x0 * v0
    s0, s1, s2, s3 = s0 + x1 * v4, s1 + x1 * v3, s2 + x1 * v2, s3 + x1 * v1
    s0, s1, s2, s3 = s0 + x2 * v5, s1 + x2 * v4, s2 + x2 * v3, s3 + x2 * v2
    s0, s1, s2, s3 = s0 + x3 * v6, s1 + x3 * v5, s2 + x3 * v4, s3 + x3 * v3
    return s0, s1, s2, s3


@part
@no_type_check
def products_of_piece(given, lam, window, first, at, sums, lags, W):
    """Sums of gy_t w_(t-i) and lam_t w_(t-i) over rows first, ..., CHUNK - 1; ``at`` is the window's row of the first.

    ``sums`` are those of all lags with gy, then those with lam.
    """
    for lag in range(0, lags, 4):
        i, j = lag * W, (lags + lag) * W
        s0, s1, s2, s3 = load(sums, i), load(sums, i + W), load(sums, i + 2 * W), load(sums, i + 3 * W)
        z0, z1, z2, z3 = load(sums, j), load(sums, j + W), load(sums, j + 2 * W), load(sums, j + 3 * W)
        r = at - lag - 4
        v0, v1, v2 = load(window, r * W), load(window, (r + 1) * W), load(window, (r + 2) * W)
        for t in range(first, CHUNK, 4):
            v3, v4, v5, v6 = _four(window, r + 3, W)
            x0, x1, x2, x3 = _four(given, t, W)
            s0, s1, s2, s3 = _products_of_four(s0, s1, s2, s3, x0, x1, x2, x3, v0, v1, v2, v3, v4, v5, v6)
            x0, x1, x2, x3 = _four(lam, t, W)
            z0, z1, z2, z3 = _products_of_four(z0, z1, z2, z3, x0, x1, x2, x3, v0, v1, v2, v3, v4, v5, v6)
            v0, v1, v2 = v4, v5, v6
            r += 4
        _put(sums, lag, s0, s1, s2, s3, W)
        _put(sums, lags + lag, z0, z1, z2, z3, W)


@part
@no_type_check
def into_the_past(signal, given, lam, back, out, lags, order, W):
    """The gradient at w_(-1), ..., w_(-n), in rows 0, 1, ... of the signal: they gather from the signal alone."""
    for k in range(1, order + 1):
        value = load(signal, (k - 1) * W)
        for i in range(k, order + 1):
            row = (CHUNK + i - k) * W
            value = value + load(back, (i - 1) * W) * load(lam, row) + load(out, (i - 1) * W) * load(given, row)
        store(signal, (k - 1) * W, value)
