r"""Balanced truncation of one filter, from poles and response to a smaller state space, without inverting a Gramian.

The state of an input-normal realization has the identity as its controllability Gramian. It is built as a cascade of
all-pass sections of order 1 and 2, each an orthogonal matrix of its pole: nothing there is ill-conditioned. Powers of
its state matrix never exceed 1, so that the observability Gramian Q = R' R is summed by doubling, on its factor R,
whose singular values are the Hankel singular values to full precision. The leading right singular vectors V of R then
give the balanced truncation as V' A V, V' B, C V.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

LARGEST_DOUBLINGS = 60  # a pole of radius 1 - 1e-17 has forgotten everything after 2^60 samples
SHORTEST, LONGEST = 64, 8192  # samples of a response that the output vector is read from


class StateSpace(NamedTuple):
    """One system x' = A x + B u, y = C x + D u."""

    a: Tensor
    """State matrix, (n, n)."""

    b: Tensor
    """Input vector, (n)."""

    c: Tensor
    """Output vector, (n)."""

    d: Tensor
    """Feedthrough, ()."""


def orthonormal_states(poles: Tensor) -> tuple[Tensor, Tensor]:
    """State matrix and input vector of a system with given poles whose states are orthonormal: A A' + B B' = 1.

    Args:
        poles: Poles inside the unit circle, the conjugate of every one that is not real among them, (n).

    Returns:
        A (n, n), block lower triangular, and B (n).

    Source:
        [derived] A cascade of all-pass sections in normalised lattice form; the states are those of Kautz's functions.

    Example:
        >>> a, b = orthonormal_states(torch.tensor([0.5, 0.3 + 0.4j, 0.3 - 0.4j], dtype=torch.complex128))
        >>> (a @ a.mT + torch.outer(b, b)).round(decimals=9)
        tensor([[1., 0., 0.],
                [0., 1., 0.],
                [0., 0., 1.]], dtype=torch.float64)
    """
    n = len(poles)
    a = torch.zeros(n, n, dtype=torch.float64)
    b = torch.zeros(n, dtype=torch.float64)
    # The input of the next section: what of the states before and of u passes through all sections so far.
    through, direct = torch.zeros(n, dtype=torch.float64), 1.0
    at = 0
    for p in poles.tolist():
        if p.imag < 0:
            continue
        section, gain, out, feed = _real_section(p.real) if p.imag == 0 else _pair_section(p)
        here = slice(at, at + len(gain))
        a[here, : here.stop] = torch.outer(gain, through[: here.stop])
        a[here, here] = section
        b[here] = gain * direct
        through, direct = feed * through, feed * direct
        through[here] = out
        at = here.stop
    return a, b


def _real_section(p: float) -> tuple[Tensor, Tensor, Tensor, float]:
    s = _wide([math.sqrt((1 - p) * (1 + p))])
    return _wide([[p]]), s, s, -p


def _pair_section(p: complex) -> tuple[Tensor, Tensor, Tensor, float]:
    square = abs(p) ** 2
    k1, k2 = -2 * p.real / (1 + square), square
    c1 = abs(1 - p) * abs(1 + p) / (1 + square)  # sqrt(1 - k1^2) without cancellation
    c2 = math.sqrt((1 - abs(p)) * (1 + abs(p)) * (1 + square))
    return _wide([[-k1, -k2 * c1], [c1, -k1 * k2]]), _wide([c2 * c1, c2 * k1]), _wide([0.0, c2]), k2


def _wide(values: list[Any]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def realize_orthonormal(poles: Tensor, response: Tensor) -> StateSpace:
    """A realization with orthonormal states and a given impulse response.

    Args:
        poles: Poles inside the unit circle, (n).
        response: Impulse response, at least n + 1 samples, (L).

    Returns:
        The realization whose response comes nearest.
    """
    a, b = orthonormal_states(poles)
    return StateSpace(a, b, _output_vector(a, b, response[1:]), response[0])


def samples_to_read(poles: Tensor, *, memories: float = 6.0) -> int:
    """Number of samples of a response that determine its output vector well.

    Args:
        poles: Poles, (n).
        memories: How many times the memory of the slowest pole they should cover, as far as that is affordable.
    """
    margin = 1 - float(poles.abs().max()) if len(poles) else 1.0
    wanted = min(max(8 * len(poles), memories / max(margin, 1e-9), SHORTEST), max(LONGEST, 8 * len(poles)))
    return 1 + 2 ** math.ceil(math.log2(wanted))


def powers(a: Tensor, b: Tensor, count: int) -> Tensor:
    """B, A B, A^2 B, ... by doubling.

    Args:
        a: State matrix, (n, n).
        b: Vector, (n).
        count: How many.

    Returns:
        Columns, (n, count).
    """
    found, power = b[:, None], a
    while found.shape[-1] < count:
        found = torch.cat((found, power @ found), -1)
        power = power @ power
    return found[:, :count]


def _output_vector(a: Tensor, b: Tensor, tail: Tensor) -> Tensor:
    """C from h_(t+1) = C A^t B in the least squares; the rows of the states' responses are nearly orthonormal."""
    states = powers(a, b, len(tail))
    return torch.linalg.lstsq(states.mT, tail[:, None], driver="gelsd").solution[:, 0]


def observability_factor(a: Tensor, c: Tensor) -> Tensor:
    """A factor R of the observability Gramian Q = sum_t A'^t C' C A^t = R' R, by doubling.

    Args:
        a: State matrix with powers that do not grow, (n, n).
        c: Output vector, (n).

    Returns:
        Upper triangular R, (n, n), or of fewer rows.

    Source:
        Smith's squared iteration on the factor, after Penzl 1999.
    """
    factor, power = c[None], a
    for _ in range(LARGEST_DOUBLINGS):
        more = factor @ power
        if float(more.norm()) <= torch.finfo(a.dtype).eps * float(factor.norm()):
            break
        factor = torch.linalg.qr(torch.cat((factor, more)), mode="r").R
        power = power @ power
    return factor


def truncated(system: StateSpace, vectors: Tensor) -> StateSpace:
    """Project an input-normal system onto some of its states.

    Args:
        system: The system.
        vectors: Orthonormal columns, (n, m).
    """
    return StateSpace(vectors.mT @ system.a @ vectors, vectors.mT @ system.b, system.c @ vectors, system.d)


def response_of(system: StateSpace, length: int) -> Tensor:
    """Impulse response of a system.

    Args:
        system: The system.
        length: Number of samples.

    Returns:
        h_0..h_(length-1), (length).
    """
    proper = system.c @ powers(system.a, system.b, max(length - 1, 0))
    return torch.cat((system.d[None], proper))
