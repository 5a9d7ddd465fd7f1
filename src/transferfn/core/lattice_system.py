"""Banks of normalised lattices as state-space systems, which hold what the coefficients of crowded poles do not.

The n rotations that take a sample and the states to the next states leave lengths as they are, so that powers of their
matrix are contractions: kernels and states that are made of them round by a few eps, wherever the poles are. The same
filter as b / a loses digits as its poles crowd, and all of them soon.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from transferfn.core.dense import DenseSystem
from transferfn.core.kernel import spread
from transferfn.core.lattice import step_up
from transferfn.core.system import TransferFunction
from transferfn.kernels.tracing import values_are_hidden
from transferfn.typing import FilterState, Kernel, Lengths, Resets, Signal

SMALL = 16
"""Up to this order the powers of a matrix take no longer than coefficients do (measured on (50, 784, 64))."""

LARGEST_ROUNDING = 2e-12
"""Coefficients run what they change by less; from chunk to chunk it is by the square of that, over eps."""


class Lattice(NamedTuple):
    """A normalised lattice for each of D channels, over G sets of angles. A leading axis stands for banks.

    Source:
        Gray and Markel 1975, "A normalized digital filter structure".
    """

    k: Tensor
    """Sines of the angles: reflection coefficients k_1..k_n, (*bank, G, n)."""

    c: Tensor
    """Cosines, (1 - k^2)^(1/2), (*bank, G, n)."""

    v: Tensor
    """Taps of the states, (*bank, D, n)."""

    h0: Tensor
    """Feedthrough, (*bank, D)."""

    dt: float | None = None
    """Sampling interval in seconds; None means per sample."""

    def banks(self) -> list[Lattice]:
        """Those of each bank, without the leading axis; or this one, if it has none."""
        if self.k.dim() == 2:
            return [self]
        return [Lattice(*one, self.dt) for one in zip(*self[:4], strict=True)]

    def system(self) -> LatticeSystem:
        """What filters signals.

        Example:
            >>> lattice = Lattice(*(torch.tensor(x) for x in ([[-0.6]], [[0.8]], [[0.625]], [1.0])))
            >>> lattice.system().kernel(4, torch.float32)
            tensor([[1.0000, 0.5000, 0.3000, 0.1800]])
        """
        T, g = self.matrices()
        odd, channels = T.shape[-1] % 2, len(self.v)  # a dense system has pairs of states
        A, B = spread(pad(T, (0, odd, 0, odd)), channels, axis=-3), spread(pad(g, (0, odd)), channels)
        states = DenseSystem(A, B, pad(self.v, (0, odd)), torch.zeros_like(self.h0))
        return LatticeSystem(states, self.v, self.h0)

    def kernel(self, length: int, dtype: torch.dtype) -> Kernel:
        """Impulse responses, (*bank, D, L), those of all banks at once.

        Args:
            length: Number of samples L.
            dtype: Type of the result.
        """
        k, c, v = (x.flatten(0, -2) for x in self[:3])
        merged = Lattice(k, c, v, self.h0.flatten())
        return merged.system().kernel(length, dtype).view(*self.h0.shape, length)

    def matrices(self) -> tuple[Tensor, Tensor]:
        """T, (G, n, n), and g, (G, n), of one bank: states and a sample after the rotations."""
        groups, order = self.k.shape
        basis = torch.eye(order + 1, dtype=self.k.dtype, device=self.k.device)[:, None].expand(-1, groups, -1)
        after = rotate(basis[..., 0], basis[..., 1:], self.k, self.c)  # of the sample, and of each state
        return after[1:].permute(1, 2, 0), after[0]

    def rounding(self) -> float:
        """About how much of a response the rounding of coefficients to the type of the lattice changes, at worst.

        It is the rounding of the samples of a recurrence, amplified by the response of 1/A, whose norm is one over the
        product of the cosines.
        """
        with torch.no_grad():
            gain = (1 + step_up(self.k).abs().sum(-1)) / self.c.prod(-1)
            return torch.finfo(gain.dtype).eps * float(gain.max())

    def prefers_matrices(self) -> bool:
        """Whether signals should be filtered by :meth:`system` and not by coefficients.

        That is where these take no less time, and where they are wrong or nobody can look whether they are.
        """
        if self.k.shape[-1] <= SMALL or values_are_hidden() or self.k.is_meta:
            return True
        return self.rounding() > LARGEST_ROUNDING

    def poles(self) -> Tensor:
        """Poles of one bank, complex, (G, n): eigenvalues of T, as exact as their own conditioning lets them be."""
        return torch.linalg.eigvals(self.matrices()[0])

    def companion(self) -> tuple[TransferFunction, Tensor]:
        """The filters by their coefficients, and matrices that map companion states onto the lattice's, (D, n, n)."""
        a, matrix = companion_to_lattice(self.k, self.c)
        matrix = spread(matrix, len(self.v), axis=-3)
        return TransferFunction((self.v[:, None] @ matrix)[:, 0], a, self.h0, self.dt), matrix


@dataclasses.dataclass(frozen=True, eq=False)
class LatticeSystem:
    """D channels, x_t = T x_(t-1) + g u_t, y_t = v x_(t-1) + h0 u_t, with T and g the rotations of a lattice.

    The state, (B, D, n), holds the backward signals of stages 0 to n - 1. All is differentiable.

    Attributes:
        states: T and g, and v as what is read off the states after a sample.
        v: Taps, (D, n).
        h0: Feedthrough, (D).
    """

    states: DenseSystem
    v: Tensor
    h0: Tensor

    @property
    def channels(self) -> int:
        """Number of channels D."""
        return self.v.shape[0]

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Shape of a row's state, (D, n)."""
        return tuple(self.v.shape)

    def kernel(self, length: int, dtype: torch.dtype) -> Kernel:
        """Impulse response, (D, L), computed in the type of the system.

        Args:
            length: Number of samples L.
            dtype: Type of the result.
        """
        h0 = self.h0[..., None].to(dtype)
        return torch.cat((h0, self.states.kernel(length - 1, dtype)), -1) if length > 1 else h0

    def step(self, u: Tensor, state: FilterState) -> tuple[Tensor, FilterState]:
        """One step of the recurrence: output, (B, D), and the state after it.

        Args:
            u: Sample, (B, D).
            state: State before it, (B, D, n).
        """
        _, after = self.states.step(u, self._paired(state))
        return self.h0.to(u.dtype) * u + self._read(state), self._single(after)

    def response(self, state: FilterState, length: int) -> Signal:
        """Output that a state drives without any input, (B, L, D).

        Args:
            state: State before the first sample, (B, D, n).
            length: Number of samples L.
        """
        first = self._read(state)[:, None]
        return torch.cat((first, self.states.response(self._paired(state), length - 1)), 1) if length > 1 else first

    def advanced(self, state: FilterState, length: int, ends: Lengths | None) -> FilterState:
        """State after samples of zero.

        Args:
            state: State before them, (B, D, n).
            length: Largest number of samples L.
            ends: Number of samples of each row, (B,); None means L for all.
        """
        return self._single(self.states.advanced(self._paired(state), length, ends))

    def reached(self, u: Signal, ends: Lengths | None) -> FilterState:
        """State that an input leads to from rest, (B, D, n).

        Args:
            u: Input, (B, L, D).
            ends: Number of samples of each row, (B,); None means L for all.
        """
        return self._single(self.states.reached(u, ends))

    def scan(self, u: Signal, state: FilterState, ends: Lengths | None, resets: Resets) -> tuple[Signal, FilterState]:
        """Output, (B, L, D), and the state at the ends, where decisions on values are impossible.

        Args:
            u: Input, (B, L, D), zero past the ends.
            state: State before the first sample, (B, D, n).
            ends: Number of samples of each row, (B,); None means L for all.
            resets: True where the state is cleared before the sample, (B, L).
        """
        read, last = self.states.scan(u, self._paired(state), ends, resets)
        before = torch.cat((self._read(state)[:, None], read[:, :-1]), 1)
        return self.h0.to(u.dtype) * u + torch.where(resets[..., None], 0, before), self._single(last)

    def _read(self, state: FilterState) -> Tensor:
        return (self.v.to(state.dtype) * state).sum(-1)

    def _paired(self, state: FilterState) -> Tensor:
        return pad(state, (0, self.v.shape[-1] % 2)).unflatten(-1, (-1, 2))

    def _single(self, state: Tensor) -> FilterState:
        return state.flatten(-2)[..., : self.v.shape[-1]]


def companion_to_lattice(k: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """The denominator of a lattice, and the matrix that maps the companion state onto the lattice's.

    Args:
        k: Reflection coefficients k_1..k_n, (G, n).
        c: Their complements, (G, n); pairs are taken as directions, whatever their length is.

    Returns:
        Denominator, (G, n), and matrices, lower triangular, (G, n, n).

    It has derivatives of every order.

    Example:
        >>> companion_to_lattice(torch.tensor([[-0.6]]), torch.tensor([[0.8]]))
        (tensor([[-0.6000]]), tensor([[[0.8000]]]))
    """
    size = torch.hypot(k, c)
    k, c = k / size, c / size
    n = k.shape[-1]
    a = torch.ones_like(k[..., :1])
    scale = c.flip(-1).cumprod(-1).flip(-1)  # of state j: the product of c_m over m > j
    rows = []
    for m in range(n):
        rows.append(pad(a.flip(-1) * scale[..., m : m + 1], (0, n - m - 1)))
        a = pad(a, (0, 1))
        a = torch.addcmul(a, k[..., m : m + 1], a.flip(-1))
    matrix = torch.stack(rows, -2) if rows else k.new_zeros(*k.shape, n)
    return a[..., 1:], matrix


def rotate(u: Tensor, x: Tensor, k: Tensor, c: Tensor) -> Tensor:
    """The backward signals of a lattice after a sample, by n rotations from the last stage to the first.

    Args:
        u: Samples, (*rows, D).
        x: Backward signals of stages 0 to n - 1 before them, (*rows, D, n).
        k: Reflection coefficients, (D, n).
        c: Their complements, (D, n).

    Returns:
        Those after them, (*rows, D, n).

    Example:
        >>> rotate(torch.tensor([1.0]), torch.tensor([[0.5]]), torch.tensor([[-0.6]]), torch.tensor([[0.8]]))
        tensor([[1.1000]])
    """
    forward, backward = u, []
    for x_m, k_m, c_m in reversed(list(zip(x.unbind(-1), k.unbind(-1), c.unbind(-1), strict=True))):
        backward.append(k_m * forward + c_m * x_m)
        forward = c_m * forward - k_m * x_m
    return torch.stack((forward, *reversed(backward[1:])), -1) if backward else x
