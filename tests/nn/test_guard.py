"""Filters that blow up say so: a warning before a recurrence runs them, an error when the state is gone."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from nn.layers import F64, D, N, P, make, unstable, untyped
from transferfn.core.stability import UnstableFilterWarning
from transferfn.nn import RTF, StateOverflowError
from transferfn.nn.precision import keep_wide

GROWTH = 1.5
LONG = 1 + math.ceil(math.log(torch.finfo(torch.float32).max) / math.log(GROWTH))  # samples to infinity in float32


def growing(**options: Any) -> RTF:
    return make(init=unstable(GROWTH), dtype=torch.float32, **options)


def quiet(layer: Any, batch_size: int = 1) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnstableFilterWarning)
        return layer.init_state(batch_size)


STARTS: dict[str, Callable[[Any], Any]] = {
    "init_state": lambda layer: layer.init_state(2),
    "extend": lambda layer: layer.extend(torch.zeros(2, P, D)),
    "realize": lambda layer: layer.realize().extend(torch.zeros(2, P, D)),
}
starts = pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)


@starts
@pytest.mark.parametrize("numerator", ["truncated", "exact"])
def test_a_new_state_names_the_growth(start: Callable[[Any], Any], numerator: Any) -> None:
    expected = rf"4 of 4 denominators are unstable: .* factor of 1\.5 a sample, by {GROWTH**P:.2g}".replace("+", r"\+")
    with pytest.warns(UnstableFilterWarning, match=rf"{expected} over 20 samples.*stabilize\(\)"):
        start(growing(numerator=numerator))


@starts
@untyped  # the hook adds calls of its own
def test_the_warning_points_at_the_line_of_the_user(start: Callable[[Any], Any]) -> None:
    with pytest.warns(UnstableFilterWarning) as caught:
        start(growing())
    assert [warning.filename for warning in caught] == [__file__]


def test_only_unstable_denominators_count() -> None:
    layer = growing(denominator_groups=2, horizon=40)
    with torch.no_grad():
        layer.denominator[0] = 0
    with pytest.warns(UnstableFilterWarning, match=r"1 of 2 denominators are unstable.*factor of 1\.5 a sample"):
        layer.init_state(2)
    with pytest.warns(UnstableFilterWarning, match=r"factor of 1\.5 a sample\. "):  # a decoder has no horizon
        layer.realize().init_state(2)
    with torch.no_grad():
        layer.denominator[1, -1] = -1e30  # radius 1e10
    with pytest.warns(UnstableFilterWarning, match="by more than 1e308 over 40 samples"):
        layer.init_state(2)


def test_no_state_no_warning() -> None:
    """Warnings are errors here: training in parallel, and going on from a state, are silent."""
    layer = growing()
    layer(torch.zeros(2, P, D)).sum().backward()
    state = quiet(layer, 2)
    layer.extend(torch.zeros(2, P, D), state)
    layer.step(torch.zeros(2, D), state)
    layer.realize()
    make().init_state(2)
    # A pole on the circle, as near as float64 can tell: undecided, so nothing is claimed.
    on_circle = make(init="zeros")
    with torch.no_grad():
        on_circle.denominator[:] = torch.tensor([-0.5, 0.5, -1.0 + 2**-53], dtype=F64)
    on_circle.init_state(2)
    with torch.device("meta"):
        RTF(D, N, horizon=P).init_state(2)


@pytest.mark.parametrize("kind", ["layer", "realization"])
def test_a_state_that_overflows_is_an_error(kind: str) -> None:
    layer = growing()
    decoder = layer if kind == "layer" else layer.realize()
    u = torch.ones(1, LONG, D)
    with pytest.raises(
        StateOverflowError,
        match=rf"no longer finite after {LONG} more samples: the largest pole radius is 1\.5.*stabilize",
    ):
        decoder.extend(u, quiet(decoder))
    state = torch.full((1, D, N), torch.finfo(torch.float32).max)
    with pytest.raises(
        StateOverflowError, match=r"no longer finite after 1 more sample: the largest pole radius is 1\.5"
    ):
        decoder.step(u[:, 0], state)
    assert issubclass(StateOverflowError, ArithmeticError)


@pytest.mark.parametrize("method", ["auto", "fft", "scan"])
@pytest.mark.parametrize("kind", ["layer", "exact", "both ways", "realization"])
def test_a_whole_output_that_overflows_is_warned_of(kind: str, method: str) -> None:
    numerator = "exact" if kind == "exact" else "truncated"
    layer = growing(method=method, bidirectional=kind == "both ways", numerator=numerator)
    layer = layer.realize() if kind == "realization" else layer
    length = LONG + 50  # a numerator may be small
    u = torch.ones(2, length, D)
    told = rf"output is no longer finite after {length} samples: the largest pole radius is 1\.5.*stabilize"
    with pytest.warns(UnstableFilterWarning, match=told):
        layer(u)
    with pytest.warns(UnstableFilterWarning, match=told):
        layer(u, lengths=torch.tensor([length - 1, 3]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(u[:, :10])
        if method == "scan":  # what comes after a row's end is not looked at
            layer(u, lengths=torch.tensor([5, 0]))
        layer(u * torch.nan)  # the input is to blame


def test_the_error_comes_with_the_state_not_before() -> None:
    decoder = growing().realize()
    u = torch.ones(1, LONG // 2, D)
    y, state = decoder.extend(u, quiet(decoder))
    assert bool(y.isfinite().all() & state.isfinite().all())
    # Rows that end in time are not to blame for what would have come after.
    decoder.extend(torch.ones(1, LONG, D), quiet(decoder), lengths=torch.tensor([LONG // 2]))


def test_the_input_may_be_to_blame() -> None:
    layer = make()
    u = torch.zeros(1, 5, D, dtype=F64)
    u[0, 2, 1] = torch.nan
    with pytest.raises(StateOverflowError, match=r"after 5 more samples: the input holds values that are not finite"):
        layer.extend(u)
    with pytest.raises(StateOverflowError, match=r"after 1 more sample: the input holds values"):
        layer.step(u[:, 2], layer.init_state(1))
    layer.extend(u, lengths=torch.tensor([2]))  # not if it lies in the padding
    resets = torch.zeros(1, 5, dtype=torch.bool)
    resets[0, 3] = True
    layer.extend(u, resets=resets)  # nor before a reset


def test_function_transforms_see_no_values() -> None:
    """Where nobody can look, nothing is raised; the values tell."""
    layer = growing().realize()
    u = torch.ones(3, 1, LONG, D)
    _, state = torch.vmap(layer.extend)(u, torch.zeros(3, 1, D, N))
    assert not state.isfinite().all()


def test_keep_wide() -> None:
    kept = torch.ones(2, dtype=F64), torch.ones(2, dtype=torch.float32)
    assert [keep_wide(Tensor.bfloat16)(x).dtype for x in kept] == [F64, torch.float32]
    assert [keep_wide(Tensor.float)(x).dtype for x in kept] == [torch.float32] * 2
    assert [keep_wide(Tensor.double)(x).dtype for x in kept] == [F64] * 2
    assert keep_wide(lambda x: x.to("meta", torch.float16))(kept[0]).device.type == "meta"
    assert keep_wide(Tensor.half)(torch.ones(2, dtype=torch.bfloat16)).dtype == torch.float32
    assert keep_wide(lambda x: x)(torch.ones(2, dtype=torch.long)).dtype == torch.long
