"""How a classifier reads features: pooled over what it has seen, at the last sample, or at every sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

from transferfn.nn.mixer import valid_samples

HeadKind = Literal["mean", "last", "per_step"]
PoolState = tuple[Tensor, ...]


class Pool(ABC):
    """A summary of the features seen so far, computed at once or as they come.

    Features are (B, L, D) and zero past `lengths`; a summary is (B, D), zero before the first sample. Rows and chunks
    of length zero leave the state as it was.
    """

    @abstractmethod
    def init_state(self, batch_size: int, channels: int, *, device: torch.device, dtype: torch.dtype) -> PoolState:
        """Return the state before the first sample.

        Args:
            batch_size: Number of rows B.
            channels: Number of channels D.
            device: Where the state lives.
            dtype: Type of the features to come; the state is kept in float32 or wider.
        """

    @abstractmethod
    def extend(
        self, features: Tensor, state: PoolState, *, lengths: Tensor | None, resets: Tensor | None
    ) -> tuple[Tensor, PoolState]:
        """Take in the next chunk of features.

        Args:
            features: Next features, (B, L, D).
            state: State before the chunk.
            lengths: Number of valid samples of each row, (B,); None means all.
            resets: True where the summary starts anew with the sample, (B, L); None means nowhere.

        Returns:
            Summary of everything seen so far, and the state after the chunk.
        """

    @abstractmethod
    def step(self, features: Tensor, state: PoolState) -> tuple[Tensor, PoolState]:
        """Take in the features of one sample.

        Args:
            features: Features of the sample, (B, D).
            state: State before the sample.

        Returns:
            Summary of everything seen so far, and the state after the sample.
        """


class MeanPool(Pool):
    """The mean over all samples since the last reset; its state is their sum (B, D) and their number (B,)."""

    def init_state(self, batch_size: int, channels: int, *, device: torch.device, dtype: torch.dtype) -> PoolState:
        """Return zeros."""
        total = torch.zeros(batch_size, channels, device=device, dtype=_wide(dtype))
        return total, torch.zeros(batch_size, device=device, dtype=torch.long)

    def extend(
        self, features: Tensor, state: PoolState, *, lengths: Tensor | None, resets: Tensor | None
    ) -> tuple[Tensor, PoolState]:
        """Add the chunk to the sum."""
        total, count = state
        length = features.shape[1]
        if resets is None:
            seen = length if lengths is None else lengths
        else:
            if lengths is not None:
                valid = valid_samples(lengths, length)
                resets = resets & valid
            nth = resets.cumsum(1)
            current = nth == resets.sum(1, keepdim=True)
            features = torch.where(current[..., None], features, 0)
            seen = (current if lengths is None else current & valid).sum(1)
            restarted = resets.any(1)
            total = torch.where(restarted[:, None], 0, total)
            count = torch.where(restarted, 0, count)
        total = total + features.sum(1, dtype=total.dtype)
        count = count + seen
        return self._mean(total, count).to(features.dtype), (total, count)

    def step(self, features: Tensor, state: PoolState) -> tuple[Tensor, PoolState]:
        """Add the sample to the sum."""
        total, count = state
        total, count = total + features, count + 1
        return self._mean(total, count).to(features.dtype), (total, count)

    @staticmethod
    def _mean(total: Tensor, count: Tensor) -> Tensor:
        return total / count.clamp(min=1)[:, None]


class LastPool(Pool):
    """The features of the last valid sample, which are also its state (B, D)."""

    def init_state(self, batch_size: int, channels: int, *, device: torch.device, dtype: torch.dtype) -> PoolState:
        """Return zeros."""
        return (torch.zeros(batch_size, channels, device=device, dtype=_wide(dtype)),)

    def extend(
        self, features: Tensor, state: PoolState, *, lengths: Tensor | None, resets: Tensor | None
    ) -> tuple[Tensor, PoolState]:
        """Pick the last valid sample; a reset changes nothing, as it comes with a sample."""
        (last,) = state
        if features.shape[1] == 0:
            return last.to(features.dtype), state
        if lengths is None:
            newest = features[:, -1].to(last.dtype)
        else:
            at = (lengths.long() - 1).clamp(min=0)[:, None, None].expand(-1, 1, features.shape[2])
            newest = features.gather(1, at).squeeze(1).to(last.dtype)
            newest = torch.where(lengths[:, None] > 0, newest, last)
        return newest.to(features.dtype), (newest,)

    def step(self, features: Tensor, state: PoolState) -> tuple[Tensor, PoolState]:
        """Keep the sample."""
        return features, (features.to(state[0].dtype),)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
