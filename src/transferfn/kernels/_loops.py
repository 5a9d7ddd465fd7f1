"""The recurrence, its adjoint and its lag products as Numba loops. Imported on first use: Numba takes its time.

All arrays are contiguous, time before channels, so that the innermost loops run over neighbouring channels and
vectorise. ``w`` is preceded by the ``past`` samples before the chunk, oldest first. A reset at sample t hides all
earlier samples from t on. Jobs are pairs of a batch row and a tile of channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import no_type_check

import numpy as np
from numba import njit

TILE = 32  # channels of a job: their lags fit the first-level cache at any order up to about 128


def _native(loop: Callable) -> Callable:
    return njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})(loop)


@_native
@no_type_check  # checks inserted by a test hook do not compile
def scan(u, b, a, h0, resets, past, y, w, first, last):
    """w_t = u_t - sum_i a_i w_(t-i) and y_t = h0 u_t + sum_i b_i w_(t-i), the latter only where b has rows.

    u (B, L, D), b (m, D), a (n, D), h0 (D), resets (B, L) or (0, 0), w (B, past + L, D) with its past filled in.
    """
    length, channels = u.shape[1], u.shape[2]
    m, n = b.shape[0], a.shape[0]
    tiles = (channels + TILE - 1) // TILE
    for job in range(first, last):
        row, c0 = job // tiles, (job % tiles) * TILE
        c1 = min(c0 + TILE, channels)
        width = c1 - c0
        total = np.zeros(TILE, u.dtype)
        start = -past
        for t in range(length):
            if resets.size and resets[row, t]:
                start = t
            now = past + t
            for c in range(width):
                total[c] = u[row, t, c0 + c]
            lags = min(n, t - start)
            i = 0
            while i + 4 <= lags:
                for c in range(width):
                    k = c0 + c
                    total[c] -= (
                        a[i, k] * w[row, now - 1 - i, k]
                        + a[i + 1, k] * w[row, now - 2 - i, k]
                        + a[i + 2, k] * w[row, now - 3 - i, k]
                        + a[i + 3, k] * w[row, now - 4 - i, k]
                    )
                i += 4
            while i < lags:
                for c in range(width):
                    total[c] -= a[i, c0 + c] * w[row, now - 1 - i, c0 + c]
                i += 1
            for c in range(width):
                w[row, now, c0 + c] = total[c]
            if m == 0:
                continue
            for c in range(width):
                total[c] = h0[c0 + c] * u[row, t, c0 + c]
            lags = min(m, t - start)
            i = 0
            while i + 4 <= lags:
                for c in range(width):
                    k = c0 + c
                    total[c] += (
                        b[i, k] * w[row, now - 1 - i, k]
                        + b[i + 1, k] * w[row, now - 2 - i, k]
                        + b[i + 2, k] * w[row, now - 3 - i, k]
                        + b[i + 3, k] * w[row, now - 4 - i, k]
                    )
                i += 4
            while i < lags:
                for c in range(width):
                    total[c] += b[i, c0 + c] * w[row, now - 1 - i, c0 + c]
                i += 1
            for c in range(width):
                y[row, t, c0 + c] = total[c]


@_native
@no_type_check  # checks inserted by a test hook do not compile
def adjoint(gy, gw, b, a, resets, past, lam, first, last):
    """lam_t = gw_t + sum_i b_i gy_(t+i) - sum_i a_i lam_(t+i), run backwards in time and on into the past samples.

    gy (B, L, D), gw and lam (B, past + L, D), b (m, D), a (n, D), resets (B, L) or (0, 0).
    """
    length, channels = gy.shape[1], gy.shape[2]
    m, n = b.shape[0], a.shape[0]
    tiles = (channels + TILE - 1) // TILE
    for job in range(first, last):
        row, c0 = job // tiles, (job % tiles) * TILE
        c1 = min(c0 + TILE, channels)
        width = c1 - c0
        total = np.zeros(TILE, gy.dtype)
        end = length
        for t in range(length - 1, -past - 1, -1):
            now = past + t
            for c in range(width):
                total[c] = gw[row, now, c0 + c]
            # Samples of the past are inputs of the recurrence: they gather from samples of the chunk only.
            lowest = max(1, -t)
            highest = min(n, end - 1 - t)
            for i in range(lowest, highest + 1):
                for c in range(width):
                    total[c] -= a[i - 1, c0 + c] * lam[row, now + i, c0 + c]
            highest = min(m, end - 1 - t)
            for i in range(lowest, highest + 1):
                for c in range(width):
                    total[c] += b[i - 1, c0 + c] * gy[row, t + i, c0 + c]
            for c in range(width):
                lam[row, now, c0 + c] = total[c]
            if t >= 0 and resets.size and resets[row, t]:
                end = t


@_native
@no_type_check  # checks inserted by a test hook do not compile
def lag_products(x, w, resets, past, products, first, last):
    """products_i = sum_t x_t w_(t-i), each batch row apart.

    x (B, L, D), w (B, past + L, D), products (B, m, D).
    """
    length, channels = x.shape[1], x.shape[2]
    m = products.shape[1]
    tiles = (channels + TILE - 1) // TILE
    chunk = 256
    for job in range(first, last):
        row, c0 = job // tiles, (job % tiles) * TILE
        c1 = min(c0 + TILE, channels)
        width = c1 - c0
        # Short sums in the working precision, their totals in float64: long signals stay accurate.
        total = np.zeros((m, TILE), np.float64)
        short = np.zeros((m, TILE), x.dtype)
        start = -past
        for begin in range(0, length, chunk):
            for t in range(begin, min(begin + chunk, length)):
                if resets.size and resets[row, t]:
                    start = t
                now = past + t
                for i in range(min(m, t - start)):
                    for c in range(width):
                        short[i, c] += x[row, t, c0 + c] * w[row, now - 1 - i, c0 + c]
            for i in range(m):
                for c in range(width):
                    total[i, c] += short[i, c]
                    short[i, c] = 0
        for i in range(m):
            for c in range(width):
                products[row, i, c0 + c] = total[i, c]
