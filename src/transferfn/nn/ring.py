"""A state that moves through memory instead of being copied at each sample: what a stream keeps."""

from __future__ import annotations

import torch
from torch import Tensor

from transferfn.kernels.step import ring_step
from transferfn.kernels.tracing import is_plain
from transferfn.typing import FilterState, Sample

ROOM = 16  # samples a state moves before it is put back: more of them, and many streams no longer fit a cache


class Ring:
    """The last n samples of w in rows with room before them: a new sample is written there, and nothing is moved.

    Once the room is used up the state is put back to the end of its rows, so that a sample costs one write.

    Args:
        state: State to begin with, newest first, (B, D, n); copied.

    Example:
        >>> ring = Ring(torch.zeros(1, 1, 2))
        >>> half, zero = torch.tensor([[0.5, 0.0]]), torch.zeros(1)
        >>> [float(ring.step(torch.ones(1, 1), half, -half, zero)[0]) for _ in range(3)]
        [0.0, 0.5, 0.75]
        >>> ring.state
        tensor([[[1.7500, 1.5000]]])
    """

    def __init__(self, state: FilterState) -> None:
        self.order = state.shape[-1]
        self._head = ROOM
        self._rows = torch.empty(*state.shape[:-1], ROOM + self.order, dtype=state.dtype, device=state.device)
        self._window().copy_(state.detach())

    @property
    def state(self) -> FilterState:
        """The state as the verbs know it, (B, D, n): a copy, and copied when it is set."""
        return self._window().clone()

    @state.setter
    def state(self, state: FilterState) -> None:
        self._head = ROOM
        self._rows = self._rows.to(state)
        self._window().copy_(state.detach())

    @property
    def shape(self) -> torch.Size:
        """(B, D, n)."""
        return self._window().shape

    def step(self, u: Sample, b: Tensor, a: Tensor, h0: Tensor) -> tuple[Sample, bool] | None:
        """Take in a sample by a native loop, or return None if there is none for it.

        Args:
            u: Sample, (B, D).
            b: Numerator, (D, n).
            a: Denominator, (G, n).
            h0: Feedthrough, (D).

        Returns:
            Output, (B, D), and whether the state is finite, if it was before.
        """
        if not (self.order and u.shape == self._rows.shape[:-1] and u.dtype == b.dtype == self._rows.dtype):
            return None
        if not (self._rows.device.type == "cpu" and u.numel() and is_plain(u, b, a, h0)):
            return None
        if self._head == 0:
            self._head = ROOM
            self._window().copy_(self._rows[..., : self.order].clone())  # they may overlap
        found = ring_step(u, self._rows, self._head, b, a, h0)
        self._head -= 1
        return found

    def newest(self) -> FilterState:
        """The newest sample of the state, (B, D, 1)."""
        return self._rows[..., self._head : self._head + 1]

    def _window(self) -> FilterState:
        return self._rows[..., self._head : self._head + self.order]

    def __repr__(self) -> str:
        return f"Ring(shape={tuple(self.shape)}, dtype={self._rows.dtype})"
