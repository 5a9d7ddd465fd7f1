"""The recurrence, its adjoint and its lag products as Numba loops. Imported on first use: Numba takes its time.

A job takes the ``W`` lanes of a tile: ``W`` channels of one batch row or, of few channels, several rows side by side.
Four time steps are held in registers at once, and four lags are added to each of them with seven samples of the past,
of which three stay in registers for the next four lags. Samples of the past lie in a window of the job's own, as far
back as the lags reach, newest last; signals are read and written a chunk at a time. A reset clears the window.

Signals come as their storage with the strides of batch, time and channel, so that every layout is read as it lies;
``w`` is preceded by the ``past`` samples before the signal, oldest first. ``resets`` is (B, L), or (0, 0) for none.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from transferfn.kernels._compile import clear, inline, native
from transferfn.kernels._simd import load, store

CHUNK = 128  # samples between two shifts of the window


@native
@no_type_check
def _tile(job, batch, channels, W):
    """A job's first row, rows side by side, first channel and number of channels; rows change first."""
    rows = max(W // channels, 1)
    groups = (batch + rows - 1) // rows
    row, c0 = job % groups * rows, job // groups * W
    return row, min(rows, batch - row), c0, min(W, channels - c0)


@native
@no_type_check
def _is_next_tile(job, first, batch, channels, W):
    """Whether a job's channels are not those of the job before."""
    rows = max(W // channels, 1)
    return job == first or job % ((batch + rows - 1) // rows) == 0


@native
@no_type_check
def _read(x, layout, tile, time, way, count, to, at, W):
    """Samples time, time + way, ... of a tile into rows at, at + 1, ... of ``to``."""
    row, rows, c0, width = tile
    batch_step, step, lane_step = layout
    base = row * batch_step + time * step + c0 * lane_step
    step *= way
    if lane_step == 1 and width == W:
        for t in range(count):
            store(to, (at + t) * W, load(x, base + t * step))
        return
    for i in range(rows):
        for c in range(width):
            source, lane = base + i * batch_step + c * lane_step, at * W + i * width + c
            for t in range(count):
                to[lane + t * W] = x[source + t * step]


@native
@no_type_check
def _write(x, layout, tile, time, way, count, source, at, W):
    """Rows at, at + 1, ... of ``source`` to samples time, time + way, ... of a tile."""
    row, rows, c0, width = tile
    batch_step, step, lane_step = layout
    base = row * batch_step + time * step + c0 * lane_step
    step *= way
    if lane_step == 1 and width == W:
        for t in range(count):
            store(x, base + t * step, load(source, (at + t) * W))
        return
    for i in range(rows):
        for c in range(width):
            to, lane = base + i * batch_step + c * lane_step, at * W + i * width + c
            for t in range(count):
                x[to + t * step] = source[lane + t * W]


@native
@no_type_check
def _shift(window, size, lags, W):
    """Move the newest rows to the front of a window."""
    for i in range(lags * W):
        window[i] = window[size * W + i]


@native
@no_type_check
def _coefficients(c, sign, tile, to, W):
    """Rows of ``c`` (lags, D) as lanes."""
    _, rows, c0, width = tile
    clear(to, 0, to.size // W, W)
    for lag in range(c.shape[0]):
        for i in range(rows):
            for j in range(width):
                to[lag * W + i * width + j] = sign * c[lag, c0 + j]


@inline
@no_type_check
def _far_lags(x0, x1, x2, x3, window, now, coefficients, lags, W):
    """Add lags 4, 5, ... to four time steps of which the first is row ``now`` of the window."""
    r1, r2, r3 = load(window, (now - 1) * W), load(window, (now - 2) * W), load(window, (now - 3) * W)
    lag = 3
    while lag + 4 <= lags:
        i, k = (now - lag) * W, lag * W
        r4, r5 = load(window, i - W), load(window, i - 2 * W)
        r6, r7 = load(window, i - 3 * W), load(window, i - 4 * W)
        c4, c5 = load(coefficients, k), load(coefficients, k + W)
        c6, c7 = load(coefficients, k + 2 * W), load(coefficients, k + 3 * W)
        x0, x1, x2, x3 = x0 + c4 * r4, x1 + c4 * r3, x2 + c4 * r2, x3 + c4 * r1
        x0, x1, x2, x3 = x0 + c5 * r5, x1 + c5 * r4, x2 + c5 * r3, x3 + c5 * r2
        x0, x1, x2, x3 = x0 + c6 * r6, x1 + c6 * r5, x2 + c6 * r4, x3 + c6 * r3
        x0, x1, x2, x3 = x0 + c7 * r7, x1 + c7 * r6, x2 + c7 * r5, x3 + c7 * r4
        r1, r2, r3 = r5, r6, r7
        lag += 4
    while lag < lags:
        r4, c4 = load(window, (now - lag - 1) * W), load(coefficients, lag * W)
        x0, x1, x2, x3 = x0 + c4 * r4, x1 + c4 * r3, x2 + c4 * r2, x3 + c4 * r1
        r1, r2, r3 = r2, r3, r4
        lag += 1
    return x0, x1, x2, x3


@inline
@no_type_check
def _recur(x0, x1, x2, x3, window, now, coefficients, lags, W):
    """Four steps of w = x + sum_i c_i w_(t-i), which are put into the window."""
    x0, x1, x2, x3 = _far_lags(x0, x1, x2, x3, window, now, coefficients, lags, W)
    r1, r2, r3 = load(window, (now - 1) * W), load(window, (now - 2) * W), load(window, (now - 3) * W)
    c1, c2, c3 = load(coefficients, 0), load(coefficients, W), load(coefficients, 2 * W)
    x0 = x0 + c3 * r3 + c2 * r2 + c1 * r1
    x1 = x1 + c3 * r2 + c2 * r1 + c1 * x0
    x2 = x2 + c3 * r1 + c2 * x0 + c1 * x1
    x3 = x3 + c3 * x0 + c2 * x1 + c1 * x2
    i = now * W
    store(window, i, x0), store(window, i + W, x1), store(window, i + 2 * W, x2), store(window, i + 3 * W, x3)
    return x0, x1, x2, x3


@inline
@no_type_check
def _filter(x0, x1, x2, x3, window, now, coefficients, lags, W):
    """Four steps of x + sum_i c_i w_(t-i) with samples that are in the window already."""
    x0, x1, x2, x3 = _far_lags(x0, x1, x2, x3, window, now, coefficients, lags, W)
    r1, r2, r3 = load(window, (now - 1) * W), load(window, (now - 2) * W), load(window, (now - 3) * W)
    w0, w1, w2 = load(window, now * W), load(window, (now + 1) * W), load(window, (now + 2) * W)
    c1, c2, c3 = load(coefficients, 0), load(coefficients, W), load(coefficients, 2 * W)
    x0 = x0 + c3 * r3 + c2 * r2 + c1 * r1
    x1 = x1 + c3 * r2 + c2 * r1 + c1 * w0
    x2 = x2 + c3 * r1 + c2 * w0 + c1 * w1
    x3 = x3 + c3 * w0 + c2 * w1 + c1 * w2
    return x0, x1, x2, x3


@inline
@no_type_check
def _four(x, at, W):
    i = at * W
    return load(x, i), load(x, i + W), load(x, i + 2 * W), load(x, i + 3 * W)


@inline
@no_type_check
def _put(x, at, steps, x0, x1, x2, x3, W):
    """The first ``steps`` of four rows; the others are still to be read."""
    i = at * W
    store(x, i, x0)
    if steps > 1:
        store(x, i + W, x1)
    if steps > 2:
        store(x, i + 2 * W, x2)
    if steps > 3:
        store(x, i + 3 * W, x3)


@native
@no_type_check
def _is_reset(resets, tile, t):
    cut = False
    for row in range(tile[0], tile[0] + tile[1]):
        cut |= resets[row, t]
    return cut


@native
@no_type_check
def _forget(resets, tile, t, window, end, W):
    """Clear the window up to row ``end`` in the lanes of those rows that are reset at time ``t``."""
    row, rows, _, width = tile
    for i in range(rows):
        if resets[row + i, t]:
            for r in range(end):
                for lane in range(r * W + i * width, r * W + (i + 1) * width):
                    window[lane] = 0


@native
@no_type_check
def scan(u, u_layout, b, a, h0, resets, past, y, y_layout, w, w_layout, sizes, first, last):
    """w_t = u_t - sum_i a_i w_(t-i) and y_t = h0 u_t + sum_i b_i w_(t-i), the latter only where b has rows.

    b (m, D), a (n, D), h0 (1, D), y (B, L, D), w (B, past + L, D) with its past filled in.
    """
    batch, length, channels, W = sizes
    m, n = b.shape[0], a.shape[0]
    lags = max(m, n, 3)
    back, out, through = np.empty(lags * W, u.dtype), np.empty(lags * W, u.dtype), np.empty(W, u.dtype)
    window, signal = np.zeros((lags + CHUNK + 4) * W, u.dtype), np.zeros((CHUNK + 4) * W, u.dtype)
    for job in range(first, last):
        tile = _tile(job, batch, channels, W)
        if _is_next_tile(job, first, batch, channels, W):
            _coefficients(a, -1, tile, back, W)
            _coefficients(b, 1, tile, out, W)
            _coefficients(h0, 1, tile, through, W)
        h = load(through, 0)
        clear(window, 0, lags, W)
        seen = min(past, lags)
        _read(w, w_layout, tile, past - seen, 1, seen, window, lags - seen, W)
        for begin in range(0, length, CHUNK):
            size = min(CHUNK, length - begin)
            _read(u, u_layout, tile, begin, 1, size, signal, 0, W)
            t = 0
            while t < size:
                now, steps = lags + t, min(4, size - t)
                if resets.size:
                    _forget(resets, tile, begin + t, window, now, W)
                    for j in range(1, steps):
                        if _is_reset(resets, tile, begin + t + j):
                            steps = j
                            break
                u0, u1, u2, u3 = _four(signal, t, W)
                _recur(u0, u1, u2, u3, window, now, back, n, W)
                if m:
                    y0, y1, y2, y3 = _filter(h * u0, h * u1, h * u2, h * u3, window, now, out, m, W)
                    _put(signal, t, steps, y0, y1, y2, y3, W)
                t += steps
                # A reset inside a chunk hides what is before it, but w must still be written from the window.
                if resets.size:
                    _write(w, w_layout, tile, past + begin + t - steps, 1, steps, window, now, W)
            if m:
                _write(y, y_layout, tile, begin, 1, size, signal, 0, W)
            if not resets.size:
                _write(w, w_layout, tile, past + begin, 1, size, window, lags, W)
            _shift(window, size, lags, W)


@native
@no_type_check
def _into_the_past(window, given, back, out, m, n, lags, gw, gw_layout, tile, past, lam, lam_layout, signal, W):
    """The gradient at samples before the signal: they gather from the signal, not from each other."""
    for k in range(1, past + 1):
        clear(signal, 0, 1, W)
        if gw.size:
            _read(gw, gw_layout, tile, past - k, 1, 1, signal, 0, W)
        value = load(signal, 0)
        for i in range(k, max(m, n) + 1):
            r = (lags - 1 - i + k) * W
            if i <= n:
                value = value + load(back, (i - 1) * W) * load(window, r)
            if i <= m:
                value = value + load(out, (i - 1) * W) * load(given, r)
        store(signal, 0, value)
        _write(lam, lam_layout, tile, past - k, 1, 1, signal, 0, W)


@native
@no_type_check
def adjoint(gy, gy_layout, gw, gw_layout, b, a, resets, past, lam, lam_layout, sizes, first, last):
    """lam_t = gw_t + sum_i b_i gy_(t+i) - sum_i a_i lam_(t+i), run backwards in time and on into the past samples.

    gy (B, L, D), gw and lam (B, past + L, D), b (m, D), a (n, D). Windows are those of ``scan``, newest last: there
    time runs backwards.
    """
    batch, length, channels, W = sizes
    m, n = b.shape[0], a.shape[0]
    lags = max(m, n, 3)
    back, out = np.empty(lags * W, gy.dtype), np.empty(lags * W, gy.dtype)
    window, given = np.zeros((lags + CHUNK + 4) * W, gy.dtype), np.zeros((lags + CHUNK + 4) * W, gy.dtype)
    signal = np.zeros((CHUNK + 4) * W, gy.dtype)
    for job in range(first, last):
        tile = _tile(job, batch, channels, W)
        if _is_next_tile(job, first, batch, channels, W):
            _coefficients(a, -1, tile, back, W)
            _coefficients(b, 1, tile, out, W)
        clear(window, 0, lags, W), clear(given, 0, lags, W)
        for begin in range(0, length, CHUNK):
            size, latest = min(CHUNK, length - begin), length - 1 - begin
            _read(gw, gw_layout, tile, past + latest, -1, size, signal, 0, W)
            if m:
                _read(gy, gy_layout, tile, latest, -1, size, given, lags, W)
            t = 0
            while t < size:
                now, steps, cut = lags + t, min(4, size - t), False
                if resets.size:
                    for j in range(steps):
                        if _is_reset(resets, tile, latest - t - j):
                            steps, cut = j + 1, True
                            break
                x0, x1, x2, x3 = _four(signal, t, W)
                if m:
                    x0, x1, x2, x3 = _filter(x0, x1, x2, x3, given, now, out, m, W)
                x0, x1, x2, x3 = _recur(x0, x1, x2, x3, window, now, back, n, W)
                _put(signal, t, steps, x0, x1, x2, x3, W)
                t += steps
                if cut:
                    _forget(resets, tile, latest - t + 1, window, lags + t, W)
                    _forget(resets, tile, latest - t + 1, given, lags + t, W)
            _write(lam, lam_layout, tile, past + latest, -1, size, signal, 0, W)
            _shift(window, size, lags, W)
            _shift(given, size, lags, W)
        _into_the_past(window, given, back, out, m, n, lags, gw, gw_layout, tile, past, lam, lam_layout, signal, W)


@inline
@no_type_check
def _products(x, at, w, now, way, sums, lags, W):
    """Add x_j w_(t_j - i) for four samples, the first at row ``at`` of x and ``now`` of w, to the sums over each lag i.

    ``way`` is 1 where the samples follow each other in time, -1 where they are in reverse.
    """
    x0, x1, x2, x3 = _four(x, at, W)
    if way < 0:
        x0, x1, x2, x3 = x3, x2, x1, x0
        now -= 3
    r1, r2, r3 = load(w, (now + 2) * W), load(w, (now + 1) * W), load(w, now * W)
    for lag in range(0, lags, 4):
        i, k = (now - lag) * W, lag * W
        r4, r5, r6, r7 = load(w, i - W), load(w, i - 2 * W), load(w, i - 3 * W), load(w, i - 4 * W)
        s0 = load(sums, k) + x0 * r4 + x1 * r3 + x2 * r2 + x3 * r1
        s1 = load(sums, k + W) + x0 * r5 + x1 * r4 + x2 * r3 + x3 * r2
        s2 = load(sums, k + 2 * W) + x0 * r6 + x1 * r5 + x2 * r4 + x3 * r3
        s3 = load(sums, k + 3 * W) + x0 * r7 + x1 * r6 + x2 * r5 + x3 * r4
        store(sums, k, s0), store(sums, k + W, s1), store(sums, k + 2 * W, s2), store(sums, k + 3 * W, s3)
        r1, r2, r3 = r5, r6, r7


@native
@no_type_check
def _total(sums, totals):
    """Sums over a chunk are in the working precision, their totals in float64: long signals stay accurate."""
    for i in range(sums.size):
        totals[i] += sums[i]
        sums[i] = 0


@native
@no_type_check
def _put_totals(totals, tile, products, sign, W):
    """Sums of a tile's lanes, those of one channel together, to ``products`` (lags, D)."""
    _, rows, c0, width = tile
    for lag in range(products.shape[0]):
        for c in range(width):
            total = 0.0
            for i in range(rows):
                total += totals[lag * W + i * width + c]
            products[lag, c0 + c] = sign * total


@native
@no_type_check
def lag_products(x, x_layout, w, w_layout, resets, past, products, sizes, first, last):
    """products_i = sum_t x_t w_(t-i), i = 1..m, each group of rows apart.

    x (B, L, D), w (B, past + L, D), products (groups, m, D).
    """
    batch, length, channels, W = sizes
    m = products.shape[1]
    lags = (m + 3) // 4 * 4
    window, signal = np.zeros((lags + CHUNK + 4) * W, x.dtype), np.zeros((CHUNK + 4) * W, x.dtype)
    later, four = np.zeros((CHUNK + 4) * W, x.dtype), np.zeros(4 * W, x.dtype)
    sums, totals = np.zeros(lags * W, x.dtype), np.zeros(lags * W, np.float64)
    for job in range(first, last):
        tile = _tile(job, batch, channels, W)
        clear(totals, 0, lags, W)
        clear(window, 0, lags, W)
        seen = min(past, lags)
        _read(w, w_layout, tile, past - seen, 1, seen, window, lags - seen, W)
        for begin in range(0, length, CHUNK):
            size = min(CHUNK, length - begin)
            _read(x, x_layout, tile, begin, 1, size, signal, 0, W)
            _read(w, w_layout, tile, past + begin, 1, size, later, 0, W)
            t = 0
            while t < size:
                steps = min(4, size - t)
                if resets.size:
                    _forget(resets, tile, begin + t, window, lags + t, W)
                    for j in range(1, steps):
                        if _is_reset(resets, tile, begin + t + j):
                            steps = j
                            break
                # What comes after the steps of this block is not multiplied, whatever it is.
                clear(four, 0, 4, W), clear(window, lags + t, lags + t + 4, W)
                for i in range(steps * W):
                    four[i], window[(lags + t) * W + i] = signal[t * W + i], later[t * W + i]
                _products(four, 0, window, lags + t, 1, sums, lags, W)
                t += steps
            _total(sums, totals)
            _shift(window, size, lags, W)
        _put_totals(totals, tile, products[job % len(products)], 1, W)


@native
@no_type_check
def gradients(
    gy, gy_layout, gw, gw_layout, u, u_layout, w, w_layout, b, a, h0, past,
    gu, gu_layout, gpast, gpast_layout, gb, ga, gh, sizes, first, last,
):  # fmt: skip
    """``adjoint`` and ``lag_products`` in one run over the signals, without resets: all gradients of ``scan``.

    gw (B, past + L, D) and gpast (B, past, D) may be empty; gb (groups, m, D), ga (groups, n, D), gh (groups, 1, D).
    """
    batch, length, channels, W = sizes
    m, n = b.shape[0], a.shape[0]
    lags = (max(m, n) + 3) // 4 * 4
    top = lags + 4
    back, out, through = np.empty(lags * W, gy.dtype), np.empty(lags * W, gy.dtype), np.empty(W, gy.dtype)
    window, given = np.zeros((lags + CHUNK + 4) * W, gy.dtype), np.zeros((lags + CHUNK + 4) * W, gy.dtype)
    signal, before = np.zeros((CHUNK + 4) * W, gy.dtype), np.zeros((top + CHUNK) * W, gy.dtype)
    sums_b, sums_a, sums_h = np.zeros(lags * W, gy.dtype), np.zeros(lags * W, gy.dtype), np.zeros(W, gy.dtype)
    totals_b, totals_a, totals_h = np.zeros(lags * W), np.zeros(lags * W), np.zeros(W)
    for job in range(first, last):
        tile = _tile(job, batch, channels, W)
        if _is_next_tile(job, first, batch, channels, W):
            _coefficients(a, -1, tile, back, W)
            _coefficients(b, 1, tile, out, W)
            _coefficients(h0, 1, tile, through, W)
        h = load(through, 0)
        clear(window, 0, lags, W), clear(given, 0, lags, W)
        clear(totals_b, 0, lags, W), clear(totals_a, 0, lags, W), clear(totals_h, 0, 1, W)
        for begin in range(0, length, CHUNK):
            size, latest = min(CHUNK, length - begin), length - 1 - begin
            if gw.size:
                _read(gw, gw_layout, tile, past + latest, -1, size, signal, 0, W)
            else:
                clear(signal, 0, size, W)
            _read(gy, gy_layout, tile, latest, -1, size, given, lags, W)
            clear(given, lags + size, lags + CHUNK + 4, W)
            for t in range(0, size, 4):
                now = lags + t
                x0, x1, x2, x3 = _four(signal, t, W)
                if m:
                    x0, x1, x2, x3 = _filter(x0, x1, x2, x3, given, now, out, m, W)
                x0, x1, x2, x3 = _recur(x0, x1, x2, x3, window, now, back, n, W)
                y0, y1, y2, y3 = _four(given, now, W)
                _put(signal, t, 4, x0 + h * y0, x1 + h * y1, x2 + h * y2, x3 + h * y3, W)
            _write(gu, gu_layout, tile, latest, -1, size, signal, 0, W)
            clear(window, lags + size, lags + CHUNK + 4, W)

            earliest = latest - size + 1 - top
            missing = max(-past - earliest, 0)
            clear(before, 0, missing, W)
            _read(w, w_layout, tile, past + earliest + missing, 1, top + size - missing, before, missing, W)
            for t in range(0, size, 4):
                if m:
                    _products(given, lags + t, before, top + size - 1 - t, -1, sums_b, lags, W)
                _products(window, lags + t, before, top + size - 1 - t, -1, sums_a, lags, W)
            _read(u, u_layout, tile, latest, -1, size, signal, 0, W)
            dot = load(sums_h, 0)
            for t in range(size):
                dot = dot + load(signal, t * W) * load(given, (lags + t) * W)
            store(sums_h, 0, dot)
            _total(sums_b, totals_b), _total(sums_a, totals_a), _total(sums_h, totals_h)
            _shift(window, size, lags, W)
            _shift(given, size, lags, W)
        group = job % len(gh)
        _put_totals(totals_b, tile, gb[group], 1, W)
        _put_totals(totals_a, tile, ga[group], -1, W)
        _put_totals(totals_h, tile, gh[group], 1, W)
        if gpast.size:
            _into_the_past(
                window, given, back, out, m, n, lags, gw, gw_layout, tile, past, gpast, gpast_layout, signal, W
            )


@native
@no_type_check
def tail(a, length, samples, sizes, first, last):
    """The last samples before ``length`` of the impulse response of 1/A(z)^power: samples (D, count), a (n, D)."""
    power, channels, W = sizes
    n, count = a.shape[0], samples.shape[1]
    lags = max(n, 3)
    rows = (lags + CHUNK + 4) * W
    back, signal, windows = (
        np.empty(lags * W, a.dtype),
        np.zeros((CHUNK + 4) * W, a.dtype),
        np.zeros((power, rows), a.dtype),
    )
    for job in range(first, last):
        tile = 0, 1, job * W, min(W, channels - job * W)
        _coefficients(a, -1, tile, back, W)
        windows[:] = 0
        for begin in range(0, length, CHUNK):
            size = min(CHUNK, length - begin)
            clear(signal, 0, CHUNK + 4, W)
            if begin == 0:
                signal[:W] = 1
            for factor in range(power):
                window = windows[factor]
                for t in range(0, size, 4):
                    x0, x1, x2, x3 = _four(signal, t, W)
                    x0, x1, x2, x3 = _recur(x0, x1, x2, x3, window, lags + t, back, n, W)
                    _put(signal, t, 4, x0, x1, x2, x3, W)
                _shift(window, size, lags, W)
            for t in range(max(length - count - begin, 0), size):
                for c in range(tile[3]):
                    samples[job * W + c, begin + t - (length - count)] = signal[t * W + c]
