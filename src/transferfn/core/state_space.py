"""Dense state-space systems of any size: their matrices, and their responses."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from transferfn.core.checks import as_tensor


class StateSpace(NamedTuple):
    """G systems with m inputs and p outputs each; in discrete time x' = A x + B u, y = C x + D u.

    Attributes:
        A: State matrices, (G, N, N).
        B: Input matrices, (G, N, m).
        C: Output matrices, (G, p, N).
        D: Feedthrough, (G, p, m).
        dt: Sampling interval in seconds; None means per sample, 0 continuous time.
    """

    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor
    dt: float | None = None


def state_space(
    A: ArrayLike | Tensor, B: ArrayLike | Tensor, C: ArrayLike | Tensor, D: ArrayLike | Tensor
) -> StateSpace:
    """Check matrices and bring them to float64 and one shape.

    Args:
        A: State matrix, (N, N), or one a system, (G, N, N).
        B: Input matrix, (N, m) or (G, N, m).
        C: Output matrix, (p, N) or (G, p, N).
        D: Feedthrough, (p, m) or (G, p, m).

    Returns:
        The same with a leading axis G, which is 1 for a single system.

    Raises:
        TypeError: if a matrix is complex.
        ValueError: if shapes do not fit.

    Example:
        >>> state_space([[0.5]], [[1.0]], [[2.0]], [[0.0]]).A.shape
        torch.Size([1, 1, 1])
    """
    given = [as_tensor(x) for x in (A, B, C, D)]
    if any(x.is_complex() for x in given):
        raise TypeError("expected real matrices A, B, C and D; complex modes convert with from_modal")
    matrices = [x[None] if x.dim() == 2 else x for x in given]
    shapes = [tuple(x.shape) for x in matrices]
    groups, n, inputs, outputs = shapes[0][0], shapes[0][-1], shapes[1][-1], shapes[2][-2:][0]
    if shapes != [(groups, n, n), (groups, n, inputs), (groups, outputs, n), (groups, outputs, inputs)]:
        raise ValueError(
            f"expected A (N, N), B (N, m), C (p, N) and D (p, m), each with a leading axis G if there are several "
            f"systems, got {', '.join(str(tuple(x.shape)) for x in given)}"
        )
    return StateSpace._make([*(x.to(torch.float64) for x in matrices), None])


def balancing(A: Tensor) -> Tensor:
    """Units of the states that make rows and columns of state matrices alike, powers of 2.

    Args:
        A: State matrices, (G, N, N).

    Returns:
        Scales s, (G, N): A is balanced as A_ij s_j / s_i.

    Example:
        >>> balancing(torch.tensor([[[0.5, 1024.0], [1 / 1024, 0.5]]], dtype=torch.float64))
        tensor([[6.4000e+01, 6.2500e-02]], dtype=torch.float64)
    """
    from scipy.linalg import matrix_balance

    if not A.shape[-1]:
        return A.new_zeros(A.shape[:-1])
    with np.errstate(invalid="ignore"):  # it looks for integers in scales beyond them
        scales = [matrix_balance(one, permute=False, separate=True)[1][0] for one in A.numpy(force=True)]
    return torch.stack([torch.as_tensor(x) for x in scales]).to(A)


@torch.no_grad()
def markov(system: StateSpace, length: int) -> Tensor:
    """Impulse responses by the recurrence itself, D, C B, C A B, ...: the truth that conversions are held against.

    Powers of A by squaring would be faster, but lose what a state matrix far from normal hides.

    Args:
        system: G systems, float64.
        length: Number of samples L, at least 1.

    Returns:
        (G, p, m, L), float64.

    Example:
        >>> markov(state_space([[0.5]], [[1.0]], [[2.0]], [[3.0]]), 3).flatten()
        tensor([3., 2., 1.], dtype=torch.float64)
    """
    samples, x = [system.D], system.B
    for _ in range(length - 1):
        samples.append(system.C @ x)
        x = system.A @ x
    return torch.stack(samples, -1)
