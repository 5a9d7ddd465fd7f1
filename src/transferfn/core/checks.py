"""What coefficients, sizes and gains must be, told before anything is computed from them."""

from __future__ import annotations

from numbers import Integral, Real
from typing import SupportsFloat

import torch
from torch import Tensor

Gain = SupportsFloat
"""A number of any kind, or a tensor without axes, which may have derivatives."""


def check_bank(b: Tensor, a: Tensor, h0: Tensor) -> None:
    """Raise unless coefficients make a bank.

    Args:
        b: Numerator, meant to be (*bank, D, n).
        a: Denominator, meant to be (*bank, G, n), with G a divisor of D.
        h0: Feedthrough, meant to be (*bank, D).

    Raises:
        ValueError: if shapes, types or devices do not fit together.
    """
    if b.dim() < 2 or a.dim() < 2 or b.shape[-1] != a.shape[-1] or h0.shape != b.shape[:-1]:
        raise ValueError(
            f"expected a numerator (D, n), a denominator (G, n) and a feedthrough (D), "
            f"got {tuple(b.shape)}, {tuple(a.shape)} and {tuple(h0.shape)}"
        )
    if b.shape[:-2] != a.shape[:-2]:
        raise ValueError(
            f"numerator and denominator must have the same leading axes, got {tuple(b.shape)} and {tuple(a.shape)}; "
            f"expand() repeats one of them"
        )
    channels, groups = b.shape[-2], a.shape[-2]
    if groups < 1 or channels % groups:
        raise ValueError(
            f"the number of denominators must divide the number of channels, got {groups} denominators "
            f"for {channels} channels"
        )
    if not b.dtype == a.dtype == h0.dtype or not b.is_floating_point():
        raise ValueError(f"coefficients must share one real floating-point type, got {b.dtype}, {a.dtype}, {h0.dtype}")
    if not b.device == a.device == h0.device:
        raise ValueError(f"coefficients must be on one device, got {b.device}, {a.device}, {h0.device}")


def check_whole(name: str, value: object) -> None:
    """Raise unless a size is a whole number.

    Args:
        name: What the caller calls it.
        value: What the caller passed.

    Raises:
        TypeError: if it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, (Integral, torch.SymInt)):
        raise TypeError(f"{name} is a whole number, got {value!r}")


def check_length(length: object) -> None:
    """Raise unless a number of samples of a response is one that responses have.

    Args:
        length: What the caller passed.

    Raises:
        TypeError: if it is no whole number.
        ValueError: if it is less than 1.
    """
    check_whole("length", length)
    if length < 1:  # pyright: ignore[reportOperatorIssue]
        raise ValueError(f"length is the number of samples of the response, at least 1; got {length}")


def as_number(value: object) -> float | Tensor | None:
    """Return a number of any kind as PyTorch takes it, or None for anything else.

    Args:
        value: What the caller passed.
    """
    if isinstance(value, Tensor):
        return value if value.dim() == 0 else None
    return float(value) if isinstance(value, Real) else None
