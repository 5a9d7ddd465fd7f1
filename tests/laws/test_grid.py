"""The laws for RTF in every combination of options, over the whole grid of filters and at real lengths."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from laws.filters import F32, F64, GROUPS, LARGE, SMALL, Case, Filter
from laws.pairs import pairwise
from laws.runs import alone, bounded, chunks, extend, forward, outcome, output_of, signal, steps, with_method
from laws.tolerance import assert_same, kappa_of, tolerance

TYPES, NUMERATORS, DIRECTIONS = (F64, F32), ("truncated", "exact"), (False, True)
LENGTHS = (257, 784, 1025, 4001)  # a prime below the horizon, the horizon itself, an odd number and a prime beyond it

# What the FFT leaves of a state is rounded relative to the largest sample of w. Going on from there amplifies that once
# more, up to eps kappa^2: beyond this kappa it is no longer c eps kappa.
LARGEST_KAPPA_OF_FFT_STATES = 1e5

# A recurrence reaches a truncated numerator through (I - A^P)^-1, whose condition is here about kappa once more. What
# that loses of the gradients depends on how single numbers happen to be rounded: 0.5 to 70 eps kappa were measured for
# the one filter beyond this kappa, over 20 signals, and more than 100 % through constraint="reflection". Up to the
# horizon "auto" takes the FFT there.
LARGEST_KAPPA_OF_CONVERSIONS = 1e11


@dataclasses.dataclass(frozen=True)
class Trial:
    """A layer that holds a filter of the grid, and how long its input is. All methods are tried on it."""

    case: Case
    length: int
    bidirectional: bool = False

    def __str__(self) -> str:
        return f"{self.case}-{'both' if self.bidirectional else 'causal'}-L{self.length}"


def every_combination(one: Filter) -> Iterator[Trial]:
    """Of type, numerator, constraint, tying and direction; lengths take turns."""
    product = itertools.product(TYPES, NUMERATORS, one.constraints, GROUPS, DIRECTIONS)
    for k, (dtype, numerator, constraint, groups, both) in enumerate(product):
        yield Trial(Case(one, dtype, numerator, constraint, groups), LENGTHS[k % 3], both)


def every_pair(filters: tuple[Filter, ...]) -> Iterator[Trial]:
    """Of the filters and all options; what float32 cannot hold is tried in float64."""
    options = (filters, TYPES, NUMERATORS, range(3), GROUPS, DIRECTIONS, LENGTHS)
    for one, dtype, numerator, k, groups, both, length in pairwise(*map(tuple, options)):
        dtype = dtype if one.fits(dtype) else F64
        if one.fits(dtype):
            constraint = one.constraints[k % len(one.constraints)]
            yield Trial(Case(one, dtype, numerator, constraint, groups), length, both)


FULL = ("comb4",)  # the one filter that every constraint can hold
FAMILIES = [
    *((one,) for one in SMALL if one.name in ("montel4", "reflections4", "ring4")),
    *(tuple(one for one in SMALL if one.name.startswith(f"butter{order}@")) for order in (2, 4, 8)),
    *(tuple(one for one in LARGE if one.order == order) for order in (64, 256)),
]
TRIALS = [trial for one in SMALL if one.name in FULL for trial in every_combination(one)]
TRIALS += [trial for family in FAMILIES for trial in every_pair(family)]


@pytest.mark.parametrize("trial", [trial for trial in TRIALS if not trial.bidirectional], ids=str)
def test_causal(trial: Trial) -> None:
    case, length = trial.case, trial.length
    layer = case.layer(method="scan")
    u = signal(2, length, layer.channels, case.dtype)
    allowed = tolerance(layer, case.dtype)
    whole = outcome(layer, extend, u)
    output = outcome(layer, output_of(extend), u)
    bounds = cuts(length)
    pieces = outcome(layer, alone(*bounds), u)
    if case.numerator == "truncated" and kappa_of(layer.system()) > LARGEST_KAPPA_OF_CONVERSIONS:
        whole, output, pieces = (values_of(found) for found in (whole, output, pieces))
    for method in ("auto", "fft", "scan"):
        other = with_method(layer, method)
        assert_same(compared(outcome(other, forward, u), output), output, allowed)
        if method != "scan":
            assert_same(compared(outcome(other, extend, u), whole), whole, allowed)
        if method != "auto":  # what it chooses is one of the others
            assert_same(compared(outcome(other, bounded(*bounds), u), pieces), pieces, allowed)
        if method == "scan" or (method == "fft" and kappa_of(layer.system()) < LARGEST_KAPPA_OF_FFT_STATES):
            assert_same(compared(outcome(other, chunks(length // 3, 1), u), whole), whole, allowed)


@pytest.mark.parametrize("trial", [trial for trial in TRIALS if trial.bidirectional], ids=str)
def test_bidirectional(trial: Trial) -> None:
    case, length = trial.case, trial.length
    layer = case.layer(method="scan", bidirectional=True)
    u = signal(2, length, layer.channels, case.dtype)
    allowed = tolerance(layer, case.dtype)
    whole = outcome(layer, forward, u)
    bounds = cuts(length)
    pieces = outcome(layer, alone(*bounds), u)
    for method in ("fft", "scan"):
        other = with_method(layer, method)
        if method == "fft":
            assert_same(outcome(other, forward, u), whole, allowed)
        assert_same(outcome(other, bounded(*bounds), u), pieces, allowed)


def values_of(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Outputs and states without gradients."""
    return {name: x for name, x in found.items() if "gradient" not in name}


def compared(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """What is expected of what was found."""
    return {name: found[name] for name in expected}


def cuts(length: int) -> tuple[list[int], list[list[int]]]:
    """Lengths and resets."""
    return [length, length // 3], [[5, length // 2], [length // 4]]


@pytest.mark.parametrize(
    "trial", [trial for one in SMALL if one.name not in FULL for trial in every_pair((one,))][::3], ids=str
)
def test_steps(trial: Trial) -> None:
    """The last few of as many samples as a slow filter needs to answer at all."""
    case = dataclasses.replace(trial.case, dtype=F64)
    layer = case.layer(method="scan")
    u = signal(2, 257, layer.channels, case.dtype)

    def steps_at_last(module: Any, u: Tensor, _: Any) -> tuple[Tensor, Any]:
        before, state = module.extend(u[:, :-7])
        after, state = steps(module, u[:, -7:], state)
        return torch.cat((before, after), 1), state

    assert_same(outcome(layer, steps_at_last, u), outcome(layer, extend, u), tolerance(layer, case.dtype))
