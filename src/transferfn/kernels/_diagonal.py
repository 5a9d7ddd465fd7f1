"""The diagonal recurrence over complex states and its adjoint, as Numba loops. Imported on first use.

Complex numbers are pairs of a real and an imaginary part along the last axis. States are kept in float64 whatever the
signals are: a multiplier near the unit circle, rounded to float32, loses four digits over ten thousand samples.

A job takes up to ``TILE`` states of one row.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from transferfn.kernels._compile import native

TILE = 64


@native
@no_type_check
def scan(v, a, state, cut, reverse, x, first, last):
    """x_t = a x_(t-1) + v_t for v and x (B, L, 2 P), a (2 P) and state (B, 2 P); state and cut (B, L) may be empty."""
    _, length, width = v.shape
    states = width // 2
    tiles = (states + TILE - 1) // TILE
    ar, ai, re, im = np.empty(TILE), np.empty(TILE), np.empty(TILE), np.empty(TILE)
    for job in range(first, last):
        row, p0 = job // tiles, job % tiles * TILE
        count = min(TILE, states - p0)
        for p in range(count):
            ar[p], ai[p] = a[2 * (p0 + p)], a[2 * (p0 + p) + 1]
            re[p], im[p] = 0, 0
            if state.size:
                re[p], im[p] = state[row, 2 * (p0 + p)], state[row, 2 * (p0 + p) + 1]
        for i in range(length):
            t = length - 1 - i if reverse else i
            if cut.size and cut[row, t]:
                re[:count] = 0
                im[:count] = 0
            source, to = v[row, t, 2 * p0 :], x[row, t, 2 * p0 :]
            for p in range(count):
                real = ar[p] * re[p] - ai[p] * im[p] + source[2 * p]
                imag = ar[p] * im[p] + ai[p] * re[p] + source[2 * p + 1]
                re[p], im[p] = real, imag
                to[2 * p], to[2 * p + 1] = real, imag


@native
@no_type_check
def adjoint(gx, a, x, state, cut, reverse, gv, ga, gstate, first, last):
    """The adjoint of ``scan``: gv, and for each row ga and, if it is not empty, gstate.

    gv_t = gx_t + conj(a) gv_(t+1), ga = sum_t gv_t conj(x_(t-1)), gstate = conj(a) gv_0, none of it across a cut.
    """
    _, length, width = gx.shape
    states = width // 2
    tiles = (states + TILE - 1) // TILE
    ar, ai, re, im = np.empty(TILE), np.empty(TILE), np.empty(TILE), np.empty(TILE)
    sr, si, none = np.empty(TILE), np.empty(TILE), np.zeros(2 * TILE, x.dtype)
    for job in range(first, last):
        row, p0 = job // tiles, job % tiles * TILE
        count = min(TILE, states - p0)
        for p in range(count):
            ar[p], ai[p] = a[2 * (p0 + p)], a[2 * (p0 + p) + 1]
            re[p], im[p], sr[p], si[p] = 0, 0, 0, 0
        for i in range(length - 1, -1, -1):
            t = length - 1 - i if reverse else i
            before = none
            if i > 0:
                before = x[row, t + 1 if reverse else t - 1, 2 * p0 :]
            elif state.size:
                before = state[row, 2 * p0 :]
            source, to = gx[row, t, 2 * p0 :], gv[row, t, 2 * p0 :]
            is_cut = cut.size > 0 and cut[row, t]
            for p in range(count):  # re and im hold what the next sample gives to this one
                real, imag = re[p] + source[2 * p], im[p] + source[2 * p + 1]
                to[2 * p], to[2 * p + 1] = real, imag
                re[p], im[p] = ar[p] * real + ai[p] * imag, ar[p] * imag - ai[p] * real
                if not is_cut:
                    br, bi = before[2 * p], before[2 * p + 1]
                    sr[p] += real * br + imag * bi
                    si[p] += imag * br - real * bi
            if is_cut:
                re[:count] = 0
                im[:count] = 0
        for p in range(count):
            ga[row, 2 * (p0 + p)], ga[row, 2 * (p0 + p) + 1] = sr[p], si[p]
            if gstate.size:
                gstate[row, 2 * (p0 + p)], gstate[row, 2 * (p0 + p) + 1] = re[p], im[p]
