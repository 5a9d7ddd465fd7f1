"""The step-down recursion of denominators as a Numba loop. Imported on first use."""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from transferfn.kernels._compile import native


@native
@no_type_check
def noise_gain(a):
    """The largest (1 + sum|a_i|) / (prod 1 - k_j^2)^(1/2) of the stable rows of a, (rows, n), and whether all are.

    It is 0 if none is.
    """
    rows, n = a.shape
    head, lower = np.empty(n), np.empty(n)
    worst, stable = 0.0, True
    for row in range(rows):
        total, power = 1.0, 1.0
        for i in range(n):
            head[i] = a[row, i]
            total += abs(head[i])
        for m in range(n - 1, -1, -1):
            k = head[m]
            if not abs(k) < 1:
                power, stable = 0.0, False
                break
            scale = 1 / (1 - k * k)
            power *= scale
            for i in range(m):
                lower[i] = (head[i] - k * head[m - 1 - i]) * scale
            head, lower = lower, head
        worst = max(worst, total * np.sqrt(power))
    return worst, stable
