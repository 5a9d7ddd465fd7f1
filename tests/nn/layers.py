"""Small RTF layers to look at closely, in float64 unless asked otherwise."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy import signal as scipy_signal
from torch import Tensor

from laws.filters import step_up
from transferfn.nn import RTF

D, N, P = 4, 3, 20
F64 = torch.float64
untyped = pytest.mark.compile  # without the type-checking hook, which would speak first


def make(**options: Any) -> RTF:
    torch.manual_seed(0)
    options = {"horizon": P, "dtype": F64, "init": reflections} | options
    return RTF(D, N, **options)


def reflections(
    channels: int, order: int, *, denominator_groups: int, numerator: str, generator: torch.Generator | None, **_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """An initialisation of stable filters with poles anywhere."""
    draw = partial(torch.randn, dtype=F64, generator=generator)
    k = torch.tanh(0.4 * draw(denominator_groups, order))
    return draw(channels, order), k if numerator == "lattice" else step_up(k), draw(channels)


def unstable(radius: float) -> Any:
    """An initialisation whose poles are all on a circle outside the unit circle."""

    def draw(channels: int, order: int, *, denominator_groups: int, **_: Any) -> tuple[Tensor, Tensor, Tensor]:
        a = torch.zeros(denominator_groups, order, dtype=F64)
        a[:, -1] = -(radius**order)
        return torch.ones(channels, order, dtype=F64), a, torch.ones(channels, dtype=F64)

    return draw


def by_scipy(layer: RTF, u: Tensor) -> Tensor:
    """Each channel through scipy's lfilter, in the textbook's form of the same transfer function."""
    tf = layer.transfer_function()
    y = np.empty(u.shape)
    for d in range(layer.channels):
        a = np.concatenate(([1.0], tf.a[d * layer.denominator_groups // layer.channels].detach().numpy()))
        b = np.concatenate(([0.0], tf.b[d].detach().numpy())) + float(tf.h0[d].detach()) * a
        y[..., d] = scipy_signal.lfilter(b, a, u[..., d].numpy(), axis=1)
    return torch.from_numpy(y)


causal_options = pytest.mark.parametrize(
    "options",
    [
        {},
        {"denominator_groups": 2, "constraint": "reflection"},
        {"constraint": "l1", "init": "montel"},
        {"numerator": "exact"},
        {"numerator": "lattice", "constraint": "reflection"},
        {"bidirectional": True},
        {"bidirectional": True, "numerator": "lattice", "constraint": "reflection", "denominator_groups": 2},
        {"bidirectional": True, "numerator": "exact", "constraint": "l1", "init": "montel", "denominator_groups": 1},
    ],
    ids=str,
)
