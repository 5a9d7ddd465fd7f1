"""What each way to filter costs on a CPU, from shapes alone."""

from __future__ import annotations

from math import log2

from transferfn.core.convert import LARGEST_SOLVE

# Nanoseconds on one core with AVX-512 (AMD EPYC, torch 2.13, numba 0.68), of which only the ratios matter. Each was
# fitted to timings at orders 1 to 256 and lengths 784 to 16384 and holds within a factor of 1.5. Training multiplies
# all of them by nearly the same number, 2.6 to 3.3.
SAMPLE = 1.5, 0.044  # a sample of the recurrence in float32, and each of its lags
TRANSFORM = 0.22  # a point of a transform of a convolution in float32, times log2 of their number
ALIASED = 0.5  # a point of an aliased kernel, times log2 of their number
SOLVE = 0.25  # an entry of the matrix of a conversion, times the order
FLOAT64 = 2.0  # what float64 costs more
FIXED = 2e5  # a conversion by solving, whatever its size


def scan_cost(
    batch: int, length: int, channels: int, order: int, *, groups: int, horizon: int | None, wide: bool
) -> float:
    """Cost of filtering by the recurrence, in nanoseconds of one core.

    Args:
        batch: Rows B.
        length: Samples L.
        channels: Channels D.
        order: Order n.
        groups: Distinct denominators G.
        horizon: Period P of a truncated numerator; None if the numerator is the true one.
        wide: Whether the signal is in float64.
    """
    cost = batch * channels * _recurrence(length, order) * (FLOAT64 if wide else 1)
    if horizon is None:
        return cost
    if order > LARGEST_SOLVE:
        return cost + _aliased(channels, horizon)
    return cost + FIXED + groups * (FLOAT64 * _recurrence(horizon, order) + SOLVE * order**3)


def fft_cost(
    batch: int, length: int, channels: int, order: int, *, groups: int, horizon: int | None, wide: bool, state: bool
) -> float:
    """Cost of filtering by FFT, in nanoseconds of one core.

    Args:
        batch: Rows B.
        length: Samples L.
        channels: Channels D.
        order: Order n.
        groups: Distinct denominators G.
        horizon: Period P of a truncated numerator that filters by its kernel; None if the kernel is the response of the
            recurrence.
        wide: Whether the signal is in float64.
        state: Whether the state before or after the signal is wanted, too.
    """
    convolution = TRANSFORM * (2 * batch + 1) * channels * length * log2(2 * length) * (FLOAT64 if wide else 1)
    kernel = FLOAT64 * 2 * channels * _recurrence(length, order) if horizon is None else _aliased(channels, horizon)
    after = convolution + FLOAT64 * groups * _recurrence(length, order) if state else 0
    return convolution + kernel + after


def _recurrence(length: int, order: int) -> float:
    sample, lag = SAMPLE
    return length * (sample + lag * order)


def _aliased(channels: int, period: int) -> float:
    return ALIASED * channels * period * log2(2 * period)
