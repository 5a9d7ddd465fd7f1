"""What S4, S4D and S5 have in common: checks on their options, and initial step sizes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from transferfn.core.checks import check_whole


def check_sizes(channels: int, state_size: int, groups: int, *, even: bool) -> None:
    """Raise unless the sizes of a bank of state-space systems fit each other.

    Args:
        channels: Number of channels D.
        state_size: State size N.
        groups: Number of distinct state matrices.
        even: Whether modes come in conjugate pairs.
    """
    for name, size in {"channels": channels, "state_size": state_size, "groups": groups}.items():
        check_whole(name, size)
    if channels < 1 or state_size < 1:
        raise ValueError(
            f"channels and state_size must be at least 1, got channels={channels}, state_size={state_size}"
        )
    if even and state_size % 2:
        raise ValueError(
            f"modes come in conjugate pairs, so state_size must be even, got {state_size}; it counts real numbers"
        )
    if groups < 1 or channels % groups:
        raise ValueError(f"groups must divide channels={channels}, got {groups}")


def check_steps(dt_min: float, dt_max: float) -> None:
    """Raise unless two step sizes are a range.

    Args:
        dt_min: Least initial step size.
        dt_max: Largest initial step size.
    """
    if not 0 < dt_min <= dt_max < math.inf:
        raise ValueError(f"initial step sizes need 0 < dt_min <= dt_max, got dt_min={dt_min}, dt_max={dt_max}")


def log_uniform(count: int, low: float, high: float, generator: torch.Generator | None) -> Tensor:
    """Logarithms of numbers whose logarithm is uniform, float64.

    Args:
        count: How many.
        low: Least number.
        high: Largest number.
        generator: Source of randomness; None means PyTorch's default.
    """
    draw = torch.rand(count, dtype=torch.float64, generator=generator, device="cpu")
    return math.log(low) + draw * (math.log(high) - math.log(low))
