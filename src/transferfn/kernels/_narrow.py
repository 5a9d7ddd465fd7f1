"""Products of few rows with a matrix of bytes, as a Numba loop. Imported on first use."""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from transferfn.kernels._compile import native


@no_type_check
def _product(x, weight, scale, y, first, last):
    """Put y_ro = scale_o sum_i weight_oi x_ri for outputs first..last; x (R, I), weight (O, I), y (R, O).

    A row of weights stays in the nearest cache while all rows of x are multiplied with it.
    """
    rows, inputs = x.shape
    for o in range(first, last):
        for r in range(rows):
            total = np.float32(0)
            for i in range(inputs):
                total += np.float32(weight[o, i]) * x[r, i]
            y[r, o] = scale[o] * total


product = native(
    _product, fastmath=frozenset({"contract", "reassoc"})
)  # sums may be cut into as many as fit a register
