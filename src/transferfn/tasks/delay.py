"""Delay: return a signal some samples later; asks for a memory of that length at full resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from transferfn.tasks.dataset import Batch, Signature, Splits
from transferfn.tasks.on_demand import on_demand_splits
from transferfn.tasks.philox import draws, normals
from transferfn.tasks.splits import check_seed


@dataclass(frozen=True, kw_only=True, slots=True)
class DelayConfig:
    """Delay as in the paper: band-limited white noise, to be returned ``lag`` samples later.

    Training samples are fresh in every epoch; those of validation and test are the same every time.

    Example:
        >>> batch = DelayConfig(length=100, lag=10, band=0.5).load().train.gather([0])
        >>> torch.equal(batch.targets[:, 10:], batch.inputs[:, :-10]), float(batch.targets[:, :11].abs().max())
        (True, 0.0)
    """

    length: int = 4000
    """Samples of a signal."""

    lag: int = 1000
    """Samples by which it is delayed."""

    band: float = 0.5
    """Highest frequency of the noise as a share of half the sampling rate; the paper's is 1000 Hz of 2000 Hz."""

    rms: float = 0.5
    """Root mean square of the noise before it is shifted to start at 0."""

    samples: int = 16_384
    """Training samples of an epoch."""

    held_out: int = 1024
    """Samples of validation, and of test."""

    seed: int = 0
    """Seed of the samples."""

    def __post_init__(self) -> None:
        for name in ("length", "samples", "held_out"):
            if getattr(self, name) < 1:
                raise ValueError(f"data.{name.replace('_', '-')} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.lag < self.length:
            raise ValueError(f"data.lag must lie in 0..length - 1 = {self.length - 1}, got {self.lag}")
        if not 2 / self.length <= self.band <= 1:
            raise ValueError(
                f"data.band is a share of half the sampling rate, at least 2 / length = {2 / self.length:g}, so that "
                f"one period fits the signal, and at most 1; got {self.band}"
            )
        if not 0 < self.rms < float("inf"):
            raise ValueError(f"data.rms must be more than 0 and finite, got {self.rms}")
        check_seed(self.seed)

    @property
    def signature(self) -> Signature:
        """One channel in, one out."""
        return Signature(length=self.length, channels=1, outputs=1, target="signal")

    def load(self) -> Splits:
        """Return data sets that make their samples when asked."""
        return on_demand_splits(self.make, samples=self.samples, held_out=self.held_out)

    def make(self, split: int, indices: Sequence[int]) -> Batch:
        """Return signals and the same delayed, both (B, L, 1); before the lag there is silence.

        Args:
            split: 0 to train, 1 to validate, 2 to test.
            indices: Which ones, each a pure function of the seed, the split and its index.
        """
        bins = self.length // 2 + 1
        raw = [draws(self.seed, split, index, 2 * bins) for index in indices]
        noise = white_noise(np.stack([normals(row) for row in raw]), self.length, band=self.band, rms=self.rms)
        inputs = torch.from_numpy((noise - noise[:, :1]).astype(np.float32))[..., None]
        targets = torch.zeros_like(inputs)
        targets[:, self.lag :] = inputs[:, : self.length - self.lag]
        return Batch(inputs=inputs, targets=targets, index=torch.tensor(list(indices)))


def white_noise(draw: NDArray[np.float64], length: int, *, band: float, rms: float) -> NDArray[np.float64]:
    """Return noise whose spectrum is flat up to a frequency and zero above, without a mean.

    Args:
        draw: Normal numbers, (B, 2 (length // 2 + 1)).
        length: Number of samples.
        band: That frequency as a share of half the sampling rate.
        rms: Expected root mean square.

    Returns:
        Signals, (B, length).
    """
    bins = length // 2 + 1
    spectrum = draw[:, :bins] + 1j * draw[:, bins:]
    kept = np.arange(bins) <= band * length / 2
    kept[0] = False
    if length % 2 == 0:
        spectrum[:, -1] = spectrum[:, -1].real * np.sqrt(2)  # the one at half the sampling rate is real
    # By Parseval, each kept bin adds 2 |X|^2 / length^2 to the mean square (half the rate: once).
    twice = np.full(bins, 2.0)
    if length % 2 == 0:
        twice[-1] = 1.0
    expected = (twice * kept).sum() * 2 / length**2
    return np.fft.irfft(spectrum * kept * (rms / np.sqrt(expected)), length)
