"""The short convolution against PyTorch's and against a loop, and what its state holds. The laws hold the rest."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, pad

from laws.runs import outcome, reset_mask, signal
from laws.tolerance import C, assert_same, relative_error, tolerance
from nn.layers import F64, untyped
from transferfn.models import Backbone, Classifier
from transferfn.nn import RTF, ShortConvolution

D = 4


def make(width: int = 3, dtype: torch.dtype = F64, **options: Any) -> ShortConvolution:
    torch.manual_seed(0)
    return ShortConvolution(D, width, **options).to(dtype)


def by_loops(layer: ShortConvolution, u: Tensor, lengths: list[int], cuts: list[list[int]]) -> Tensor:
    rows = []
    for row, (length, begins) in enumerate(zip(lengths, cuts, strict=True)):
        samples, begun = [], 0
        for t in range(u.shape[1]):
            begun = t if t in begins else begun
            past = range(min(layer.width, t - begun + 1))
            y = sum((layer.taps[:, lag] * u[row, t - lag] for lag in past), torch.zeros(D, dtype=u.dtype))
            y = y if layer.bias is None else y + layer.bias
            samples.append(y if t < length else torch.zeros_like(y))
        rows.append(torch.stack(samples))
    return torch.stack(rows)


@pytest.mark.parametrize(
    "options", [{}, {"width": 1}, {"width": 2, "bias": False}, {"width": 7}, {"width": 12}], ids=str
)
@pytest.mark.parametrize("dtype", [F64, torch.float32], ids=["f64", "f32"])
def test_is_the_sum_it_says(options: dict[str, Any], dtype: torch.dtype) -> None:
    lengths, cuts = [9, 6, 0], [[4], [0, 3, 4, 7], []]
    layer, u = make(**options), signal(3, 9, D)
    bounds = {"lengths": torch.tensor(lengths), "resets": reset_mask(cuts, 9)}
    expected = outcome(layer, lambda layer, u, _: (by_loops(layer, u, lengths, cuts), None), u)
    found = outcome(layer.to(dtype), lambda layer, u, _: (layer(u, **bounds), None), u.to(dtype))
    assert_same(found, expected, C * torch.finfo(dtype).eps)


@pytest.mark.parametrize("width", [1, 3, 5])
def test_is_a_depthwise_convolution_of_pytorch(width: int) -> None:
    layer, u = make(width), signal(2, 9, D)
    y = conv1d(pad(u.mT, (width - 1, 0)), layer.taps.flip(-1)[:, None], layer.bias, groups=D).mT
    assert relative_error(layer(u), y) <= C * torch.finfo(F64).eps


def test_is_a_transfer_function() -> None:
    layer = make(bias=False)
    tf = layer.transfer_function()
    assert relative_error(tf.impulse_response(5)[:, :3], layer.taps) == 0
    assert not tf.impulse_response(5)[:, 3:].any()
    assert make(1).transfer_function().order == 0


def test_the_state_is_the_last_samples() -> None:
    layer, u = make(4), signal(2, 9, D)
    _, state = layer.extend(u, lengths=torch.tensor([9, 2]))
    assert torch.equal(state[0], u[0, [8, 7, 6]].mT)
    assert torch.equal(state[1, :, :2], u[1, [1, 0]].mT)
    assert not state[1, :, 2].any()
    _, state = layer.extend(u, resets=reset_mask([[8], []], 9))
    assert not state[0, :, 1:].any()
    assert make(1).init_state(2).shape == (2, D, 0)


@untyped
@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ((0, 3), ValueError, "channels must be at least 1, got 0"),
        ((4, 0), ValueError, "width must be at least 1, got 0"),
        ((4, 2.0), TypeError, "width is a whole number, got 2.0"),
    ],
    ids=str,
)
def test_wrong_sizes_are_named(sizes: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ShortConvolution(*sizes)


def test_wrong_states_are_named() -> None:
    with pytest.raises(ValueError, match=r"expected a state of shape .* = \(2, 4, 2\), got \(2, 4, 3\)"):
        make().extend(signal(2, 5, D), torch.zeros(2, D, 3))


def test_taps_are_never_narrow() -> None:
    assert {x.dtype for x in ShortConvolution(D, 3, dtype=torch.bfloat16).parameters()} == {torch.float32}
    layer = make(dtype=torch.float32)
    narrow, u = make(dtype=torch.float32).bfloat16(), signal(2, 9, D).bfloat16()
    assert torch.equal(narrow(u), layer(u.float()).bfloat16())


def test_draws_come_from_a_generator() -> None:
    layer, other = make(), make()
    layer.reset_parameters(torch.Generator().manual_seed(1))
    assert not torch.equal(layer.taps, other.taps)
    other.reset_parameters(torch.Generator().manual_seed(1))
    assert torch.equal(layer.taps, other.taps)
    assert float(layer.taps.detach().abs().max()) <= 3**-0.5


def test_print() -> None:
    assert repr(make()) == "ShortConvolution(4, width=3)"
    assert repr(make(bias=False)) == "ShortConvolution(4, width=3, bias=False)"


def test_a_model_is_built_of_it() -> None:
    torch.manual_seed(0)
    model = Classifier(Backbone(D, 2, lambda: ShortConvolution(D, 4), inputs=2), 3).double().eval()
    u = signal(2, 9, 2)
    logits, state = model.extend(u[:, :5])
    for u_t in u[:, 5:].unbind(1):
        logits, state = model.step(u_t, state)
    assert relative_error(logits, model(u)) <= tolerance(model, F64)
    assert nn.Sequential(ShortConvolution(2, 3), RTF(2, 3, horizon=9))(u.float()).shape == u.shape
