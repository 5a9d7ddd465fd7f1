"""The recurrence, its adjoint and its lag products as Numba loops. Imported on first use: Numba takes its time.

All arrays are contiguous with channels last. A job is a batch row and a tile of channels; its innermost loops run over
the tile, so that they vectorise, and four time steps by four lags are held in registers at once. Each job works in a
window of its own: the last samples, as far back as the lags reach, and the chunk under way. A reset clears that window.

``w`` is preceded by the ``past`` samples before the signal, oldest first. ``resets`` is (B, L), or (0, 0) for none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import no_type_check

import numpy as np
from numba import njit

TILE = 32  # channels of a job
CHUNK = 256  # samples between two shifts of the window


def _native(loop: Callable) -> Callable:
    return njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})(loop)


@_native
@no_type_check  # checks that a test hook inserts would not compile
def _groups_of_four(lags):
    """How many groups of four lags come after the first three."""
    return (max(lags - 3, 0) + 3) // 4


@_native
@no_type_check
def _shift(window, rows):
    for r in range(rows):
        for c in range(TILE):
            window[r, c] = window[r + CHUNK, c]


@_native
@no_type_check
def _steps_until_reset(resets, row, t, steps):
    """How many of the next steps come before another reset."""
    if resets.size:
        for j in range(1, steps):
            if resets[row, t + j]:
                return j
    return steps


@_native
@no_type_check
def scan(u, b, a, h0, resets, past, y, w, first, last):
    """w_t = u_t - sum_i a_i w_(t-i) and y_t = h0 u_t + sum_i b_i w_(t-i), the latter only where b has rows.

    u (B, L, D), b (m, D), a (n, D), h0 (D), y (B, L, D), w (B, past + L, D) with its past filled in.
    """
    length, channels = u.shape[1], u.shape[2]
    m, n = b.shape[0], a.shape[0]
    tiles = (channels + TILE - 1) // TILE
    groups = _groups_of_four(max(m, n))
    lags = 3 + 4 * groups
    back = np.zeros((lags, TILE), u.dtype)
    out = np.zeros((lags, TILE), u.dtype)
    through = np.zeros(TILE, u.dtype)
    top = lags + 1
    win = np.zeros((top + CHUNK + 4, TILE), u.dtype)
    sums = np.zeros((8, TILE), u.dtype)
    for job in range(first, last):
        row, c0 = job // tiles, (job % tiles) * TILE
        width = min(TILE, channels - c0)
        for c in range(width):
            through[c] = h0[c0 + c]
            for i in range(n):
                back[i, c] = -a[i, c0 + c]
            for i in range(m):
                out[i, c] = b[i, c0 + c]
        win[:top] = 0
        for i in range(min(past, lags)):
            for c in range(width):
                win[top - 1 - i, c] = w[row, past - 1 - i, c0 + c]
        for begin in range(0, length, CHUNK):
            size = min(CHUNK, length - begin)
            if begin:
                _shift(win, top)
            t = 0
            while t < size:
                steps = _steps_until_reset(resets, row, begin + t, min(4, size - t))
                if resets.size and resets[row, begin + t]:
                    win[: top + t] = 0
                for j in range(steps):
                    for c in range(width):
                        sums[j, c] = u[row, begin + t + j, c0 + c]
                        sums[4 + j, c] = through[c] * sums[j, c]
                now = top + t
                for g in range(groups):
                    i = 3 + 4 * g
                    for c in range(TILE):
                        w0, w1, w2, w3 = (
                            win[now - i - 4, c],
                            win[now - i - 3, c],
                            win[now - i - 2, c],
                            win[now - i - 1, c],
                        )
                        w4, w5, w6 = win[now - i, c], win[now - i + 1, c], win[now - i + 2, c]
                        a0, a1, a2, a3 = back[i, c], back[i + 1, c], back[i + 2, c], back[i + 3, c]
                        b0, b1, b2, b3 = out[i, c], out[i + 1, c], out[i + 2, c], out[i + 3, c]
                        sums[0, c] += a0 * w3 + a1 * w2 + a2 * w1 + a3 * w0
                        sums[1, c] += a0 * w4 + a1 * w3 + a2 * w2 + a3 * w1
                        sums[2, c] += a0 * w5 + a1 * w4 + a2 * w3 + a3 * w2
                        sums[3, c] += a0 * w6 + a1 * w5 + a2 * w4 + a3 * w3
                        sums[4, c] += b0 * w3 + b1 * w2 + b2 * w1 + b3 * w0
                        sums[5, c] += b0 * w4 + b1 * w3 + b2 * w2 + b3 * w1
                        sums[6, c] += b0 * w5 + b1 * w4 + b2 * w3 + b3 * w2
                        sums[7, c] += b0 * w6 + b1 * w5 + b2 * w4 + b3 * w3
                for c in range(TILE):
                    w1, w2, w3 = win[now - 1, c], win[now - 2, c], win[now - 3, c]
                    a1, a2, a3 = back[0, c], back[1, c], back[2, c]
                    b1, b2, b3 = out[0, c], out[1, c], out[2, c]
                    x0 = sums[0, c] + a1 * w1 + a2 * w2 + a3 * w3
                    x1 = sums[1, c] + a1 * x0 + a2 * w1 + a3 * w2
                    x2 = sums[2, c] + a1 * x1 + a2 * x0 + a3 * w1
                    x3 = sums[3, c] + a1 * x2 + a2 * x1 + a3 * x0
                    win[now, c], win[now + 1, c], win[now + 2, c], win[now + 3, c] = x0, x1, x2, x3
                    sums[4, c] += b1 * w1 + b2 * w2 + b3 * w3
                    sums[5, c] += b1 * x0 + b2 * w1 + b3 * w2
                    sums[6, c] += b1 * x1 + b2 * x0 + b3 * w1
                    sums[7, c] += b1 * x2 + b2 * x1 + b3 * x0
                for j in range(steps):
                    for c in range(width):
                        w[row, past + begin + t + j, c0 + c] = win[now + j, c]
                    if m:
                        for c in range(width):
                            y[row, begin + t + j, c0 + c] = sums[4 + j, c]
                t += steps


@_native
@no_type_check
def adjoint(gy, gw, b, a, resets, past, lam, first, last):
    """lam_t = gw_t + sum_i b_i gy_(t+i) - sum_i a_i lam_(t+i), run backwards in time and on into the past samples.

    gy (B, L, D), gw and lam (B, past + L, D), b (m, D), a (n, D). Windows and blocks are those of ``scan``, in reverse.
    """
    length, channels = gy.shape[1], gy.shape[2]
    m, n = b.shape[0], a.shape[0]
    tiles = (channels + TILE - 1) // TILE
    groups = _groups_of_four(max(m, n))
    lags = 3 + 4 * groups
    back = np.zeros((lags, TILE), gy.dtype)
    out = np.zeros((lags, TILE), gy.dtype)
    top = lags + 1
    win = np.zeros((top + CHUNK + 4, TILE), gy.dtype)
    given = np.zeros((top + CHUNK + 4, TILE), gy.dtype)
    sums = np.zeros((4, TILE), gy.dtype)
    for job in range(first, last):
        row, c0 = job // tiles, (job % tiles) * TILE
        width = min(TILE, channels - c0)
        for c in range(width):
            for i in range(n):
                back[i, c] = -a[i, c0 + c]
            for i in range(m):
                out[i, c] = b[i, c0 + c]
        win[:top] = 0
        given[:top] = 0
        end = top  # the row after the newest one
        for begin in range(0, length, CHUNK):
            size = min(CHUNK, length - begin)
            if begin:
                _shift(win, top)
                _shift(given, top)
            t = 0
            while t < size:
                time = length - 1 - begin - t
                steps = min(4, size - t)
                cleared = False
                if resets.size:
                    for j in range(steps):
                        if resets[row, time - j]:
                            steps = j + 1
                            cleared = True
                            break
                now = top + t
                for j in range(steps):
                    for c in range(width):
                        sums[j, c] = gw[row, past + time - j, c0 + c]
                        given[now + j, c] = gy[row, time - j, c0 + c]
                for g in range(groups):
                    i = 3 + 4 * g
                    for c in range(TILE):
                        w0, w1, w2, w3 = (
                            win[now - i - 4, c],
                            win[now - i - 3, c],
                            win[now - i - 2, c],
                            win[now - i - 1, c],
                        )
                        w4, w5, w6 = win[now - i, c], win[now - i + 1, c], win[now - i + 2, c]
                        a0, a1, a2, a3 = back[i, c], back[i + 1, c], back[i + 2, c], back[i + 3, c]
                        sums[0, c] += a0 * w3 + a1 * w2 + a2 * w1 + a3 * w0
                        sums[1, c] += a0 * w4 + a1 * w3 + a2 * w2 + a3 * w1
                        sums[2, c] += a0 * w5 + a1 * w4 + a2 * w3 + a3 * w2
                        sums[3, c] += a0 * w6 + a1 * w5 + a2 * w4 + a3 * w3
                    for c in range(TILE):
                        w0, w1, w2 = given[now - i - 4, c], given[now - i - 3, c], given[now - i - 2, c]
                        w3, w4, w5 = given[now - i - 1, c], given[now - i, c], given[now - i + 1, c]
                        w6 = given[now - i + 2, c]
                        b0, b1, b2, b3 = out[i, c], out[i + 1, c], out[i + 2, c], out[i + 3, c]
                        sums[0, c] += b0 * w3 + b1 * w2 + b2 * w1 + b3 * w0
                        sums[1, c] += b0 * w4 + b1 * w3 + b2 * w2 + b3 * w1
                        sums[2, c] += b0 * w5 + b1 * w4 + b2 * w3 + b3 * w2
                        sums[3, c] += b0 * w6 + b1 * w5 + b2 * w4 + b3 * w3
                for c in range(TILE):
                    w1, w2, w3 = win[now - 1, c], win[now - 2, c], win[now - 3, c]
                    y1, y2, y3 = given[now - 1, c], given[now - 2, c], given[now - 3, c]
                    y4, y5, y6 = given[now, c], given[now + 1, c], given[now + 2, c]
                    a1, a2, a3 = back[0, c], back[1, c], back[2, c]
                    b1, b2, b3 = out[0, c], out[1, c], out[2, c]
                    x0 = sums[0, c] + b1 * y1 + b2 * y2 + b3 * y3 + a1 * w1 + a2 * w2 + a3 * w3
                    x1 = sums[1, c] + b1 * y4 + b2 * y1 + b3 * y2 + a1 * x0 + a2 * w1 + a3 * w2
                    x2 = sums[2, c] + b1 * y5 + b2 * y4 + b3 * y1 + a1 * x1 + a2 * x0 + a3 * w1
                    x3 = sums[3, c] + b1 * y6 + b2 * y5 + b3 * y4 + a1 * x2 + a2 * x1 + a3 * x0
                    win[now, c], win[now + 1, c], win[now + 2, c], win[now + 3, c] = x0, x1, x2, x3
                for j in range(steps):
                    for c in range(width):
                        lam[row, past + time - j, c0 + c] = win[now + j, c]
                t += steps
                end = now + steps
                if cleared:
                    win[:end] = 0
                    given[:end] = 0
        # Samples of the past are inputs of the recurrence: they gather from the signal, not from each other.
        for k in range(1, past + 1):
            for c in range(width):
                sums[0, c] = gw[row, past - k, c0 + c]
            for i in range(k, min(lags, max(m, n)) + 1):
                r = end - 1 - (i - k)
                for c in range(width):
                    sums[0, c] += out[i - 1, c] * given[r, c] + back[i - 1, c] * win[r, c]
            for c in range(width):
                lam[row, past - k, c0 + c] = sums[0, c]


@_native
@no_type_check
def lag_products(x, w, resets, past, products, first, last):
    """products_i = sum_t x_t w_(t-i), i = 1..m, each batch row apart.

    x (B, L, D), w (B, past + L, D), products (B, m, D).
    """
    length, channels = x.shape[1], x.shape[2]
    m = products.shape[1]
    tiles = (channels + TILE - 1) // TILE
    groups = (m + 3) // 4
    lags = 4 * groups
    top = lags + 1
    win = np.zeros((top + CHUNK + 4, TILE), x.dtype)
    at = np.zeros((4, TILE), x.dtype)
    # Sums over a chunk in the working precision, their totals in float64: long signals stay accurate.
    short = np.zeros((lags, TILE), x.dtype)
    total = np.zeros((lags, TILE), np.float64)
    for job in range(first, last):
        row, c0 = job // tiles, (job % tiles) * TILE
        width = min(TILE, channels - c0)
        total[:] = 0
        win[:top] = 0
        for i in range(min(past, lags)):
            for c in range(width):
                win[top - 1 - i, c] = w[row, past - 1 - i, c0 + c]
        for begin in range(0, length, CHUNK):
            size = min(CHUNK, length - begin)
            if begin:
                _shift(win, top)
            t = 0
            while t < size:
                steps = _steps_until_reset(resets, row, begin + t, min(4, size - t))
                if resets.size and resets[row, begin + t]:
                    win[: top + t] = 0
                now = top + t
                at[:] = 0
                for j in range(steps):
                    for c in range(width):
                        at[j, c] = x[row, begin + t + j, c0 + c]
                        win[now + j, c] = w[row, past + begin + t + j, c0 + c]
                for j in range(steps, 4):
                    for c in range(TILE):
                        win[now + j, c] = 0
                for g in range(groups):
                    i = 4 * g
                    for c in range(TILE):
                        w0, w1, w2, w3 = (
                            win[now - i - 4, c],
                            win[now - i - 3, c],
                            win[now - i - 2, c],
                            win[now - i - 1, c],
                        )
                        w4, w5, w6 = win[now - i, c], win[now - i + 1, c], win[now - i + 2, c]
                        x0, x1, x2, x3 = at[0, c], at[1, c], at[2, c], at[3, c]
                        short[i, c] += x0 * w3 + x1 * w4 + x2 * w5 + x3 * w6
                        short[i + 1, c] += x0 * w2 + x1 * w3 + x2 * w4 + x3 * w5
                        short[i + 2, c] += x0 * w1 + x1 * w2 + x2 * w3 + x3 * w4
                        short[i + 3, c] += x0 * w0 + x1 * w1 + x2 * w2 + x3 * w3
                t += steps
            for i in range(lags):
                for c in range(TILE):
                    total[i, c] += short[i, c]
                    short[i, c] = 0
        for i in range(m):
            for c in range(width):
                products[row, i, c0 + c] = total[i, c]
