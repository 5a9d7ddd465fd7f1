"""One sample of a cascade of sections and of a normalised lattice, and chunks of that. Imported on first use."""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from transferfn.kernels._compile import native

TILE = 16  # channels that go through a lattice side by side


@native
@no_type_check
def sections(u, x, b, a, h0, y, after):
    """Each section takes in what the one before it gives: w = u - a . x, y = h0 u + b . x; x (B, D, S, 2).

    Returns whether every w is finite.
    """
    finite = True
    for row in range(u.shape[0]):
        for d in range(u.shape[1]):
            value = u[row, d]
            for s in range(x.shape[2]):
                first, second = x[row, d, s, 0], x[row, d, s, 1]
                w = value - (a[d, s, 0] * first + a[d, s, 1] * second)
                value = h0[d, s] * value + (b[d, s, 0] * first + b[d, s, 1] * second)
                after[row, d, s, 0], after[row, d, s, 1] = w, first
                finite = finite and np.isfinite(w)
            y[row, d] = value
    return finite


@native
@no_type_check
def lattice(u, x, k, c, v, h0, y, after):
    """Turn the forward and the backward signal by an angle at each stage, from the last to the first; x (B, D, n).

    Returns whether every forward signal is finite.
    """
    n = x.shape[2]
    members = u.shape[1] // max(k.shape[0], 1)
    finite = True
    for row in range(u.shape[0]):
        for d in range(u.shape[1]):
            g = d // members
            forward = u[row, d]
            out = h0[d] * forward
            for m in range(n - 1, -1, -1):
                backward = x[row, d, m]
                out += v[d, m] * backward
                if m + 1 < n:
                    after[row, d, m + 1] = k[g, m] * forward + c[g, m] * backward
                forward = c[g, m] * forward - k[g, m] * backward
            if n:
                after[row, d, 0] = forward
            y[row, d] = out
            finite = finite and np.isfinite(forward)
    return finite


@native
@no_type_check
def lattice_chunk(u, x, k, c, v, h0, ends, resets, y, after, first, last):
    """The same for samples u (B, L, D) up to the ends, (B) or none at all, cleared before resets, (B, L) or none.

    A job takes the samples of a row and of ``TILE`` channels.
    """
    length, channels, n = u.shape[1], u.shape[2], x.shape[2]
    tiles = (channels + TILE - 1) // TILE
    members = channels // max(k.shape[0], 1)
    sines, cosines, taps, state = np.zeros((n, TILE)), np.zeros((n, TILE)), np.zeros((n, TILE)), np.zeros((n, TILE))
    forward, out, through = np.zeros(TILE), np.zeros(TILE), np.zeros(TILE)
    for job in range(first, last):
        row, c0 = job // tiles, job % tiles * TILE
        width = min(TILE, channels - c0)
        for i in range(width):
            through[i] = h0[c0 + i]
            for m in range(n):
                sines[m, i], cosines[m, i] = k[(c0 + i) // members, m], c[(c0 + i) // members, m]
                taps[m, i], state[m, i] = v[c0 + i, m], x[row, c0 + i, m]
        end = min(ends[row], length) if ends.size else length
        for t in range(end):
            if resets.size and resets[row, t]:
                state[:] = 0
            for i in range(width):
                forward[i] = u[row, t, c0 + i]
                out[i] = through[i] * forward[i]
            for m in range(n - 1, -1, -1):
                for i in range(TILE):
                    ahead, back = forward[i], state[m, i]
                    out[i] += taps[m, i] * back
                    forward[i] = cosines[m, i] * ahead - sines[m, i] * back
                    if m + 1 < n:
                        state[m + 1, i] = sines[m, i] * ahead + cosines[m, i] * back
            if n:
                state[0] = forward
            for i in range(width):
                y[row, t, c0 + i] = out[i]
        for t in range(end, length):
            for i in range(width):
                y[row, t, c0 + i] = 0
        for i in range(width):
            for m in range(n):
                after[row, c0 + i, m] = state[m, i]
