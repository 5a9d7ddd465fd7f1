"""S5 sampled irregularly, its two directions, and steps that are no numbers. The laws hold the rest."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from laws.filters import F32, F64
from laws.runs import signal
from laws.tolerance import relative_error, tolerance
from nn.test_s5 import OPTIONS, H, every_type, make


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@every_type
def test_steps_of_one_change_nothing(options: Any, dtype: torch.dtype) -> None:
    layer, u = make(dtype, **options), signal(2, 53, H, dtype)
    assert relative_error(layer(u, dt=torch.ones(2, 53, dtype=dtype)), layer(u)) <= tolerance(layer, dtype)


def test_irregular_chunks_and_steps() -> None:
    layer, u = make(), signal(2, 53, H)
    dt = 2 * torch.rand(2, 53, dtype=F64, generator=torch.Generator().manual_seed(0))
    expected, after = layer.extend(u, dt=dt)
    first, state = layer.extend(u[:, :40], dt=dt[:, :40])
    ys = [first]
    for t in range(40, 53):
        y_t, state = layer.step(u[:, t], state, dt=dt[:, t])
        ys.append(y_t[:, None])
    assert relative_error(torch.cat(ys, 1), expected) <= tolerance(layer, F64)
    assert relative_error(state, after) <= tolerance(layer, F64)
    assert relative_error(layer(u, dt=dt), expected) <= tolerance(layer, F64)


def test_an_input_that_holds_may_be_sampled_at_will() -> None:
    """Zero-order hold is exact: a sample that holds for time 1 is two of the same value for times 0.3 and 0.7."""
    layer, u = make(), signal(2, 20, H)
    twice = u.repeat_interleave(2, 1)
    dt = torch.tensor([0.3, 0.7], dtype=F64).repeat(20).expand(2, 40)
    y, state = layer.extend(twice, dt=dt)
    expected, after = layer.extend(u)
    assert relative_error(y[:, 1::2], expected) <= tolerance(layer, F64)
    assert relative_error(state, after) <= tolerance(layer, F64)
    # A step of no time is a sample that was not there.
    skipped = torch.ones(2, 20, dtype=F64)
    skipped[:, 7] = 0
    rest = [t for t in range(20) if t != 7]
    assert relative_error(layer(u, dt=skipped)[:, rest], layer(u[:, rest])) <= tolerance(layer, F64)


def test_both_directions_are_each_others_mirror_image() -> None:
    """Reversing the signal and its steps reverses the output of a layer that swaps its two states."""
    layer, u = make(bidirectional=True), signal(2, 37, H)
    dt = 2 * torch.rand(2, 37, dtype=F64, generator=torch.Generator().manual_seed(0))
    mirrored = make(bidirectional=True)
    mirrored.load_state_dict(layer.state_dict() | {"output_matrix": layer.output_matrix.flip(0)})
    assert relative_error(mirrored(u.flip(1), dt=dt.flip(1)).flip(1), layer(u, dt=dt)) <= tolerance(layer, F64)


def test_both_directions_see_the_current_sample() -> None:
    layer = make(bidirectional=True)
    pulse = torch.zeros(1, 9, H, dtype=F64)
    pulse[:, 4, 0] = 1
    system = layer.state_space()
    expected = ((system.C[0] + system.C[1]) @ system.B[:, 0]).real
    expected[0] += system.D[0]
    assert relative_error(layer(pulse)[0, 4], expected) <= tolerance(layer, F64)


def test_what_the_steps_of_padding_hold_changes_nothing() -> None:
    layer, u = make(), signal(2, 40, H)
    lengths = torch.tensor([40, 11])
    dt = torch.rand(2, 40, dtype=F64)
    dirty = torch.where(torch.arange(40) < lengths[:, None], dt, torch.nan)
    results = []
    for steps in (dt, dirty):
        leaf = steps.clone().requires_grad_()
        y, state = layer.extend(u, lengths=lengths, dt=leaf)
        layer.zero_grad()
        (y.square().sum() + state.sum()).backward()
        assert leaf.grad is not None
        results.append([y, state, leaf.grad, *(x.grad for x in layer.parameters())])
    assert all(torch.equal(x, z) for x, z in zip(*results, strict=True))


@pytest.mark.parametrize(
    ("dt", "error", "message"),
    [
        (torch.ones(2, 8), ValueError, r"shape \(2, 9\), got shape \(2, 8\)"),
        (torch.ones(2, 9, dtype=torch.int64), ValueError, "real factor.*torch.int64"),
        (torch.full((2, 9), -0.5), ValueError, "zero or positive.*got -0.5"),
    ],
)
def test_wrong_steps_are_named(dt: Tensor, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        make()(signal(2, 9, H), dt=dt)


def test_narrow_signals_have_wide_steps() -> None:
    layer, u = make(F32), signal(2, 9, H, F32)
    dt = torch.rand(2, 9, generator=torch.Generator().manual_seed(0))
    narrow = u.bfloat16()
    y, state = layer.extend(narrow, dt=dt)
    assert (y.dtype, state.dtype) == (torch.bfloat16, F32)
    assert torch.equal(y, layer(narrow.float(), dt=dt).bfloat16())
    assert torch.equal(layer(u, dt=dt.double()), layer(u, dt=dt))


@pytest.mark.parametrize("discretization", ["zoh", "bilinear"])
def test_steps_are_computed_widely_and_rounded_once(discretization: Any) -> None:
    """In float32 the phase of a fast state, |Lambda| dt = 100 and more, would keep five digits of seven."""
    narrow, wide = (make(dtype, state_size=64, discretization=discretization) for dtype in (F32, F64))
    wide.load_state_dict(narrow.state_dict())
    dt = 2 * torch.rand(2, 50, generator=torch.Generator().manual_seed(0))
    found, exact = narrow.state_space(dt), wide.state_space(dt.double())
    assert float((wide.eigenvalues() * wide.log_step.exp()).detach().abs().max()) > 100
    assert found.gain is not None
    assert exact.gain is not None
    assert torch.equal(found.a, exact.a.to(torch.complex64))
    assert torch.equal(found.gain, exact.gain.to(torch.complex64))
