"""The types of coefficients: float32 at least where they are kept, float64 where something is made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class WideCoefficients(nn.Module):
    """A module whose own tensors are coefficients of filters, which ``to``, ``half`` and their kin never narrow."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        return super()._apply(keep_wide(fn), recurse)


def keep_wide(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Wrap what ``Module.to`` and its kin apply to tensors, so that coefficients stay in float32 or wider.

    Args:
        function: Maps a tensor to another device or type.
    """

    def wrapped(tensor: Tensor) -> Tensor:
        moved = function(tensor)
        narrowed = moved.is_floating_point() and moved.dtype.itemsize < 4
        return (
            tensor.to(device=moved.device, dtype=torch.promote_types(tensor.dtype, torch.float32))
            if narrowed
            else moved
        )

    return wrapped


def widest(x: Tensor) -> Tensor:
    """What coefficients are computed in: float64 where the device has it.

    Args:
        x: Coefficients.
    """
    return x if x.device.type == "mps" else x.to(torch.float64)


def as_complex(pairs: Tensor) -> Tensor:
    """Complex coefficients, complex128 where the device has it, from pairs of real and imaginary parts.

    Args:
        pairs: Parameter, (..., 2).
    """
    return torch.view_as_complex(widest(pairs).contiguous())
