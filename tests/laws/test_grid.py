"""The laws for RTF in every combination of options, over the whole grid of filters and at real lengths."""

from __future__ import annotations

from typing import Any

import pytest

from laws.filters import F32, F64, GROUPS, LARGE, SMALL, Case, cases
from laws.runs import alone, bounded, chunks, extend, forward, outcome, output_of, signal, steps, with_method
from laws.tolerance import assert_same, kappa_of, tolerance

LENGTHS = (257, 784, 1025)  # a prime below the horizon, the horizon itself, an odd number beyond it
METHODS = ("auto", "fft", "scan")

# In float64 every combination, in float32 every combination but for the tying, which takes turns.
CHEAP = [
    (case, LENGTHS[k % 3])
    for k, case in enumerate(cases(SMALL))
    if case.dtype == F64 or case.groups == GROUPS[k // len(GROUPS) % len(GROUPS)]
]
COVERING = [
    (F64, "truncated", None, 4, 784),
    (F64, "exact", "reflection", 2, 1025),
    (F32, "exact", "l1", 2, 4001),
    (F32, "truncated", "reflection", 1, 257),
    (F64, "truncated", "l1", 4, 1025),
]
DEAR = [
    (Case(one, dtype, numerator, constraint, groups), length)
    for one in LARGE
    for dtype, numerator, constraint, groups, length in COVERING[: 5 if one.order == 64 else 3]
    if constraint in one.constraints
]
DEAR += [(Case(one, F64, "truncated", None), 4001) for one in SMALL if one.fits(F64)]

# What the FFT leaves of a state is rounded relative to the largest sample of w. Going on from there amplifies that once
# more, up to eps kappa^2: beyond this kappa it is no longer c eps kappa.
LARGEST_KAPPA_OF_FFT_STATES = 1e5


def label(parameter: Any) -> str:
    return f"L{parameter}" if isinstance(parameter, int) else str(parameter)


def cuts(length: int) -> tuple[list[int], list[list[int]]]:
    return [length, length // 3], [[5, length // 2], [length // 4]]


@pytest.mark.parametrize(("case", "length"), [*CHEAP, *DEAR], ids=label)
def test_causal(case: Case, length: int) -> None:
    layer = case.layer(method="scan")
    u = signal(2, length, layer.channels, case.dtype)
    allowed = tolerance(layer, case.dtype)
    whole = outcome(layer, extend, u)
    output = outcome(layer, output_of(extend), u)
    lengths, resets = cuts(length)
    pieces = outcome(layer, alone(lengths, resets), u)
    for method in METHODS:
        other = with_method(layer, method)
        assert_same(outcome(other, forward, u), output, allowed)
        if method != "scan":
            assert_same(outcome(other, extend, u), whole, allowed)
        if method != "auto":  # what it chooses is one of the others
            assert_same(outcome(other, bounded(lengths, resets), u), pieces, allowed)
        if method == "scan" or (method == "fft" and kappa_of(layer.system()) < LARGEST_KAPPA_OF_FFT_STATES):
            assert_same(outcome(other, chunks(length // 3, 1), u), whole, allowed)


@pytest.mark.parametrize(("case", "length"), [(c, n) for c, n in (*CHEAP, *DEAR) if n < 4001], ids=label)
def test_bidirectional(case: Case, length: int) -> None:
    layer = case.layer(method="scan", bidirectional=True)
    u = signal(2, length, layer.channels, case.dtype)
    allowed = tolerance(layer, case.dtype)
    whole = outcome(layer, forward, u)
    lengths, resets = cuts(length)
    pieces = outcome(layer, alone(lengths, resets), u)
    for method in ("fft", "scan"):
        other = with_method(layer, method)
        if method == "fft":  # which is also what "auto" does
            assert_same(outcome(other, forward, u), whole, allowed)
        assert_same(outcome(other, bounded(lengths, resets), u), pieces, allowed)


@pytest.mark.parametrize("case", [c for c in cases(SMALL) if c.groups == 2 and c.dtype == F64], ids=label)
def test_steps(case: Case) -> None:
    layer = case.layer()
    u = signal(2, 7, layer.channels, case.dtype)
    assert_same(outcome(layer, steps, u), outcome(layer, extend, u), tolerance(layer, case.dtype))
