"""What can be looked at in a layer, whatever it learns: banks of filters with poles, zeros and responses.

A ``TransferFunction`` is such a bank already. Layers that are given by states (S4, S4D, S5, LRU) become sums of modes,
whose responses need no polynomial: coefficients of one would not hold all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from transferfn.analysis import balanced
from transferfn.analysis.hankel import hankel_matrix
from transferfn.core import DenseSystem, ModalSystem, TransferFunction, select
from transferfn.core.from_poles import LARGEST_ERROR

MOST_NUMBERS = 2**22  # that a sum over modes holds at a time
LARGEST_BALANCED = 128  # orders up to here are balanced exactly, from poles; beyond, from as many samples as below
HANKEL_ROWS = 768
LARGEST_LEFT_OUT = 0.01  # of the largest value, by the samples that follow those rows
ON_CIRCLE = 1e-12  # poles so close to the unit circle are on it: rounding decides
COMPARED = 256  # samples over which modes of a full state matrix are held against its powers


@runtime_checkable
class FilterBank(Protocol):
    """One bank of D causal filters with one input and one output each: what the plots take."""

    @property
    def channels(self) -> int:
        """Number of channels D."""
        ...

    @property
    def denominator_groups(self) -> int:
        """Number of distinct denominators G: channel d has the poles of row d * G // D."""
        ...

    @property
    def dt(self) -> float | None:
        """Sampling interval in seconds; None means per sample."""
        ...

    def poles(self) -> Tensor:
        """Poles, complex, (G, n)."""
        ...

    def zeros(self) -> Tensor:
        """Zeros, complex, (D, n), those that there are not infinite."""
        ...

    def impulse_response(self, length: int) -> Tensor:
        """Impulse responses, (D, length).

        Args:
            length: Number of samples.
        """
        ...

    def frequency_response(self, omega: ArrayLike | Tensor) -> Tensor:
        """Complex responses H(exp(i omega)), (D, F).

        Args:
            omega: Angles per sample, (F).
        """
        ...


@dataclass(frozen=True, eq=False)
class ModalBank:
    """D filters as sums of modes, H(z) = d + sum_k r_k / (1 - p_k z^-1), conjugates among the modes.

    Attributes:
        modes: Poles p, complex128, (D, n).
        residues: Residues r, complex128, (D, n).
        feedthrough: d, what is left at t = 0, float64, (D).
        dt: Sampling interval in seconds; None means per sample.

    Example:
        >>> half = torch.tensor([[0.5 + 0j]], dtype=torch.complex128)
        >>> bank = ModalBank(half, 2 * half, torch.zeros(1, dtype=torch.float64))
        >>> bank.impulse_response(3), bank.frequency_response([0.0]).real
        (tensor([[1.0000, 0.5000, 0.2500]], dtype=torch.float64), tensor([[2.]], dtype=torch.float64))
    """

    modes: Tensor
    residues: Tensor
    feedthrough: Tensor
    dt: float | None = None

    @property
    def channels(self) -> int:
        """Number of channels D."""
        return len(self.modes)

    @property
    def denominator_groups(self) -> int:
        """Every channel has poles of its own, D."""
        return self.channels

    def poles(self) -> Tensor:
        """Poles, complex128, (D, n)."""
        return self.modes

    def zeros(self) -> Tensor:
        """Zeros, complex128, (D, n): the finite eigenvalues of the pencil of the states, the others infinite."""
        from scipy.linalg import eigvals

        found = torch.full(self.modes.shape, complex(math.inf, 0), dtype=torch.complex128)
        n = self.modes.shape[1]
        right = np.diag([1.0] * n + [0.0])
        for row, (p, r, d) in enumerate(zip(self.modes, self.residues, self.feedthrough, strict=True)):
            # x' = p x + u and y = (p r) x + (d + sum r) u; scaled by roots of |p r|, as the states may have any size.
            scale = (p * r).abs().sqrt().clamp_min(1e-150).to(p.dtype)
            left = np.zeros((n + 1, n + 1), dtype=complex)
            left[:n, :n] = np.diag(p.numpy())
            left[:n, n], left[n, :n] = scale.numpy(), (p * r / scale).numpy()
            left[n, n] = complex(d + r.sum().real)
            pair: Any = eigvals(left, right, homogeneous_eigvals=True)
            alpha, beta = pair
            finite = np.abs(beta) > 1e-10 * np.hypot(np.abs(alpha), np.abs(beta))
            values = (alpha[finite] / beta[finite])[:n]
            found[row, : len(values)] = torch.from_numpy(values)
        return found

    def impulse_response(self, length: int) -> Tensor:
        """Impulse responses, (D, length), float64.

        Args:
            length: Number of samples.
        """
        t = torch.arange(length, dtype=torch.float64)
        rows = []
        for p, r in self._parts(length):
            small = p.abs() < 1e-300  # 0^0 is 1
            power = torch.exp(torch.where(small, 1.0 + 0j, p).log()[..., None] * t)
            power = torch.where(small[..., None] & (t > 0), 0, power)
            rows.append(torch.einsum("dn,dnt->dt", r, power).real)
        h = torch.cat(rows)
        h[:, 0] += self.feedthrough
        return h

    def frequency_response(self, omega: ArrayLike | Tensor) -> Tensor:
        """Complex responses H(exp(i omega)), (D, F).

        Args:
            omega: Angles per sample, (F).
        """
        back = torch.exp(-1j * torch.as_tensor(omega, dtype=torch.float64))
        rows = [(r[..., None] / (1 - p[..., None] * back)).sum(1) for p, r in self._parts(len(back))]
        return torch.cat(rows) + self.feedthrough[:, None]

    def _parts(self, columns: int) -> list[tuple[Tensor, Tensor]]:
        """Channels a few at a time, so that channels x modes x columns stays small."""
        few = max(1, MOST_NUMBERS // max(1, self.modes.shape[1] * columns))
        return list(zip(self.modes.split(few), self.residues.split(few), strict=True))


class PolesOnce:
    """A bank whose poles are computed once, for several pictures of it: of high orders they cost most of the time.

    Args:
        bank: The filters, not to be changed meanwhile.

    Example:
        >>> bank = PolesOnce(TransferFunction(torch.ones(2, 1), torch.tensor([[-0.5]]), torch.zeros(2)))
        >>> bank.poles() is bank.poles(), bank.channels
        (True, 2)
    """

    def __init__(self, bank: FilterBank) -> None:
        self.bank = bank
        self.channels, self.denominator_groups, self.dt = bank.channels, bank.denominator_groups, bank.dt
        self.zeros, self.impulse_response = bank.zeros, bank.impulse_response
        self.frequency_response = bank.frequency_response

    @cached_property
    def _poles(self) -> Tensor:
        return self.bank.poles()

    def poles(self) -> Tensor:
        """Poles, complex, (G, n)."""
        return self._poles


def channels_of(bank: FilterBank, rows: list[int]) -> FilterBank:
    """Some channels of a bank.

    Args:
        bank: A transfer function or a sum of modes.
        rows: Which channels.
    """
    if isinstance(bank, TransferFunction):
        return select(bank, rows)
    if isinstance(bank, PolesOnce):
        return channels_of(bank.bank, rows)
    assert isinstance(bank, ModalBank)
    return replace(bank, modes=bank.modes[rows], residues=bank.residues[rows], feedthrough=bank.feedthrough[rows])


def modal_bank(system: ModalSystem | DenseSystem) -> ModalBank:
    """The modes of a bank of state-space systems, one output each.

    Args:
        system: The systems; of full state matrices the modes are their eigenvectors.

    Raises:
        ArithmeticError: if eigenvectors do not hold the filters, as where several eigenvalues are one.

    Example:
        >>> half = torch.tensor([[0.5 + 0.1j]], dtype=torch.complex128)
        >>> bank = modal_bank(ModalSystem(half, half, half, torch.zeros(1, dtype=torch.float64)))
        >>> bank.poles()
        tensor([[0.5000+0.1000j, 0.5000-0.1000j]], dtype=torch.complex128)
    """
    feedthrough = system.D.detach().cpu().double()
    if isinstance(system, ModalSystem):
        modes, residues = (x.detach().cpu().to(torch.complex128) for x in (system.A, system.B * system.C))
        if system.A.is_complex():
            modes, residues = (torch.cat((x, x.conj()), -1).resolve_conj() for x in (modes, residues))
        return ModalBank(modes, residues, feedthrough, system.dt)
    a, b, c = (x.detach().cpu().double() for x in (system.A, system.B, system.C))
    modes, vectors = torch.linalg.eig(a)
    into = torch.linalg.solve(vectors, b[..., None].to(vectors.dtype))[..., 0]
    bank = ModalBank(modes, (c[:, None].to(vectors.dtype) @ vectors)[:, 0] * into, feedthrough)
    true = DenseSystem(a, b, c, feedthrough).kernel(COMPARED, torch.float64)
    error = float(
        ((bank.impulse_response(COMPARED) - true).abs().amax(-1) / true.abs().amax(-1).clamp_min(1e-300)).max()
    )
    if not error <= LARGEST_ERROR:
        raise ArithmeticError(
            f"the eigenvectors of the state matrices do not hold the filters: their responses are off by {error:.1g}"
        )
    return bank


def hankel_values(bank: FilterBank) -> Tensor:
    """Hankel singular values of each channel of a small bank, largest first: what each state is worth.

    Up to order 128 they are those of a realization with orthonormal states. Its output vector is read from some 8,192
    samples at most, fewer than slow poles remember, which costs digits: against exact Gramians, filters of up to 16
    poles, also such that crowd, were off by 4e-14 of the largest value where poles are 1e-3 from the unit circle, by
    6e-11 where they are 1e-6 from it. Beyond order 128 they are those of the Hankel matrix of the first 1,536 samples,
    which leaves out what the filter remembers longer; where that may be more than a hundredth of the largest value, as
    the last samples and the slowest pole tell, they are not computed.

    Args:
        bank: The filters.

    Returns:
        Values, (D, n), float64; NaN where a filter has a pole, to rounding, on or outside the unit circle, and none are
        defined, and where they are not computed.

    Example:
        >>> h = TransferFunction(torch.tensor([[0.5]]), torch.tensor([[-0.5]]), torch.tensor([1.0]))
        >>> hankel_values(h).round(decimals=4)
        tensor([[0.6667]], dtype=torch.float64)
    """
    poles = bank.poles().cpu()
    order = poles.shape[-1]
    found = torch.full((bank.channels, order), math.nan, dtype=torch.float64)
    for channel in range(bank.channels):
        own = poles[channel * len(poles) // bank.channels]
        if bool((own.abs() >= 1 - ON_CIRCLE).any()):
            continue
        one = channels_of(bank, [channel])
        if order > LARGEST_BALANCED:
            h = one.impulse_response(2 * HANKEL_ROWS)[0].cpu().double()
            values = torch.linalg.eigvalsh(hankel_matrix(h, HANKEL_ROWS)).abs().sort(descending=True).values
            if not _left_out(h, float(own.abs().max())) <= LARGEST_LEFT_OUT * float(values[0]):
                continue
        else:
            response = one.impulse_response(balanced.samples_to_read(own))[0].cpu().double()
            whole = balanced.realize_orthonormal(_paired(own), response)
            values = torch.linalg.svdvals(balanced.observability_factor(whole.a, whole.c))
        values = values[:order]
        found[channel, : len(values)] = values
        found[channel, len(values) :] = 0
    return found


def _left_out(h: Tensor, radius: float) -> float:
    """Sum of what follows a response, if it goes on falling as its slowest pole: the Hankel matrix errs by no more."""
    quarter = len(h) // 4
    fall = radius**quarter
    return float(h[-quarter:].abs().sum()) * fall / max(1 - fall, 1e-300)


def _paired(poles: Tensor) -> Tensor:
    """The same poles with conjugates that agree to the last digit, real ones without an imaginary part."""
    tiny = 1e-12
    real = poles[poles.imag.abs() <= tiny].real.to(poles.dtype)
    upper, lower = poles[poles.imag > tiny], poles[poles.imag < -tiny]
    if len(upper) != len(lower):  # rounding told a double real pole apart on one side only: take it as real
        return torch.complex(poles.real, torch.zeros_like(poles.real))
    return torch.cat((real, upper, upper.conj())).resolve_conj()
