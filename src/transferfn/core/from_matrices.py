"""The transfer functions that dense state-space systems have, whatever their coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from transferfn.core.checks import interval
from transferfn.core.converted import Converted, samples_to_compare
from transferfn.core.from_poles import LARGEST_ERROR, from_poles, polynomial
from transferfn.core.polynomial import roots
from transferfn.core.state_space import balancing, markov, state_space
from transferfn.core.system import TransferFunction

WORSE = 100.0  # times what rounding coefficients moves poles: coordinates are the cause, not how close poles are


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
        ArithmeticError: if coefficients in float64 do not hold the filters, for their poles are close together, the
            matrices are badly conditioned, or a mode grows too much in so long a time.
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
    moved = _sensitivity(system.A, poles)
    length = samples_to_compare(poles, moved) if length is None else length
    response = markov(system, length).flatten(0, 2)
    groups = len(system.A)
    try:
        each = poles.repeat_interleave(len(response) // max(groups, 1), 0)
        h, error = from_poles(each, response, tolerance=tolerance, dt=step)
    except ArithmeticError:
        _check_coordinates(poles, moved)  # if it is these, no way to write the filter helps
        raise
    return Converted(TransferFunction(h.b, h.a[:: len(response) // groups], h.h0, step), error, length)


def _sensitivity(A: Tensor, poles: Tensor) -> Tensor:
    """How far rounding the balanced matrices moves each eigenvalue, to first order, (G, N)."""
    from scipy.linalg import eig

    if not A.shape[-1]:
        return poles.abs()
    moved = []
    balanced = A / (scale := balancing(A))[:, :, None] * scale[:, None]
    for one, these in zip(balanced.numpy(force=True), poles.numpy(force=True), strict=True):
        decomposed: Any = eig(one, left=True)
        found, left, right = decomposed
        overlap = np.abs((left.conj() * right).sum(0)).clip(np.finfo(np.float64).tiny)
        by_rounding = np.finfo(np.float64).eps * np.linalg.norm(one, 2) / overlap
        moved.append(by_rounding[np.abs(these[:, None] - found).argmin(-1)])
    return torch.from_numpy(np.stack(moved)).to(A.device)


def _check_coordinates(poles: Tensor, moved: Tensor) -> None:
    """Refuse state matrices whose rounding moves their eigenvalues much more than rounding coefficients would."""
    by_coefficients = roots(polynomial(poles))[1]
    lost = moved.amax(-1) > WORSE * by_coefficients.amax(-1)
    if bool(lost.any()):
        by = float(moved[lost].max())
        raise ArithmeticError(
            f"the state matrix does not determine the filters: it is badly conditioned, rounding its entries to "
            f"float64 moves a pole by {f'{by:.1g}' if by < 1 else '1 or more'}, also after balancing. Compute it in "
            f"other coordinates, the modal or a balanced realization, or pass coefficients, sections or zeros and "
            f"poles."
        )
