"""Diagonal plus low rank systems over many samples, a block of samples at a time, without dense powers.

With v_t = Re(h . x_(t-1)) known, x_t = a x_(t-1) - g v_t + B u_t is a diagonal recurrence. Within a block v is the
solution of a triangular system, whose entries are responses of that diagonal recurrence.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from transferfn.core.blocks import by_blocks, split
from transferfn.core.dense import DenseSystem
from transferfn.core.dplr import DiscreteDPLR, output_row, side_by_side
from transferfn.core.modal import doubled
from transferfn.typing import Kernel, Lengths, Resets, Signal

POWERS_PAY = 2  # a chunk is long if N^2 is less than so many times its samples; measured with N of 16 to 256


class Blocks:
    """The same systems as they run from block to block of T samples.

    Args:
        system: D systems.
        block: Number of samples T of a block.

    Attributes:
        of_x: What v is of the state before a block, (D, T R, N).
        of_u: What v is of the input of a block, (D, T R, T).
        by_v: What v does to the state after the block, (D, T R, N).
        by_u: What the input does to the state after the block, through v, too, (D, T, N).
    """

    def __init__(self, system: DiscreteDPLR, block: int) -> None:
        powers, self.last = doubled(system.a, block)  # a^t, (D, T, N/2), and a^T
        ranks, kind = system.h.shape[1], system.a.real.dtype
        lag = torch.arange(block, device=powers.device)
        lag = lag[:, None] - lag - 1

        def response(source: Tensor) -> Tensor:
            """Of v at t + 1 to what enters the states at 0, (D, R, N/2): from each time to each later one."""
            taps = torch.einsum("dim,dtm,djm->dtij", system.h, powers, source).real  # (D, T, R, J)
            held = torch.where((lag >= 0)[..., None, None], taps[:, lag.clamp_min(0)], 0)  # (D, T, T', R, J)
            return held.transpose(2, 3).flatten(1, 2).flatten(2)  # (D, T R, T' J)

        one = torch.eye(block * ranks, dtype=kind, device=powers.device)
        from_state = output_row(system.h[:, None] * powers[:, :, None]).flatten(1, 2) / 2
        right = torch.cat((response(system.B[:, None]), from_state), -1)
        self.of_u, self.of_x = torch.linalg.solve_triangular(
            one + response(system.g), right, upper=False, unitriangular=True
        ).split((block, from_state.shape[-1]), -1)
        onward = powers.flip(1)[:, :, None]  # what enters at s is multiplied by a^(T - 1 - s)
        self.by_v = side_by_side(onward * system.g[:, None]).flatten(1, 2)
        self.by_u = side_by_side(onward * system.B[:, None, None])[:, :, 0] - self.of_u.mT @ self.by_v

    def advanced(self, x: Tensor) -> Tensor:
        """State after a block of zeros.

        Args:
            x: States before it, (D, B, N).
        """
        kept = self.last[:, None] * torch.view_as_complex(x.unflatten(-1, (-1, 2)))
        return side_by_side(kept) - (x @ self.of_x.mT) @ self.by_v


class ParallelDPLR:
    """Diagonal plus low rank systems that filter chunks: by blocks, or, where these cost less, by full matrices.

    Blocks cost O(N) a sample, full matrices O(N^3) for each doubling of the number of samples. All is computed in the
    type of the systems.

    Args:
        system: D systems.

    Example:
        >>> from transferfn.core.dplr import DPLR
        >>> one = torch.ones(1, 1, dtype=torch.complex64)
        >>> system = DPLR(-one, one[None], one, torch.ones(1)).bilinear(one, torch.zeros(1))
        >>> ParallelDPLR(system).reached(torch.ones(1, 3, 1), None)
        tensor([[[[0.3360, 0.0000]]]])
    """

    def __init__(self, system: DiscreteDPLR) -> None:
        self.system = system
        self._made: dict[int, Blocks] = {}  # kernel and state of a chunk have blocks of the same size
        self._full: DenseSystem | None = None

    @property
    def channels(self) -> int:
        """Number of channels D."""
        return self.system.a.shape[0]

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Shape of a row's state, (D, N/2, 2)."""
        return (*self.system.a.shape, 2)

    def kernel(self, length: int, dtype: torch.dtype) -> Kernel:
        """Impulse response: k_t = 2 Re(C . A^t B), and D more at t = 0.

        Args:
            length: Number of samples L.
            dtype: Type of the result.

        Returns:
            k_0..k_(L-1), (*bank, D, L).
        """
        if self._is_small(length):
            return self._dense().kernel(length, dtype)
        block = split(length)
        columns = torch.cat(self._over_blocks(side_by_side(self.system.B)[:, None], length, block), 1)  # (D, Q, N)
        k = (columns @ self._rows(self.system.C, block).mT).flatten(-2)[..., :length]
        return k.to(dtype) + pad(self.system.D[..., None].to(dtype), (0, length - 1))

    def response(self, state: Tensor, length: int) -> Signal:
        """Output that a state drives without any input.

        Args:
            state: State before the first sample, (B, D, N/2, 2).
            length: Number of samples L.

        Returns:
            y_t = 2 Re(C . A^(t+1) x), (B, L, D), in the type of the state.
        """
        if self._is_small(length):
            return self._dense().response(self._wide(state), length).to(state.dtype)
        block = split(length)
        x = self._wide(state).flatten(2).transpose(0, 1)
        x = torch.stack(self._over_blocks(x, length, block), 2)  # (D, B, Q, N)
        y = x.flatten(1, 2) @ self._rows(self._earlier(self.system.C), block).mT
        return y.unflatten(1, x.shape[1:3]).flatten(2)[..., :length].permute(1, 2, 0).to(state.dtype)

    def advanced(self, state: Tensor, length: int, ends: Lengths | None) -> Tensor:
        """State after samples of zero.

        Args:
            state: State before them, (B, D, N/2, 2).
            length: Largest number of samples L.
            ends: Number of samples of each row, (B,), at most L; None means L for all.

        Returns:
            State, of the same shape and type.
        """
        if self._is_small(length):
            return self._dense().advanced(self._wide(state), length, ends).to(state.dtype)
        block, rows = split(length), torch.arange(len(state), device=state.device)
        ends = torch.full_like(rows, length) if ends is None else ends
        x = self._wide(state).flatten(2).transpose(0, 1)
        states = torch.stack(self._over_blocks(x, length + 1, block))  # (Q, D, B, N)
        x = states[ends // block, :, rows].unflatten(-1, (-1, 2))
        zero = x.new_zeros(x.shape[:2])
        for done in range(block - 1):
            x = torch.where((ends % block > done)[:, None, None, None], self.system.step(zero, x)[1], x)
        return x.to(state.dtype)

    def reached(self, u: Signal, ends: Lengths | None) -> Tensor:
        """State that an input leads to from rest.

        Args:
            u: Input, (B, L, D).
            ends: Number of samples of each row, (B,); None means L for all.

        Returns:
            State, (B, D, N/2, 2), in the type of ``u``.
        """
        if self._is_small(u.shape[1]):
            return self._dense().reached(self._wide(u), ends).to(u.dtype)
        block = split(u.shape[1])
        past = by_blocks(self._wide(u), ends, block).flip(3)  # (D, B, Q, T), the last block first
        blocks = self._blocks(block)
        entered = (past.flatten(1, 2) @ blocks.by_u).unflatten(1, past.shape[1:3])  # (D, B, Q, N)
        x, *more = entered.flip(2).unbind(2)
        for new in more:
            x = blocks.advanced(x) + new
        return x.transpose(0, 1).unflatten(2, (-1, 2)).to(u.dtype)

    def scan(self, u: Signal, state: Tensor, ends: Lengths | None, resets: Resets) -> tuple[Signal, Tensor]:
        """Output, (B, L, D), and the state at the ends, where decisions on values are impossible.

        Args:
            u: Input, (B, L, D), zero past the ends.
            state: State before the first sample, (B, D, N/2, 2).
            ends: Number of samples of each row, (B,); None means L for all.
            resets: True where the state is cleared before the sample, (B, L).
        """
        return self._dense().scan(u, state, ends, resets)

    def step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step of the recurrence.

        Args:
            u: Sample, (B, D).
            state: State before it, (B, D, N/2, 2).
        """
        return self.system.step(u, state)

    def _blocks(self, block: int) -> Blocks:
        if block not in self._made:
            self._made[block] = Blocks(self.system, block)
        return self._made[block]

    def _is_small(self, length: int) -> bool:
        """Whether powers of the full matrices cost less than blocks for a number of samples."""
        return (2 * self.system.a.shape[-1]) ** 2 < POWERS_PAY * length

    def _dense(self) -> DenseSystem:
        if self._full is None:  # torch.compile cannot trace functools.cached_property
            self._full = self.system.dense()
        return self._full

    def _wide(self, x: Tensor) -> Tensor:
        return x.to(self.system.a.real.dtype)

    def _over_blocks(self, x: Tensor, length: int, block: int) -> list[Tensor]:
        """States (D, B, N) before each of the blocks that a number of samples takes."""
        states = [x]
        for _ in range(-(-length // block) - 1):
            states.append(self._blocks(block).advanced(states[-1]))
        return states

    def _rows(self, C: Tensor, count: int) -> Tensor:
        """Output rows after 0, 1, ... samples of zero, (*bank, D, count, N)."""
        rows = [C]
        for _ in range(count - 1):
            rows.append(self._earlier(rows[-1]))
        return output_row(torch.stack(rows, -2))

    def _earlier(self, C: Tensor) -> Tensor:
        """The vector that gives the output C gives, one sample before it: C A."""
        inner = (C[..., None, :] * self.system.g).sum(-1, keepdim=True).real
        return C * self.system.a - (inner * self.system.h).sum(-2)
