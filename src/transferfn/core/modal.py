"""Banks of diagonal systems with one input and one output: kernels, states and outputs without D x N x L numbers.

Sums over modes and time have two levels: with t = q T + r and T about the root of the number of samples, A^t is
A^(q T) A^r. Both factors are small, and the sums over them are matrix products.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from transferfn.core.blocks import by_blocks, doublings, shifted, split
from transferfn.kernels.tracing import values_are_hidden
from transferfn.typing import Kernel, Lengths, Resets, Signal

ROOM = 2**16  # numbers of each table of powers


@dataclasses.dataclass(frozen=True, eq=False)
class ModalSystem:
    """D channels of N modes each, x_t = A x_(t-1) + B u_t, y_t = c Re(sum_n C_n x_(t,n)) + D u_t.

    Complex modes stand for themselves and their conjugates, so that c = 2; real ones have c = 1. States are real
    tensors: pairs of the real and the imaginary part, (B, D, N, 2), or (B, D, N) if the modes are real.

    A leading axis of C and D stands for several outputs of the same states; only :meth:`kernel` takes it.

    Attributes:
        A: Eigenvalues in discrete time, complex or real, (D, N).
        B: Input coefficients, (D, N).
        C: Output coefficients, (*bank, D, N).
        D: Feedthrough, real, (*bank, D).
        dt: Sampling interval in seconds; None means per sample.

    Example:
        >>> half = torch.tensor([[0.5]])
        >>> ModalSystem(half, 2 * half, 2 * half, torch.zeros(1)).kernel(4, torch.float32)
        tensor([[1.0000, 0.5000, 0.2500, 0.1250]])
    """

    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor
    dt: float | None = None

    @property
    def channels(self) -> int:
        """Number of channels D."""
        return self.A.shape[0]

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Shape of a row's state: (D, N, 2), or (D, N) if the modes are real."""
        return (*self.A.shape, 2) if self.A.is_complex() else tuple(self.A.shape)

    def poles(self) -> Tensor:
        """Eigenvalues of the state matrices, conjugates included, complex, (D, n)."""
        return torch.cat((self.A, self.A.conj()), -1) if self.A.is_complex() else self.A.to(torch.complex128)

    def kernel(self, length: int, dtype: torch.dtype) -> Kernel:
        """Impulse response: k_t = c Re(sum_n C_n A_n^t B_n), and D more at t = 0.

        Powers are there for some channels at a time, and are computed again for derivatives.

        Args:
            length: Number of samples L.
            dtype: Type of the result. Powers are computed in the type of the system and rounded to it.

        Returns:
            k_0..k_(L-1), (*bank, D, L).
        """
        weights = self._weight * self.C * self.B
        channels = max(ROOM // (split(length) * max(self.A.shape[-1], 1)), 1)
        again = self.channels > channels and torch.is_grad_enabled() and not values_are_hidden()
        pieces = [
            checkpoint(_sums, *piece, length, dtype, use_reentrant=False, preserve_rng_state=False)
            if again
            else _sums(*piece, length, dtype)
            for piece in zip(weights.split(channels, -2), self.A.split(channels), strict=True)
        ]
        k = torch.cat(pieces, -2)
        return k + pad(self.D[..., None].to(dtype), (0, length - 1))

    def step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step of the recurrence.

        Args:
            u: Sample, (B, D).
            state: State before it, (B, D, N, 2) or (B, D, N).

        Returns:
            Output, (B, D), and the state after it.
        """
        kind = _kind(self.A, u.dtype)
        x = self.A.to(kind) * self._modes(state) + self.B.to(kind) * u[..., None]
        return self._output(x) + self.D.to(u.dtype) * u, _pairs(x)

    def response(self, state: Tensor, length: int) -> Signal:
        """Output that a state drives without any input.

        Args:
            state: State before the first sample, (B, D, N, 2) or (B, D, N).
            length: Number of samples L.

        Returns:
            y_t = c Re(sum_n C_n A_n^(t+1) x_n), (B, L, D), in the type of the state.
        """
        x, dtype = self._modes(state), state.dtype
        block = split(length * len(x))
        low, high = _powers(self.A, min(block, length), -(-length // block))
        kind = _kind(self.A, dtype)
        ahead = (self._weight * self.C * self.A)[:, None] * high
        outer = x.transpose(0, 1)[:, :, None] * ahead.to(kind)[:, None]  # (D, B, Q, N)
        y = _dual(outer, dtype).flatten(1, 2) @ _flat(low, dtype).mT
        return y.unflatten(1, outer.shape[1:3]).flatten(2)[..., :length].permute(1, 2, 0)

    def advanced(self, state: Tensor, length: int, ends: Lengths | None) -> Tensor:
        """State after samples of zero: A^ends x.

        Args:
            state: State before them, (B, D, N, 2) or (B, D, N).
            length: Largest number of samples L.
            ends: Number of samples of each row, (B,), at most L; None means L for all.

        Returns:
            State, of the same shape.
        """
        block = split(length + 1)
        low, high = _powers(self.A, block, length // block + 1)
        if ends is None:
            power = low[:, length % block] * high[:, length // block]
        else:
            power = (low[:, ends % block] * high[:, ends // block]).transpose(0, 1)
        return _pairs(power.to(_kind(self.A, state.dtype)) * self._modes(state))

    def reached(self, u: Signal, ends: Lengths | None) -> Tensor:
        """State that an input leads to from rest: sum_(s < ends) A^(ends-1-s) B u_s.

        Args:
            u: Input, (B, L, D).
            ends: Number of samples of each row, (B,); None means L for all.

        Returns:
            State, (B, D, N, 2) or (B, D, N), in the type of ``u``.
        """
        length = u.shape[1]
        block = split(length)
        past = by_blocks(u, ends, block)  # (D, B, Q, T), the latest sample first
        low, high = _powers(self.A, block, past.shape[2])
        inner = past.flatten(1, 2) @ _flat(low, u.dtype)
        inner = inner.unflatten(1, past.shape[1:3])  # (D, B, Q, N)
        if self.A.is_complex():
            inner = torch.view_as_complex(inner.unflatten(-1, (-1, 2)))
        x = torch.einsum("dbqn,dqn->bdn", inner, (high * self.B[:, None]).to(inner.dtype))
        return _pairs(x)

    def scan(self, u: Signal, state: Tensor, ends: Lengths | None, resets: Resets) -> tuple[Signal, Tensor]:
        """Run the recurrence with resets by doubling: memory O(B L D N), no decision that depends on values.

        Args:
            u: Input, (B, L, D), zero past the ends.
            state: State before the first sample, (B, D, N, 2) or (B, D, N).
            ends: Number of samples of each row, (B,); None means L for all.
            resets: True where the state is cleared before the sample, (B, L).

        Returns:
            Output, (B, L, D), and the state at the ends.
        """
        kind = _kind(self.A, u.dtype)
        x = torch.cat((self._modes(state)[:, None], self.B.to(kind) * u[..., None]), 1)
        cut, power, shift = pad(resets, (1, 0)), self.A, 1
        while shift < x.shape[1]:
            before = torch.where(cut[:, shift:, None, None], 0, x[:, :-shift])
            x = x + shifted(power.to(kind) * before, shift)
            cut = cut | shifted(cut[:, :-shift], shift)
            power, shift = power * power, 2 * shift
        y = self._output(x[:, 1:]) + self.D.to(u.dtype) * u
        last = x[:, -1] if ends is None else x[torch.arange(len(x), device=x.device), ends]
        return y, _pairs(last)

    @property
    def _weight(self) -> int:
        return 2 if self.A.is_complex() else 1

    def _modes(self, state: Tensor) -> Tensor:
        return torch.view_as_complex(state.contiguous()) if self.A.is_complex() else state

    def _output(self, x: Tensor) -> Tensor:
        y = (self.C.to(x.dtype) * x).sum(-1)
        return 2 * y.real if y.is_complex() else y


def _sums(weights: Tensor, A: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """Re(sum_n w_n A_n^t) for t < L, (*bank, D, L), from weights (*bank, D, N)."""
    block = split(length)
    low, high = _powers(A, block, -(-length // block))
    k = _dual(weights[..., None, :] * high, dtype) @ _flat(low, dtype).mT
    return k.flatten(-2)[..., :length]


def _powers(A: Tensor, block: int, blocks: int) -> tuple[Tensor, Tensor]:
    """A^0, ..., A^(T-1), (D, T, N), and A^0, A^T, ..., A^((Q-1) T), (D, Q, N), by doubling; T is a power of two."""
    low, power = doubled(A, block)
    high, _ = doubled(power, blocks)
    return low, high


def doubled(A: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first powers of A along a new axis before the last, and the power after the last of their doublings.

    Args:
        A: Multipliers, (D, N).
        count: Number of powers T, that of zero the first.

    Returns:
        (D, T, N), and A to the power of T, rounded up to a power of two.
    """
    found, power = torch.ones_like(A)[:, None], A
    for _ in range(doublings(count)):
        found = torch.cat((found, found * power[:, None]), 1)
        power = power * power
    return found[:, :count], power


def _kind(A: Tensor, dtype: torch.dtype) -> torch.dtype:
    """The type of modes beside signals of a real type."""
    return torch.promote_types(dtype, torch.complex64) if A.is_complex() else dtype


def _flat(z: Tensor, dtype: torch.dtype) -> Tensor:
    """Real and imaginary parts side by side along the last axis."""
    return (torch.view_as_real(z).flatten(-2) if z.is_complex() else z).to(dtype)


def _dual(z: Tensor, dtype: torch.dtype) -> Tensor:
    """What multiplies the parts of w such that the sum is Re(z w)."""
    return _flat(z.conj().resolve_conj() if z.is_complex() else z, dtype)


def _pairs(x: Tensor) -> Tensor:
    return torch.view_as_real(x) if x.is_complex() else x
