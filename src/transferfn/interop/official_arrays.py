"""Checking parameters that official implementations saved: names, shapes and types, before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

Shape = tuple[int | str, ...]
"""Sizes of axes, or letters for those that are found out; the same letter is the same size everywhere."""


@runtime_checkable
class Array(Protocol):
    """A tensor of PyTorch, or what NumPy can read, as JAX's arrays."""

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        """The numbers as NumPy holds them.

        Args:
            args: Type, if another one is wanted.
            kwargs: Whether to copy.
        """
        ...


def read_arrays(
    given: Mapping[str, Array], expected: Mapping[str, Shape], advice: str
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Return parameters as tensors of one type, and the sizes they have, if they are those that are expected.

    Args:
        given: Parameters by their official names.
        expected: Shapes by name. The order says which of two that contradict each other is named.
        advice: What to do about keys that are missing or left over.

    Returns:
        Detached tensors of the widest type found, float32 or wider, and the size of each letter.

    Raises:
        TypeError: if a parameter is no array of real floating-point numbers.
        ValueError: if a key is missing or left over, or a shape does not fit the others.

    Example:
        >>> read_arrays({"D": torch.ones(3), "C": torch.ones(3, 2)}, {"D": ("H",), "C": ("H", 2)}, "")[1]
        {'H': 3}
    """
    if set(given) != set(expected):
        missing, left = sorted(set(expected) - set(given)), sorted(set(given) - set(expected))
        raise ValueError(
            f"expected the official keys {sorted(expected)}, but {missing or 'none'} are missing and {left or 'none'} "
            f"are left over. {advice}"
        )
    tensors = {name: _tensor(name, given[name]) for name in expected}
    sizes: dict[str, int] = {}
    for name, shape in expected.items():
        found = tuple(tensors[name].shape)
        wanted = [sizes.get(axis, axis) if isinstance(axis, str) else axis for axis in shape]
        if len(found) != len(shape) or any(isinstance(x, int) and x != y for x, y in zip(wanted, found, strict=True)):
            axes = ", ".join(map(str, shape)) + "," * (len(shape) == 1)
            known = ", ".join(f"{letter}={size}" for letter, size in sizes.items() if letter in shape)
            raise ValueError(f"{name!r} should have shape ({axes}){known and f' with {known}'}, got {found}")
        sizes |= {axis: size for axis, size in zip(shape, found, strict=True) if isinstance(axis, str)}
    dtype = torch.float32
    for x in tensors.values():
        dtype = torch.promote_types(dtype, x.dtype)
    return {name: x.to(dtype) for name, x in tensors.items()}, sizes


def shape_of(given: Mapping[str, Array], name: str) -> tuple[int, ...]:
    """Shape of a parameter, () if it is missing or no array.

    Args:
        given: Parameters by their official names.
        name: Which.
    """
    return tuple(getattr(given.get(name), "shape", ()))


def _tensor(name: str, value: object) -> Tensor:
    if isinstance(value, Tensor):
        found = value.detach()
    elif isinstance(value, Array):
        array = np.asarray(value)
        found = torch.tensor(array) if array.dtype.kind in "fc" else None
    else:
        found = None
    if found is None or not found.is_floating_point():
        kind = getattr(value, "dtype", type(value).__name__)
        raise TypeError(
            f"{name!r} should be an array of real floating-point numbers, got {kind}. Complex parameters are saved as "
            f"pairs along a last axis."
        )
    return found
