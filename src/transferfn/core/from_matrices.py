"""The transfer functions that dense state-space systems have, whatever their coordinates."""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from transferfn.core.checks import interval
from transferfn.core.converted import Converted, samples_to_compare
from transferfn.core.from_poles import LARGEST_ERROR, from_poles
from transferfn.core.state_space import markov, state_space
from transferfn.core.system import TransferFunction


@torch.no_grad()
def from_state_space(
    A: ArrayLike | Tensor,
    B: ArrayLike | Tensor,
    C: ArrayLike | Tensor,
    D: ArrayLike | Tensor,
    dt: float | bool | None = None,
    *,
    length: int | None = None,
    tolerance: float = LARGEST_ERROR,
) -> Converted[TransferFunction]:
    """Transfer functions of dense systems, from every input to every output: the same for all their coordinates.

    Poles are the eigenvalues of A, the numerator is read off the response. States that no input reaches or no output
    shows stay in as pairs of a pole and a zero; :func:`~transferfn.core.minimal.minimal` cancels them.

    Args:
        A: State matrix, (N, N), or one a system, (G, N, N).
        B: Input matrix, (N, m) or (G, N, m).
        C: Output matrix, (p, N) or (G, p, N).
        D: Feedthrough, (p, m) or (G, p, m).
        dt: Sampling interval in seconds; None means per sample, and so does True, as in other libraries. It comes
            fifth, so that ``from_state_space(*system)`` of a :class:`~transferfn.core.state_space.StateSpace` keeps it.
        length: Number of samples over which the impulse responses are compared, more than N; None means until they
            have died out.
        tolerance: Largest error that is not refused, relative to the largest sample of each channel.

    Returns:
        A bank of G p m channels with G denominators, float64: those of a system follow each other, its first output
        from each of its inputs first. And the error of each channel, (G p m).

    Raises:
        ArithmeticError: if coefficients in float64 do not hold the filters.
        TypeError: if a matrix is complex, or dt is 0, which stands for continuous time.
        ValueError: if shapes do not fit or the response is too short.

    Source:
        Proposition of the paper that a transfer function does not depend on coordinates, arXiv:2405.06147.

    Example:
        >>> h, error = from_state_space([[0.5, 1], [0, 0.25]], [[0.0], [1]], [[1.0, 0]], [[0.0]], length=20)
        >>> h.a, bool(error < 1e-15)
        (tensor([[-0.7500, 0.1250]], dtype=torch.float64), True)
    """
    step = interval(dt)
    system = state_space(A, B, C, D)
    poles = torch.linalg.eigvals(system.A)
    length = samples_to_compare(poles) if length is None else length
    response = markov(system, length).flatten(0, 2)
    groups = len(system.A)
    poles = poles.repeat_interleave(len(response) // max(groups, 1), 0)
    h, error = from_poles(poles, response, tolerance=tolerance, dt=step)
    return Converted(TransferFunction(h.b, h.a[:: len(response) // groups], h.h0, step), error, length)
