"""Records of inputs and outputs: what callers pass, as padded tensors with a mask of what is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from transferfn.analysis.output_error import Records

Data = ArrayLike | Tensor | Sequence[ArrayLike | Tensor]
"""A record, (L) or (L, m), or a list of records of different lengths."""

Pair = tuple[Tensor, Tensor]
"""Inputs (L, m) and outputs (L) of a record, float64, NaN where an output is missing."""


def as_records(u: Data, y: Data) -> Records:
    """Records as the search needs them.

    Args:
        u: Inputs of a record, (L) or (L, m), or a list of them.
        y: Outputs of a record, (L), NaN where a sample is missing; or a list of them.

    Raises:
        TypeError: if something is not made of real numbers.
        ValueError: if records do not fit together, are empty, or hold what is not finite besides missing outputs.

    Example:
        >>> records = as_records([[1.0, 0.0, 0.0], [1.0, 2.0]], [[1.0, float("nan"), 0.25], [1.0, 2.5]])
        >>> records.lengths, records.known.sum().item()
        (tensor([3, 2]), 4)
    """
    pairs = as_pairs(u, y)
    if not any(bool((~part.isnan()).any()) for _, part in pairs):
        raise ValueError("every sample of y is missing (NaN)")
    return padded(pairs)


def as_pairs(u: Data, y: Data) -> list[Pair]:
    """Records one by one, checked.

    Args:
        u: Inputs of a record, (L) or (L, m), or a list of them.
        y: Outputs of a record, (L), NaN where a sample is missing; or a list of them.

    Raises:
        TypeError: if something is not made of real numbers.
        ValueError: if records do not fit together, are empty, or hold what is not finite besides missing outputs.
    """
    inputs = [columns(part) for part in split(u)]
    outputs = [_outputs(part) for part in split(y)]
    if len(inputs) != len(outputs):
        raise ValueError(f"u and y must have as many records, got {len(inputs)} and {len(outputs)}")
    widths = {part.shape[1] for part in inputs}
    if len(widths) != 1:
        raise ValueError(f"all records must have as many inputs, got {sorted(widths)}")
    for i, (one, other) in enumerate(zip(inputs, outputs, strict=True)):
        if len(one) != len(other):
            raise ValueError(f"record {i} has {len(one)} samples of u and {len(other)} of y; they must be as many")
        if not len(one):
            raise ValueError(f"record {i} is empty")
    return list(zip(inputs, outputs, strict=True))


def padded(pairs: list[Pair]) -> Records:
    """Records of different lengths side by side.

    Args:
        pairs: Inputs (L, m) and outputs (L) of each, NaN where missing.
    """
    lengths = torch.tensor([len(y) for _, y in pairs])
    shape = len(pairs), int(lengths.max())
    whole_u = torch.zeros(*shape, pairs[0][0].shape[1], dtype=torch.float64)
    whole_y = torch.full(shape, torch.nan, dtype=torch.float64)
    for i, (u, y) in enumerate(pairs):
        whole_u[i, : len(u)] = u
        whole_y[i, : len(y)] = y
    return Records(whole_u, whole_y.nan_to_num(), ~whole_y.isnan(), lengths)


def columns(u: Any) -> Tensor:
    """Inputs of one record as float64, (L, m).

    Args:
        u: What the caller passed, (L) or (L, m).

    Raises:
        TypeError: if it is not made of real numbers.
        ValueError: if it has another shape, or is not finite.
    """
    x = _numbers("u", u)
    if x.dim() not in (1, 2) or x.shape[-1] == 0:
        raise ValueError(f"the inputs of a record are (samples) or (samples, inputs), got {tuple(x.shape)}")
    if not bool(x.isfinite().all()):
        raise ValueError(
            "u has samples that are not finite (NaN or infinite); only outputs may be missing. Fill them in, or cut "
            "the record there: a list of records may have different lengths"
        )
    return x[:, None] if x.dim() == 1 else x


def _outputs(y: Any) -> Tensor:
    x = _numbers("y", y)
    if x.dim() == 2 and x.shape[1] == 1:
        x = x[:, 0]
    if x.dim() != 1:
        raise ValueError(f"a record has one output, (samples), got {tuple(x.shape)}; fit one model an output")
    if bool(x.isinf().any()):
        raise ValueError("y has infinite samples; mark what is missing by NaN")
    return x


def _numbers(name: str, value: Any) -> Tensor:
    x = value.detach().cpu() if isinstance(value, Tensor) else np.asarray(value)  # None becomes an array of objects
    if isinstance(x, np.ndarray):
        if x.dtype.kind not in "fiub":
            raise TypeError(f"{name} must be made of real numbers, got an array of {x.dtype}")
        x = torch.from_numpy(np.array(x, dtype=np.float64))
    if x.is_complex():
        raise TypeError(f"{name} must be made of real numbers, got {x.dtype}")
    return x.to(torch.float64)


def split(value: Any) -> list[Any]:
    """The records that were passed: a list or tuple whose first member has a length is one of records.

    Args:
        value: A record, or a list of records.
    """
    several = isinstance(value, (list, tuple)) and len(value) and len(np.shape(value[0]))
    return list(value) if several else [value]
