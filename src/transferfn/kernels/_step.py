"""One sample of the recurrence as a Numba loop. Imported on first use."""

from __future__ import annotations

from functools import partial
from typing import no_type_check

import numpy as np

from transferfn.kernels._compile import native


@partial(native, fastmath=frozenset({"contract", "reassoc", "nsz"}))
@no_type_check
def step(u, x, b, a, h0, y, after, overflow, first, last):
    """Put w = u - a . x, y = h0 u + b . x, after = (w, x_1, ..., x_(n-1)); u (B, D), x (B, D, n), a (G, n)."""
    channels, n = b.shape
    members = channels // a.shape[0]
    for job in range(first, last):
        row, d = job // channels, job % channels
        group = d // members
        w, out = u[row, d], h0[d] * u[row, d]
        # The last sample is weighted, but not kept; sums in one run over the state, which vectorises.
        for i in range(n - 1):
            value = x[row, d, i]
            w -= a[group, i] * value
            out += b[d, i] * value
            after[row, d, i + 1] = value
        if n:
            w -= a[group, n - 1] * x[row, d, n - 1]
            out += b[d, n - 1] * x[row, d, n - 1]
            after[row, d, 0] = w
        y[row, d] = out
        if not np.isfinite(w):
            overflow[0] = True
