"""Banks of systems with a full state matrix: kernels, states and outputs from its powers, by doubling.

Time has two levels: with t = q T + r and T about the root of the number of samples, C A^t B is (C A^r) (A^(q T) B).
Both sides are doubled with squares of A, one matrix product each, and never divided.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn.functional import pad

from transferfn.core.blocks import by_blocks, doublings, shifted, split
from transferfn.typing import Kernel, Lengths, Resets, Signal


@dataclasses.dataclass(frozen=True, eq=False)
class DenseSystem:
    """D channels with real matrices, x_t = A x_(t-1) + B u_t, y_t = C x_t + D u_t.

    States are pairs (B, D, N/2, 2), as those of complex modes; A, B and C take them as N numbers side by side.

    A leading axis of C and D stands for several outputs of the same states; only :meth:`kernel` takes it.

    Attributes:
        A: State matrices, (D, N, N).
        B: Input vectors, (D, N).
        C: Output vectors, (*bank, D, N).
        D: Feedthrough, (*bank, D).

    Example:
        >>> system = DenseSystem(0.5 * torch.eye(2)[None], torch.ones(1, 2), torch.ones(1, 2), torch.zeros(1))
        >>> system.kernel(4, torch.float32)
        tensor([[2.0000, 1.0000, 0.5000, 0.2500]])
    """

    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor

    @property
    def channels(self) -> int:
        """Number of channels D."""
        return self.A.shape[0]

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Shape of a row's state, (D, N/2, 2)."""
        return (self.channels, self.A.shape[-1] // 2, 2)

    def poles(self) -> Tensor:
        """Eigenvalues of the state matrices, complex, (D, N)."""
        return torch.linalg.eigvals(self.A)

    def kernel(self, length: int, dtype: torch.dtype) -> Kernel:
        """Impulse response: k_t = C A^t B, and D more at t = 0.

        Args:
            length: Number of samples L.
            dtype: Type of the result. Powers are computed in the type of the system and rounded to it.

        Returns:
            k_0..k_(L-1), (*bank, D, L).
        """
        block = split(length)
        rows, power = _doubled_rows(self.C[..., None, :], self.A, block)  # C A^r
        columns, _ = _doubled_rows(self.B[:, None], power.mT, -(-length // block))  # A^(q T) B
        k = (columns.to(dtype) @ rows.to(dtype).mT).flatten(-2)[..., :length]
        return k + pad(self.D[..., None].to(dtype), (0, length - 1))

    def step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step of the recurrence.

        Args:
            u: Sample, (B, D).
            state: State before it, (B, D, N/2, 2).

        Returns:
            Output, (B, D), and the state after it.
        """
        A, B, C, D = (x.to(u.dtype) for x in (self.A, self.B, self.C, self.D))
        x = torch.einsum("dij,bdj->bdi", A, state.flatten(2)) + B * u[..., None]
        return (C * x).sum(-1) + D * u, x.unflatten(2, (-1, 2))

    def response(self, state: Tensor, length: int) -> Signal:
        """Output that a state drives without any input.

        Args:
            state: State before the first sample, (B, D, N/2, 2).
            length: Number of samples L.

        Returns:
            y_t = C A^(t+1) x, (B, L, D), in the type of the state.
        """
        dtype = state.dtype
        block = split(length)
        rows, power = _doubled_rows((self.C[:, None] @ self.A), self.A, block)  # C A^(r+1), (D, T, N)
        x = state.flatten(2).transpose(0, 1)[:, :, None]  # (D, B, Q, N)
        for _ in range(doublings(-(-length // block))):
            x = torch.cat((x, (x.flatten(1, 2) @ power.to(dtype).mT).view_as(x)), 2)
            power = power @ power
        y = x.flatten(1, 2) @ rows.to(dtype).mT
        return y.unflatten(1, x.shape[1:3]).flatten(2)[..., :length].permute(1, 2, 0)

    def advanced(self, state: Tensor, length: int, ends: Lengths | None) -> Tensor:
        """State after samples of zero: A^ends x.

        Args:
            state: State before them, (B, D, N/2, 2).
            length: Largest number of samples L.
            ends: Number of samples of each row, (B,), at most L; None means L for all.

        Returns:
            State, of the same shape.
        """
        x, power = state.flatten(2).transpose(0, 1), self.A
        for bit in range(length.bit_length()):
            if bit:
                power = power @ power
            if ends is None and not length >> bit & 1:
                continue
            further = x @ power.to(x.dtype).mT
            x = further if ends is None else torch.where((ends >> bit & 1).bool()[:, None], further, x)
        return x.transpose(0, 1).unflatten(2, (-1, 2))

    def reached(self, u: Signal, ends: Lengths | None) -> Tensor:
        """State that an input leads to from rest: sum_(s < ends) A^(ends-1-s) B u_s.

        Args:
            u: Input, (B, L, D).
            ends: Number of samples of each row, (B,); None means L for all.

        Returns:
            State, (B, D, N/2, 2), in the type of ``u``.
        """
        block = split(u.shape[1])
        past = by_blocks(u, ends, block)  # (D, B, Q, T), the latest sample first
        columns, power = _doubled_rows(self.B[:, None], self.A.mT, block)  # A^r B, (D, T, N)
        power = power.mT
        x = (past.flatten(1, 2) @ columns.to(u.dtype)).unflatten(1, past.shape[1:3])
        for _ in range(doublings(x.shape[2])):  # blocks in pairs, the later one first
            x = pad(x, (0, 0, 0, x.shape[2] % 2))
            earlier = x[:, :, 1::2]
            x = x[:, :, ::2] + (earlier.flatten(1, 2) @ power.to(u.dtype).mT).view_as(earlier)
            power = power @ power
        return x[:, :, 0].transpose(0, 1).unflatten(2, (-1, 2))

    def scan(self, u: Signal, state: Tensor, ends: Lengths | None, resets: Resets) -> tuple[Signal, Tensor]:
        """Run the recurrence with resets by doubling: memory O(B L D N), no decision that depends on values.

        Args:
            u: Input, (B, L, D), zero past the ends.
            state: State before the first sample, (B, D, N/2, 2).
            ends: Number of samples of each row, (B,); None means L for all.
            resets: True where the state is cleared before the sample, (B, L).

        Returns:
            Output, (B, L, D), and the state at the ends.
        """
        A, B, C, D = self.A, *(x.to(u.dtype) for x in (self.B, self.C, self.D))
        x = torch.cat((state.flatten(2)[:, None], B * u[..., None]), 1)
        cut, shift = pad(resets, (1, 0)), 1
        while shift < x.shape[1]:
            before = torch.where(cut[:, shift:, None, None], 0, x[:, :-shift])
            x = x + shifted(torch.einsum("dij,bldj->bldi", A.to(u.dtype), before), shift)
            cut = cut | shifted(cut[:, :-shift], shift)
            A, shift = A @ A, 2 * shift
        y = (C * x[:, 1:]).sum(-1) + D * u
        last = x[:, -1] if ends is None else x[torch.arange(len(x), device=x.device), ends]
        return y, last.unflatten(2, (-1, 2))


def _doubled_rows(row: Tensor, A: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Rows c, c A, c A^2, ..., as many as asked for, (*bank, D, count, N), and the power after their doublings."""
    rows = row
    for _ in range(doublings(count)):
        rows = torch.cat((rows, rows @ A), -2)
        A = A @ A
    return rows[..., :count, :], A
