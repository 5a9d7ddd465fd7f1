"""One sample of a cascade of sections and of a normalised lattice, as Numba loops. Imported on first use."""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from transferfn.kernels._compile import native


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
