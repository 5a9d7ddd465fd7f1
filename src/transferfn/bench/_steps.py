"""The steps of all forms of one filter over a whole signal in float32, as Numba loops.

``narrow`` tells whether the state is rounded to bfloat16 after each sample. Imported on first use.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit


@njit(error_model="numpy")
@no_type_check
def _kept(x, narrow, number, bits):
    """A state as it is kept: as it is, or rounded to bfloat16, to nearest and to even."""
    if not narrow or not np.isfinite(x):
        return x
    number[0] = x
    odd = (bits[0] >> np.uint32(16)) & np.uint32(1)
    bits[0] = (bits[0] + np.uint32(0x7FFF) + odd) & np.uint32(0xFFFF0000)
    return number[0]


@njit(error_model="numpy")
@no_type_check
def direct(u, b, a, h0, narrow, y):
    """The companion recurrence."""
    number = np.empty(1, np.float32)
    bits = number.view(np.uint32)
    n = len(a)
    x = np.zeros(n, np.float32)
    for t in range(len(u)):
        back, out = np.float32(0), np.float32(0)
        for i in range(n):
            back += a[i] * x[i]
            out += b[i] * x[i]
        y[t] = h0[0] * u[t] + out
        for i in range(n - 1, 0, -1):
            x[i] = x[i - 1]
        x[0] = _kept(u[t] - back, narrow, number, bits)


@njit(error_model="numpy")
@no_type_check
def sections(u, b, a, h0, narrow, y):
    """Sections of order 2 one after the other; b and a (S, 2)."""
    number = np.empty(1, np.float32)
    bits = number.view(np.uint32)
    x = np.zeros(a.shape, np.float32)
    for t in range(len(u)):
        value = u[t]
        for s in range(len(a)):
            w = value - (a[s, 0] * x[s, 0] + a[s, 1] * x[s, 1])
            value = h0[s] * value + (b[s, 0] * x[s, 0] + b[s, 1] * x[s, 1])
            x[s, 1] = x[s, 0]
            x[s, 0] = _kept(w, narrow, number, bits)
        y[t] = value


@njit(error_model="numpy")
@no_type_check
def modal(u, A, B, C, D, narrow, y):
    """Modes in parallel, real and imaginary parts in pairs (N, 2)."""
    number = np.empty(1, np.float32)
    bits = number.view(np.uint32)
    x = np.zeros(A.shape, np.float32)
    for t in range(len(u)):
        total = np.float32(0)
        for i in range(len(A)):
            real = A[i, 0] * x[i, 0] - A[i, 1] * x[i, 1] + B[i, 0] * u[t]
            imag = A[i, 0] * x[i, 1] + A[i, 1] * x[i, 0] + B[i, 1] * u[t]
            total += C[i, 0] * real - C[i, 1] * imag
            x[i, 0] = _kept(real, narrow, number, bits)
            x[i, 1] = _kept(imag, narrow, number, bits)
        y[t] = np.float32(2) * total + D[0] * u[t]


@njit(error_model="numpy")
@no_type_check
def lattice(u, k, c, v, h0, narrow, y):
    """The normalised lattice."""
    number = np.empty(1, np.float32)
    bits = number.view(np.uint32)
    n = len(k)
    x = np.zeros(n, np.float32)
    for t in range(len(u)):
        forward = u[t]
        out = h0[0] * forward
        for m in range(n - 1, -1, -1):
            backward = x[m]
            out += v[m] * backward
            if m + 1 < n:
                x[m + 1] = _kept(k[m] * forward + c[m] * backward, narrow, number, bits)
            forward = c[m] * forward - k[m] * backward
        x[0] = _kept(forward, narrow, number, bits)
        y[t] = out
