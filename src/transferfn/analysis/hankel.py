"""Hankel matrices of impulse responses: what order a response has, and the poles of a system that comes near it.

The Hankel matrix H_ij = h_(i+j+1) maps past inputs to future outputs. Its rank is the order of the system, and its
singular values tell how much each order more is worth.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from transferfn.analysis.balanced import StateSpace
from transferfn.core.checks import check_whole

FEW = 6  # times as many rows as vectors are wanted, from which on the leading ones alone are cheaper


def hankel_matrix(h: Tensor, rows: int) -> Tensor:
    """The Hankel matrix of each response, samples past the end taken as zero.

    Args:
        h: Impulse response h_0..h_(L-1), (*bank, L); h_0 has no part in it.
        rows: Number of rows and columns.

    Returns:
        H_ij = h_(i+j+1), (*bank, rows, rows).

    Example:
        >>> hankel_matrix(torch.tensor([9.0, 4.0, 2.0, 1.0]), 3)
        tensor([[4., 2., 1.],
                [2., 1., 0.],
                [1., 0., 0.]])
    """
    tail = torch.nn.functional.pad(h[..., 1 : 2 * rows], (0, max(2 * rows - h.shape[-1], 0)))
    return tail.unfold(-1, rows, 1)[..., :rows, :]


def truncate_response(h: Tensor, order: int | None = None) -> tuple[Tensor, StateSpace]:
    """Balanced truncation of one finite impulse response: what follows its last sample is zero.

    The states of a tapped delay line are orthonormal, so that the leading eigenvectors V of the Hankel matrix balance
    it: with the shift S, A = V' S V. The result is stable, and its frequency response is within twice the sum of the
    singular values left out.

    Args:
        h: Impulse response h_0..h_(L-1), (L).
        order: How many states are wanted; None means all that there are.

    Returns:
        Singular values, largest first, (L - 1), or as many as asked for where the response is long; and the system. Of
        a lower order m it is the first m states.

    Source:
        Beliczynski, Kale and Cain 1992, "Approximation of FIR by IIR digital filters: an algorithm based on balanced
        model reduction", IEEE Transactions on Signal Processing 40(3).

    Example:
        >>> h = 0.5 ** torch.arange(40.0, dtype=torch.float64)
        >>> values, system = truncate_response(h, 1)
        >>> system.a.round(decimals=6)
        tensor([[0.5000]], dtype=torch.float64)
    """
    rows = h.shape[-1] - 1
    count = rows if order is None else min(order, rows)
    values, vectors = _symmetric(h, rows, count)
    shifted = torch.cat((torch.zeros_like(vectors[:1]), vectors[:-1]))
    return values.abs(), StateSpace(vectors.mT @ shifted, vectors[0], values[:count] * vectors[0], h[0])


def shift_poles(h: Tensor, order: int) -> Tensor:
    """Poles of the system of a given order behind responses to several inputs, from what one shift does to them.

    Nothing is assumed of the samples past the end. Poles may lie outside the unit circle.

    Args:
        h: Impulse responses of one output to m inputs, (m, L).
        order: Number of poles, less than half of L.

    Returns:
        Poles, complex, (order).

    Raises:
        ValueError: if the responses are too short for that order.

    Source:
        Kung 1978, "A new identification and model reduction algorithm via singular value decomposition"; the
        eigensystem realization of Juang and Pappa 1985 with the shift taken in the observability matrix.

    Example:
        >>> t = torch.arange(12.0, dtype=torch.float64)
        >>> shift_poles((0.5**t + (-0.25) ** t)[None], 2).real.sort().values
        tensor([-0.2500,  0.5000], dtype=torch.float64)
    """
    check_whole("order", order)
    if not 0 < order < h.shape[-1] // 2:
        raise ValueError(
            f"responses of {h.shape[-1]} samples show poles of at least 1 and less than {h.shape[-1] // 2}, got "
            f"order={order}: take longer responses or a lower order"
        )
    return poles_of_states(observability(h, order))


def observability(h: Tensor, order: int) -> Tensor:
    """What balanced states of a system would put out, from the responses alone.

    Args:
        h: Impulse responses of one output to m inputs, (m, L).
        order: Number of states, less than half of L.

    Returns:
        The leading left singular vectors of the Hankel matrix, times the roots of their values, (L // 2, order).
    """
    rows = h.shape[-1] // 2
    if len(h) == 1:
        values, vectors = _symmetric(h[0, : 2 * rows], rows, order)
        return vectors * values[:order].abs().sqrt()
    whole = torch.cat(list(hankel_matrix(h[..., : 2 * rows], rows)), -1)
    vectors, values, _ = torch.linalg.svd(whole, full_matrices=False)
    return vectors[:, :order] * values[:order].sqrt()


def poles_of_states(outputs: Tensor) -> Tensor:
    """Poles of the system whose states put out given columns: a shift by a sample is a product with its state matrix.

    Args:
        outputs: Output over time for each state, (rows, n).
    """
    return torch.linalg.eigvals(torch.linalg.lstsq(outputs[:-1], outputs[1:], driver="gelsd").solution)


def _symmetric(h: Tensor, rows: int, count: int) -> tuple[Tensor, Tensor]:
    """Eigenvalues by falling magnitude, and the vectors of the first ``count``: a Hankel matrix is symmetric."""
    if FEW * count > rows:
        values, vectors = torch.linalg.eigh(hankel_matrix(h, rows))
    else:
        values, vectors = _lanczos(h, rows, count)
    first = values.abs().argsort(descending=True)
    return values[first], vectors[:, first[:count]]


def _lanczos(h: Tensor, rows: int, count: int) -> tuple[Tensor, Tensor]:
    """The leading ones only, from products with the matrix, which are convolutions."""
    from scipy.fft import irfft, next_fast_len, rfft
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    tail = h[1 : 2 * rows].numpy()
    size = next_fast_len(len(tail) + rows, real=True)
    spectrum: Any = rfft(tail, size)

    def product(x: np.ndarray) -> np.ndarray:  # sum_j h_(i+j+1) x_j is a convolution with x reversed
        reversed_x: Any = rfft(x.ravel()[::-1], size)
        y: Any = irfft(spectrum * reversed_x, size)
        return y[rows - 1 : 2 * rows - 1]

    matrix: Any = LinearOperator((rows, rows), matvec=product, dtype=np.float64)  # pyright: ignore[reportCallIssue]
    try:
        values, vectors = eigsh(matrix, k=count, v0=np.ones(rows) / rows**0.5, ncv=min(2 * count + 20, rows))
    except ArpackNoConvergence:
        return torch.linalg.eigh(hankel_matrix(h, rows))
    return torch.from_numpy(values), torch.from_numpy(vectors)
