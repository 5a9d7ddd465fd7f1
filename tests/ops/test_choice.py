"""Where "auto" turns to the FFT: what a recurrence would lose of a signal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ops.naive import bank, error
from transferfn.core import TransferFunction, TruncatedTransferFunction
from transferfn.core.kernel import damped_response
from transferfn.kernels.rational import damped_convolution
from transferfn.ops import linear_filter
from transferfn.ops.choice import is_well_conditioned
from transferfn.ops.filter import LARGEST_GROWTH_OF_DAMPED


def test_growth_does_not_reach_what_is_read_off_a_kernel() -> None:
    """An unstable recurrence outgrows float32 within the horizon, where the kernel stays small: "auto" sees it."""
    unstable = bank(radius=12.0)
    system = TruncatedTransferFunction(unstable.b, unstable.a, unstable.h0, 150)
    u = torch.randn(2, 150, 2, generator=torch.Generator().manual_seed(0))
    found, expected, scanned = (
        linear_filter(u, system, return_state=False, method=method)[0] for method in ("auto", "fft", "scan")
    )
    assert torch.equal(found, expected)
    assert expected.abs().max() < 100
    assert error(scanned, expected) > 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_growth_until_the_horizon_does_not_reach_shorter_signals(dtype: torch.dtype) -> None:
    """The true numerator is what is left of far larger terms, however little the recurrence has grown by then."""
    unstable = bank(radius=6.0)
    system = TruncatedTransferFunction(unstable.b, unstable.a, unstable.h0, 150)
    u = torch.randn(2, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    taps = system.kernel()
    expected = torch.stack([(taps[:, : t + 1].flip(1).mT * u[:, : t + 1]).sum(1) for t in range(5)], 1)
    found, scanned = (
        linear_filter(u.to(dtype), system, return_state=False, method=method)[0] for method in ("auto", "scan")
    )
    assert error(found, expected) <= 1
    assert error(scanned, expected) > 1


@pytest.mark.parametrize("cancels", [False, True])
def test_a_recurrence_that_grows_is_kept_where_the_output_grows_with_it(
    cancels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pole at 1.025 grows by 3e8 in 784 samples. Read off as it is, nothing is lost; cancelled by a zero, all is."""
    a = torch.tensor([[-1.525, 0.5125]], dtype=torch.float64)  # poles at 1.025 and 0.5
    b = torch.tensor([[1.0, -1.025 if cancels else 0.0]], dtype=torch.float64)
    system = TransferFunction(b, a, torch.zeros(1, dtype=torch.float64)).truncate(784)
    u = torch.randn(2, 784, 1, generator=torch.Generator().manual_seed(0))
    verdicts: list[bool] = []

    def recorded(*arguments: Tensor) -> bool:
        verdicts.append(is_well_conditioned(*arguments))
        return verdicts[-1]

    monkeypatch.setattr("transferfn.ops.filter.is_well_conditioned", recorded)
    found, expected, scanned = (
        linear_filter(u, system, return_state=False, method=method)[0] for method in ("auto", "fft", "scan")
    )
    assert verdicts == [not cancels]
    assert torch.equal(found, expected if cancels else scanned)
    assert (error(scanned, expected) > 1) == cancels


def test_blocks_hand_no_state_over_that_rounds_too_much_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten poles at 0.9 make states that hardly differ: "auto" leaves them to one FFT of a response in float64."""
    monkeypatch.setattr("transferfn.ops.choice.cheapest", lambda job, in_blocks: "blocks" if in_blocks else "fft")
    monkeypatch.setattr("transferfn.ops.filter.block_size", lambda order: 512)
    u = torch.randn(8, 1500, 1, generator=torch.Generator().manual_seed(0))
    for radius, refused in ((0.2, False), (0.9, True)):
        a = torch.from_numpy(np.poly([radius] * 10)[1:])[None]
        system = TransferFunction(torch.zeros_like(a).index_fill(1, torch.tensor(0), 1.0), a, torch.zeros(1).double())
        found, by_fft, by_blocks = (
            linear_filter(u, system, return_state=False, method=method)[0] for method in ("auto", "fft", "blocks")
        )
        assert torch.equal(found, by_fft if refused else by_blocks)
        assert (error(by_blocks, by_fft.double()) > 1) == refused


def test_an_unstable_response_of_high_order_is_not_damped() -> None:
    """A larger circle would fold what grows beyond it: the recurrence gives the kernel instead."""
    a = torch.zeros(1, 65, dtype=torch.float64)
    a[0, -1] = -(1.05**65)
    b = torch.ones(1, 65, dtype=torch.float64)
    system = TransferFunction(b, a, torch.zeros(1, dtype=torch.float64))
    u = torch.randn(1, 400, 1, generator=torch.Generator().manual_seed(0))
    assert damped_response(b, a, system.h0, length=400)[1].max() > LARGEST_GROWTH_OF_DAMPED
    found, state = linear_filter(u, system, method="fft")
    expected, expected_state = linear_filter(u.double(), system, method="scan")
    assert error(found, expected) <= 1
    assert state is not None
    assert expected_state is not None
    assert error(state, expected_state) <= 1
    assert error(linear_filter(u, system, method="fft", return_state=False)[0], expected) <= 1


@pytest.mark.parametrize(("radius", "is_damped"), [(0.05, True), (0.5, False)])
def test_only_where_no_poles_cluster_is_a_response_damped(
    radius: float, is_damped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """24 poles at 0.5 lose on a larger circle what a recurrence in float64 keeps; at 0.05 there is nothing to lose."""
    asked: list[int] = []
    monkeypatch.setattr(
        "transferfn.ops.filter.damped_convolution", lambda *given: (asked.append(24), damped_convolution(*given))[1]
    )
    a = torch.from_numpy(np.poly([radius] * 24)[1:])[None]
    system = TransferFunction(torch.ones_like(a), a, torch.ones(1).double())
    u = torch.randn(16, 300, 1, generator=torch.Generator().manual_seed(0))
    expected, _ = linear_filter(u.double(), system, method="scan")
    assert error(linear_filter(u, system, method="fft", return_state=False)[0], expected) <= 1
    assert bool(asked) == is_damped
    assert error(linear_filter(u, system, method="fft")[0], expected) <= 1  # with a state, which has a response too
