"""Filters, or systems in matrices, put together as one system of several inputs and outputs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from transferfn.core.checks import check_whole
from transferfn.core.polynomial import companion
from transferfn.core.state_space import StateSpace, state_space
from transferfn.core.system import TransferFunction
from transferfn.interop.arrays import one_bank

Array = NDArray[np.floating]


class Part(NamedTuple):
    """A system within a larger one.

    Attributes:
        A: State matrix, (N, N).
        B: Input matrix, (N, m).
        C: Output matrix, (p, N).
        D: Feedthrough, (p, m).
        inputs: Which inputs of the whole are its own, m numbers.
        outputs: Which outputs it adds to, p numbers.
    """

    A: Array
    B: Array
    C: Array
    D: Array
    inputs: list[int]
    outputs: list[int]


def check_inputs(inputs: int, channels: int) -> None:
    """Raise unless channels are a matrix of so many inputs.

    Args:
        inputs: What the caller passed.
        channels: Number of channels D.

    Raises:
        TypeError: if it is no whole number.
        ValueError: if it does not divide the channels.
    """
    check_whole("inputs", inputs)
    if inputs < 1 or channels % inputs:
        raise ValueError(
            f"inputs is a divisor of the {channels} channels, which are each output from each input, got {inputs}"
        )


def assembled(h: TransferFunction | StateSpace, inputs: int | None) -> tuple[Array, Array, Array, Array]:
    """One block-diagonal system of all channels.

    Args:
        h: The filters, numerator (D, n), or G systems in matrices.
        inputs: Number of inputs of a matrix of channels, the first output from each input first; None means that each
            channel has inputs and outputs of its own.

    Returns:
        A, B, C and D, float64.

    Raises:
        ValueError: if shapes do not fit, or inputs do not divide the channels.

    Example:
        >>> import torch
        >>> h = TransferFunction(torch.ones(2, 1), torch.tensor([[-0.5]]), torch.zeros(2))
        >>> [x.shape for x in assembled(h, 1)]
        [(1, 1), (1, 1), (2, 1), (2, 1)]
    """
    parts = _systems(h, inputs) if isinstance(h, StateSpace) else _companions(one_bank(h), inputs)
    states = np.cumsum([0, *(len(part.A) for part in parts)])
    columns, rows = (
        1 + max(max(which) for which in x) for x in ([p.inputs for p in parts], [p.outputs for p in parts])
    )
    A, B, C = np.zeros((states[-1], states[-1])), np.zeros((states[-1], columns)), np.zeros((rows, states[-1]))
    D = np.zeros((rows, columns))
    for part, start, end in zip(parts, states[:-1], states[1:], strict=True):
        A[start:end, start:end] = part.A
        B[start:end, part.inputs] = part.B
        C[part.outputs, start:end] = part.C
        D[np.ix_(part.outputs, part.inputs)] = part.D
    return A, B, C, D


def _companions(h: TransferFunction, inputs: int | None) -> list[Part]:
    """One set of states for each input and denominator: outputs that share both read the same."""
    if inputs is not None:
        check_inputs(inputs, h.channels)
    together: dict[tuple[int, int], list[int]] = {}
    for d in range(h.channels):
        together.setdefault((d if inputs is None else d % inputs, d * h.denominator_groups // h.channels), []).append(d)
    parts = []
    for (column, group), channels in together.items():
        A, b, h0 = (x.numpy() for x in (companion(h.a[group]), h.b[channels], h.h0[channels]))
        outputs = channels if inputs is None else [d // inputs for d in channels]
        parts.append(Part(A, np.eye(h.order, 1), b, h0[:, None], [column], outputs))
    return parts


def _systems(h: StateSpace, inputs: int | None) -> list[Part]:
    system = state_space(*h[:4])
    matrices = [x.numpy(force=True) for x in system[:4]]
    groups, p, m = matrices[3].shape
    if inputs is not None:
        if (p, m) != (1, 1):
            raise ValueError(
                f"inputs={inputs} takes systems of one input and one output, got {p} outputs and {m} inputs"
            )
        check_inputs(inputs, groups)
    parts = []
    for g, (A, B, C, D) in enumerate(zip(*matrices, strict=True)):
        own = range(g * m, g * m + m), range(g * p, g * p + p)
        columns, rows = own if inputs is None else ([g % inputs], [g // inputs])
        parts.append(Part(A, B, C, D, list(columns), list(rows)))
    return parts
