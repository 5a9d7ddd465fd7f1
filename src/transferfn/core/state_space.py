"""Dense state-space systems of any size, and the transfer functions they have whatever their coordinates."""

from __future__ import annotations

from typing import NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from transferfn.core.converted import Converted, samples_to_compare
from transferfn.core.from_poles import LARGEST_ERROR, from_poles
from transferfn.core.system import TransferFunction


class StateSpace(NamedTuple):
    """G systems with m inputs and p outputs each; in discrete time x' = A x + B u, y = C x + D u.

    Attributes:
        A: State matrices, (G, N, N), float64.
        B: Input matrices, (G, N, m).
        C: Output matrices, (G, p, N).
        D: Feedthrough, (G, p, m).
    """

    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor


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
    given = [torch.as_tensor(x) for x in (A, B, C, D)]
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
    return StateSpace(*(x.to(torch.float64) for x in matrices))


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


@torch.no_grad()
def from_state_space(
    A: ArrayLike | Tensor,
    B: ArrayLike | Tensor,
    C: ArrayLike | Tensor,
    D: ArrayLike | Tensor,
    *,
    length: int | None = None,
    tolerance: float = LARGEST_ERROR,
    dt: float | None = None,
) -> Converted[TransferFunction]:
    """Transfer functions of dense systems, from every input to every output: the same for all their coordinates.

    Poles are the eigenvalues of A, the numerator is read off the response. States that no input reaches or no output
    shows stay in as pairs of a pole and a zero; :func:`~transferfn.core.minimal.minimal` cancels them.

    Args:
        A: State matrix, (N, N), or one a system, (G, N, N).
        B: Input matrix, (N, m) or (G, N, m).
        C: Output matrix, (p, N) or (G, p, N).
        D: Feedthrough, (p, m) or (G, p, m).
        length: Number of samples over which the impulse responses are compared, more than N; None means until they
            have died out.
        tolerance: Largest error that is not refused, relative to the largest sample of each channel.
        dt: Sampling interval in seconds; None means per sample.

    Returns:
        A bank of G p m channels with G denominators, float64: those of a system follow each other, its first output
        from each of its inputs first. And the error of each channel, (G p m).

    Raises:
        ArithmeticError: if coefficients in float64 do not hold the filters.
        ValueError: if shapes do not fit or the response is too short.

    Source:
        Proposition of the paper that a transfer function does not depend on coordinates, arXiv:2405.06147.

    Example:
        >>> h, error = from_state_space([[0.5, 1], [0, 0.25]], [[0.0], [1]], [[1.0, 0]], [[0.0]], length=20)
        >>> h.a, bool(error < 1e-15)
        (tensor([[-0.7500, 0.1250]], dtype=torch.float64), True)
    """
    system = state_space(A, B, C, D)
    poles = torch.linalg.eigvals(system.A)
    length = samples_to_compare(poles) if length is None else length
    response = markov(system, length).flatten(0, 2)
    groups = len(system.A)
    poles = poles.repeat_interleave(len(response) // max(groups, 1), 0)
    h, error = from_poles(poles, response, tolerance=tolerance, dt=dt)
    return Converted(TransferFunction(h.b, h.a[:: len(response) // groups], h.h0, dt), error, length)
