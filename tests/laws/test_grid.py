"""The laws for RTF in every combination of options, over the whole grid of filters and at real lengths."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from laws.filters import F32, F64, GROUPS, LARGE, SMALL, Case, Filter
from laws.pairs import pairwise
from laws.runs import alone, bounded, chunks, cotangent, extend, forward, outcome, output_of, signal, steps, with_method
from laws.tolerance import assert_same, kappa_of, relative_error, tolerance
from transferfn.nn import RTF
from transferfn.ops.cost import block_size

TYPES, NUMERATORS, DIRECTIONS = (F64, F32), ("truncated", "exact"), (False, True)
LENGTHS = (257, 784, 1025, 4001)  # a prime below the horizon, the horizon itself, an odd number and a prime beyond it

# What the FFT leaves of a state is rounded relative to the largest sample of w. Going on from there amplifies that once
# more, up to eps kappa^2: beyond this kappa it is no longer c eps kappa.
LARGEST_KAPPA_OF_FFT_STATES = 1e5

# A recurrence reaches a truncated numerator through (I - A^P)^-1, whose condition is here about kappa once more. What
# that loses of the gradients depends on how single numbers happen to be rounded: 0.5 to 70 eps kappa were measured for
# the one filter beyond this kappa, over 20 signals. Up to the horizon "auto" takes the FFT there, whose gradients are
# held to the truth instead.
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
    """Of type, numerator, constraint, tying, direction and length."""
    for dtype in (dtype for dtype in TYPES if one.fits(dtype)):
        for numerator, constraint, groups, both, length in itertools.product(
            NUMERATORS, one.constraints, GROUPS, DIRECTIONS, LENGTHS[1:]
        ):
            yield Trial(Case(one, dtype, numerator, constraint, groups), length, both)


def every_pair(filters: tuple[Filter, ...]) -> Iterator[Trial]:
    """Of the filters and all options; what float32 cannot hold is tried in float64."""
    options = (filters, TYPES, NUMERATORS, range(3), GROUPS, DIRECTIONS, LENGTHS)
    for one, dtype, numerator, k, groups, both, length in pairwise(*map(tuple, options)):
        dtype = dtype if one.fits(dtype) else F64
        if one.fits(dtype):
            constraint = one.constraints[k % len(one.constraints)]
            yield Trial(Case(one, dtype, numerator, constraint, groups), length, both)


FAMILIES = [
    *((one,) for one in SMALL if one.name in ("comb4", "montel4", "reflections4", "ring4")),
    *(tuple(one for one in SMALL if one.name.startswith(f"butter{order}@")) for order in (2, 4, 8)),
    *(tuple(one for one in LARGE if one.order == order) for order in (64, 256)),
]
PAIRS = [trial for family in FAMILIES for trial in every_pair(family)]
FULL = "comb4"  # the filter that every constraint can hold; the others are tried in every combination on demand
ALL = [trial for one in SMALL + LARGE for trial in every_combination(one)]


def tried(*, bidirectional: bool) -> Any:
    """Pairs of options always; all combinations if they are asked for, which takes a while."""
    found = [pytest.param(x, id=str(x)) for x in PAIRS if x.bidirectional == bidirectional]
    for x in (x for x in ALL if x.bidirectional == bidirectional):
        marks = () if x.case.filter.name == FULL else (pytest.mark.exhaustive,)
        found.append(pytest.param(x, id=f"all-{x}", marks=marks))
    return pytest.mark.parametrize("trial", found)


@tried(bidirectional=False)
def test_causal(trial: Trial) -> None:
    case, length = trial.case, trial.length
    layer = case.layer(method="scan")
    u = signal(2, length, layer.channels, case.dtype)
    allowed = tolerance(layer, case.dtype)
    whole = outcome(layer, extend, u)
    output = outcome(layer, output_of(extend), u)
    bounds = cuts(length)
    pieces = outcome(layer, alone(*bounds), u)
    if is_lost(layer):
        whole, output, pieces = (values_of(found) for found in (whole, output, pieces))
        compare_lost(layer, u, allowed)
    for method in ("auto", "fft", "scan"):
        other = with_method(layer, method)
        assert_same(compared(outcome(other, forward, u), output), output, allowed)
        if method != "scan":
            assert_same(compared(outcome(other, extend, u), whole), whole, allowed)
        if method != "auto":  # what it chooses is one of the others
            assert_same(compared(outcome(other, bounded(*bounds), u), pieces), pieces, allowed)
        if method == "scan" or (method == "fft" and kappa_of(layer.system()) < LARGEST_KAPPA_OF_FFT_STATES):
            assert_same(compared(outcome(other, chunks(length // 3, 1), u), whole), whole, allowed)
    if length > block_size(case.filter.order):
        blocks = outcome(with_method(layer, "blocks"), extend, u)
        assert_same(compared(values_of(blocks) if is_lost(layer) else blocks, whole), whole, allowed)


@tried(bidirectional=True)
def test_bidirectional(trial: Trial) -> None:
    case, length = trial.case, trial.length
    layer = case.layer(method="scan", bidirectional=True)
    u = signal(2, length, layer.channels, case.dtype)
    allowed = tolerance(layer, case.dtype)
    whole = outcome(layer, forward, u)
    bounds = cuts(length)
    pieces = outcome(layer, alone(*bounds), u)
    if is_lost(layer):
        whole, pieces = values_of(whole), values_of(pieces)
        compare_lost(layer, u, allowed)
    for method in ("auto", "fft", "scan"):
        other = with_method(layer, method)
        if method != "scan":
            assert_same(compared(outcome(other, forward, u), whole), whole, allowed)
        assert_same(compared(outcome(other, bounded(*bounds), u), pieces), pieces, allowed)


def is_lost(layer: RTF) -> bool:
    """Whether what a recurrence makes of a truncated numerator has no gradients worth comparing."""
    return layer.numerator_kind == "truncated" and kappa_of(layer.system()) > LARGEST_KAPPA_OF_CONVERSIONS


def compare_lost(layer: RTF, u: Tensor, allowed: float) -> None:
    """By itself the layer takes the FFT, gradients and all, as long as there is a kernel."""
    if u.shape[1] <= layer.horizon:
        by_fft, auto = (outcome(with_method(layer, method), forward, u) for method in ("fft", "auto"))
        assert_same(auto, by_fft, allowed)


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
    "trial",
    [trial for one in SMALL for trial in every_pair((one,))][::3] + [Trial(Case(x, F64), 257) for x in LARGE],
    ids=str,
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


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="no type here is wider than float64")
@pytest.mark.parametrize("one", [one for one in SMALL if one.fits(F64) and one.order == 8], ids=str)
@pytest.mark.parametrize("groups", GROUPS)
def test_gradients_of_a_kernel_are_true(one: Filter, groups: int) -> None:
    """Those of the FFT, for filters whose conversions lose them, too; from Algorithm 1 in extended precision."""
    layer = Case(one, F64, "truncated", None, groups).layer(method="fft")
    u = signal(2, 784, layer.channels)
    found = outcome(layer, forward, u)
    c = cotangent(found["output"]).numpy().astype(np.longdouble)
    rows = u.numpy().astype(np.longdouble)
    b, a, h0 = (x.detach().numpy().astype(np.longdouble) for x in (getattr(layer, name) for name in NAMES))
    period, order = layer.horizon, one.order
    turns = np.arange(period)[:, None] * np.arange(period) % period * (2 * np.arccos(np.longdouble(-1)) / period)
    circle = np.cos(turns) - 1j * np.sin(turns)  # z_m^-t
    true = {f"gradient of {name}": np.zeros_like(x) for name, x in zip(NAMES, (b, a, h0), strict=True)}
    for d in range(layer.channels):
        g = d * groups // layer.channels
        top, bottom = circle[:, 1 : order + 1] @ b[d], 1 + circle[:, 1 : order + 1] @ a[g]
        lags = [np.correlate(to, row, "full") for to, row in zip(c[..., d], rows[..., d], strict=True)]
        at_kernel = sum(lags)[period - 1 :]
        at_response = circle.conj() @ at_kernel / period
        true["gradient of truncated_numerator"][d] = ((at_response / bottom) @ circle[:, 1 : order + 1]).real
        true["gradient of denominator"][g] -= ((at_response * top / bottom**2) @ circle[:, 1 : order + 1]).real
        true["gradient of truncated_feedthrough"][d] = at_response.sum().real
    for name, expected in true.items():
        assert relative_error(found[name], torch.from_numpy(expected.astype(float))) <= tolerance(layer, F64), name


NAMES = ("truncated_numerator", "denominator", "truncated_feedthrough")
