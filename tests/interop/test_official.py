"""Parity with the official implementation, by vectors that its code produced in float64 (ruke1ire/RTF at 1d9e1e5).

``official_rtf.npz`` holds for each case its parameters as the official state dict packs them, an input, the official
kernel and output, and the true numerator and feedthrough from 60-digit arithmetic.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from transferfn.core import TruncatedTransferFunction
from transferfn.interop import official
from transferfn.interop.official import load_state_dict
from transferfn.nn import RTF, Stream

NAMES = [
    "uni_G1",
    "uni_G2",
    "uni_GD",
    "uni_zeros_init",
    "uni_unstable",
    "uni_large_order",
    "uni_order_L_minus_1",
    "uni_short_even",
    "uni_short_odd",
    "uni_odd_period_Lplus1",
    "uni_montel_G1",
    "uni_montel_G2",
    "uni_montel_GD",
    "bidir_G1",
    "bidir_G2",
    "bidir_GD",
    "bidir_short_even",
    "bidir_montel_G1",
]


@cache
def golden() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).with_name("official_rtf.npz")) as file:
        return dict(file)


def array(case: str, name: str) -> Tensor:
    return torch.from_numpy(golden()[f"{case}/{name}"])


def options(case: str) -> dict[str, Any]:
    channels, order, groups, horizon, bidirectional, constrained = golden()["sizes"][NAMES.index(case)].tolist()
    return {
        "channels": channels,
        "order": order,
        "horizon": horizon,
        "denominator_groups": groups,
        "bidirectional": bool(bidirectional),
        "constraint": "l1" if constrained else None,
    }


def state_dict(case: str, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    names = [name for name in ("ab", "h_0", "scalar") if f"{case}/{name}" in golden()]
    return {name: array(case, name).to(dtype) for name in names}


def load(case: str, dtype: torch.dtype = torch.float64) -> RTF:
    return load_state_dict(state_dict(case, dtype), **options(case))


def tolerance(case: str, dtype: torch.dtype) -> float:
    """What the official code's own rounding allows, relative to the largest value."""
    conditioning = golden()["conditioning"][NAMES.index(case)]
    return 5 * torch.finfo(dtype).eps * conditioning + (1e-13 if dtype == torch.float64 else 1e-6)


def relative_error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found.detach().double() - expected).abs().max() / expected.abs().max().clamp_min(1e-300))


cases = pytest.mark.parametrize("case", NAMES)


def test_every_case_is_here() -> None:
    assert golden()["cases"].tolist() == NAMES


@cases
def test_kernel(case: str, dtype: torch.dtype) -> None:
    system = load(case, dtype).system()
    assert isinstance(system, TruncatedTransferFunction)
    kernel, length = system.kernel(), array(case, "u").shape[1]
    if options(case)["bidirectional"]:  # the official one runs backwards from the end
        kernel = torch.cat((kernel[0, :, :length], kernel[1, :, :length].flip(-1)), -1)
    assert relative_error(kernel[..., : array(case, "kernel").shape[-1]], array(case, "kernel")) <= tolerance(
        case, dtype
    )


@cases
@pytest.mark.parametrize("method", ["auto", "fft", "scan"])
def test_output(case: str, dtype: torch.dtype, method: Any) -> None:
    layer = load(case, dtype)
    assert {x.dtype for x in layer.parameters()} == {dtype}
    layer.method = method
    y = layer(array(case, "u").to(dtype))
    assert y.dtype == dtype
    assert relative_error(y, array(case, "y")) <= tolerance(case, dtype)


@cases
def test_true_coefficients(case: str, dtype: torch.dtype) -> None:
    """Where the official correction is off by 1e-3 to 100, ours meets 60-digit arithmetic."""
    found = load(case, dtype).transfer_function()
    scale = array(case, "kernel").abs().max()  # b = 0 where the kernel is a pulse
    for value, name in ((found.b, "b"), (found.h0, "feedthrough")):
        assert float((value - array(case, name)).detach().abs().max() / scale) <= tolerance(case, dtype)


@pytest.mark.filterwarnings("ignore::transferfn.core.stability.UnstableFilterWarning")
@pytest.mark.parametrize("case", [name for name in NAMES if name.startswith("uni")])
def test_streamed_output(case: str, dtype: torch.dtype) -> None:
    """Sample by sample, too: official parameters can be deployed without distilling them anew."""
    stream = Stream(load(case, dtype).realize(), 1)
    y = torch.stack([stream(u_t) for u_t in array(case, "u").to(dtype).unbind(1)], 1)
    assert relative_error(y, array(case, "y")) <= tolerance(case, dtype)


@cases
def test_official_parameters_lead_back(case: str, dtype: torch.dtype) -> None:
    """By the official names, to the last digit, and copied: renaming only."""
    given, layer = state_dict(case, dtype), load(case, dtype)
    found = official.state_dict(layer)
    assert set(found) == set(given)
    assert all(torch.equal(found[name].reshape(x.shape), x) for name, x in given.items())
    assert {x.dtype for x in found.values()} == {dtype}
    for x in found.values():
        assert not x.requires_grad
        x.zero_()
    again = official.state_dict(layer)
    assert all(torch.equal(again[name].reshape(x.shape), x) for name, x in given.items())


def two_slacks() -> RTF:
    layer = RTF(4, 2, horizon=8, bidirectional=True, init="comb", constraint="l1")
    with torch.no_grad():
        layer.slack[1] += 1
    return layer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RTF(4, 2, horizon=8, numerator="exact"), "truncated numerators, this one has numerator='exact'"),
        (lambda: RTF(4, 2, horizon=8, constraint="reflection"), "this layer has 'reflection': make one without by"),
        (lambda: RTF(4, 2, horizon=7), r"has horizon=7: take layer.with_horizon\(8\)"),
        (two_slacks, "share 'scalar', those of this layer differ"),
    ],
    ids=["exact", "reflection", "odd", "slack"],
)
def test_layers_that_the_official_code_does_not_have(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        official.state_dict(make())


def test_denominators_default_to_one_a_channel() -> None:
    sizes = options("uni_GD") | {"denominator_groups": None}
    assert load_state_dict(state_dict("uni_GD"), **sizes).denominator_groups == sizes["channels"]


@pytest.mark.parametrize("horizon", [6, 7, 33])
def test_horizon_is_the_official_period(horizon: int) -> None:
    layer = load_state_dict(
        {"ab": torch.zeros(5, 2), "h_0": torch.ones(4)}, channels=4, order=2, horizon=horizon, denominator_groups=1
    )
    assert layer.horizon == horizon + horizon % 2


def test_the_layer_is_its_own() -> None:
    """Training it does not write into the official parameters, and all of it trains."""
    given = state_dict("bidir_montel_G1")
    layer = load_state_dict(given, **options("bidir_montel_G1"))
    with torch.no_grad():
        for parameter in layer.parameters():
            assert parameter.requires_grad
            parameter.add_(1)
    assert all(torch.equal(x, y) for x, y in zip(given.values(), state_dict("bidir_montel_G1").values(), strict=True))
    assert layer.training


@pytest.mark.parametrize(
    ("case", "change", "sizes", "message"),
    [
        ("uni_G2", {"h_0": None}, {}, r"expected the official keys \['ab', 'h_0'\].*got \['ab'\]"),
        ("uni_G2", {"b": torch.zeros(1)}, {}, r"got \['ab', 'b', 'h_0'\]"),
        ("uni_montel_G2", {}, {"constraint": None}, r"'scalar' belongs to constraint='l1'"),
        ("uni_G2", {}, {"constraint": "l1"}, r"expected the official keys \['ab', 'h_0', 'scalar'\]"),
        ("uni_G2", {}, {"denominator_groups": 1}, r"'ab' should have shape \(5, 5\) for the sizes given, got \(6, 5\)"),
        ("uni_G2", {}, {"order": 4}, r"'ab' should have shape \(6, 4\)"),
        ("bidir_G2", {}, {"bidirectional": False}, r"'ab' should have shape \(6, 5\).*got \(12, 5\).*both directions"),
        ("uni_G2", {"h_0": torch.ones(3, dtype=torch.float64)}, {}, r"'h_0' should have shape \(4,\).*got \(3,\)"),
        ("uni_montel_G2", {"scalar": torch.ones(1, dtype=torch.float64)}, {}, r"'scalar' should have shape \(2,\)"),
        ("uni_order_L_minus_1", {}, {"horizon": 30}, r"the horizon must exceed the order, got horizon=30 for order=31"),
    ],
    ids=["missing", "left over", "scalar", "no scalar", "groups", "order", "direction", "h_0", "scalars", "horizon"],
)
def test_what_does_not_fit_is_named(case: str, change: dict[str, Any], sizes: dict[str, Any], message: str) -> None:
    given = {name: x for name, x in (state_dict(case) | change).items() if x is not None}
    with pytest.raises(ValueError, match=message):
        load_state_dict(given, **(options(case) | sizes))


@pytest.mark.compile  # without the type-checking hook, which would speak first
@pytest.mark.parametrize("constraint", ["reflection", "l1_montel"])
def test_other_constraints_are_refused(constraint: Any) -> None:
    with pytest.raises(ValueError, match=rf"None or 'l1'.*got '{constraint}'"):
        load_state_dict(state_dict("uni_G2"), **(options("uni_G2") | {"constraint": constraint}))
