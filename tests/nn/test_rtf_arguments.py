"""What users pass to the verbs of RTF: everything works or says what is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from laws.runs import signal
from laws.tolerance import relative_error, tolerance
from nn.layers import F64, D, N, make, untyped
from transferfn.nn import RTF


@pytest.mark.parametrize("method", ["fft", "scan"])
def test_memory_layout_does_not_matter(method: Any) -> None:
    layer, u = make(method=method), signal(4, 18, D)
    for view in (u.mT.contiguous().mT, u.flip(0)[::2, ::2], u[:1].expand(3, -1, -1), u.transpose(0, 1)):
        assert relative_error(layer(view), layer(view.contiguous())) <= tolerance(layer, F64)
        y, state = layer.extend(view)
        expected, after = layer.extend(view.contiguous())
        assert relative_error(y, expected) <= tolerance(layer, F64)
        assert relative_error(layer.extend(view, state)[0], layer.extend(view, after.contiguous())[0]) <= tolerance(
            layer, F64
        )


@pytest.mark.parametrize("shape", [(0, 5, D), (2, 0, D), (0, 0, D)], ids=str)
def test_empty_batches(shape: tuple[int, ...]) -> None:
    u = torch.zeros(shape, dtype=F64, requires_grad=True)
    bounds = {"lengths": torch.zeros(shape[0], dtype=torch.long), "resets": torch.ones(shape[:2], dtype=torch.bool)}
    for layer in (make(), make(bidirectional=True), make(method="fft"), make(kernel_dropout=0.5)):
        for options in ({}, bounds, {"lengths": bounds["lengths"]}, {"resets": bounds["resets"]}):
            y = layer(u, **options)
            assert y.shape == shape
            y.sum().backward()
    for options in ({}, bounds):
        assert make().extend(u, **options)[1].shape == (shape[0], D, N)
    assert make().step(torch.zeros(0, D, dtype=F64), make().init_state(0))[0].shape == (0, D)


@pytest.mark.parametrize("numerator", ["truncated", "exact"])
@pytest.mark.parametrize("length", [9, 29])
def test_shapes_can_be_asked_of_the_meta_device(length: int, numerator: Any) -> None:
    with torch.device("meta"):
        u = torch.zeros(2, length, D)
        lengths = torch.zeros(2, dtype=torch.long)
        layer, both = (RTF(D, N, horizon=20, numerator=numerator, bidirectional=both) for both in (False, True))
    assert layer(u).shape == both(u, lengths=lengths).shape == u.shape
    y, state = layer.extend(u, lengths=lengths)
    y_t, after = layer.step(u[:, 0], state)
    assert (y.shape, y_t.shape, after.shape) == (u.shape, (2, D), (2, D, N))
    assert {x.device.type for x in (y, y_t, after)} == {"meta"}
    layer(u).sum().backward()
    assert layer.denominator.grad is not None


def test_inference_mode() -> None:
    layer, u = make(), signal(2, 9, D)
    with torch.inference_mode():
        y, state = layer.extend(u[:, :8])
        y_t, _ = layer.step(u[:, 8], state)
    expected = layer(u)
    assert relative_error(torch.cat((y, y_t[:, None]), 1), expected) <= tolerance(layer, F64)
    assert expected.requires_grad


def test_the_signal_may_be_wider_or_narrower_than_the_parameters() -> None:
    wide, narrow = make(), make(dtype=torch.float32)
    u = signal(2, 9, D)
    assert narrow(u).dtype == F64
    assert wide(u.float()).dtype == torch.float32
    assert relative_error(wide(u.float()), wide(u)) <= tolerance(wide, torch.float32)


@untyped
@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, r"\(batch, length, channels=4\), got \(9, 4\).*u\.unsqueeze\(0\)", lambda m, u, s: m(u[0])),
        (ValueError, r"got \(2, 4, 9\)\. Channels come last", lambda m, u, s: m(u.mT)),
        (ValueError, r"got \(2, 9, 3\)", lambda m, u, s: m.extend(u[..., :3])),
        (
            ValueError,
            r"one sample of shape \(batch, channels=4\), got \(2, 1, 4\).*extend",
            lambda m, u, s: m.step(u[:, :1], s),
        ),
        (TypeError, r"real floating-point signal, got torch\.int64.*u\.float\(\)", lambda m, u, s: m(u.long())),
        (TypeError, r"got torch\.complex128", lambda m, u, s: m.step(u[:, 0] + 0j, s)),
        (TypeError, "u must be a tensor, got ndarray", lambda m, u, s: m(u.numpy())),
        (TypeError, "lengths must be a tensor, got list", lambda m, u, s: m(u, lengths=[3, 4])),
        (ValueError, r"one integer a row, shape \(2,\).*torch\.float32", lambda m, u, s: m(u, lengths=torch.ones(2))),
        (ValueError, r"mask\.sum\(-1\)", lambda m, u, s: m(u, lengths=torch.ones(2, 9).bool())),
        (
            ValueError,
            r"0\.\.9, the length of the input, got 3\.\.10",
            lambda m, u, s: m(u, lengths=torch.tensor([3, 10])),
        ),
        (ValueError, r"0\.\.9.*got -1\.\.3", lambda m, u, s: m.extend(u, lengths=torch.tensor([3, -1]))),
        (TypeError, "resets must be a tensor, got list", lambda m, u, s: m(u, resets=[[False] * 9] * 2)),
        (ValueError, r"bool mask of shape \(2, 9\).*torch\.float32", lambda m, u, s: m(u, resets=torch.zeros(2, 9))),
        (ValueError, r"\(2, 9\).*got shape \(9,\)", lambda m, u, s: m(u, resets=torch.zeros(9).bool())),
        (
            ValueError,
            r"state of shape.*\(2, 4, 3\), got \(2, 4, 2\)\. Begin with init_state\(2\)",
            lambda m, u, s: m.step(u[:, 0], s[..., 1:]),
        ),
        (ValueError, r"got \(1, 4, 3\)", lambda m, u, s: m.extend(u, s[:1])),
        (ValueError, r"got NoneType\. Begin with init_state\(2\)", lambda m, u, s: m.step(u[:, 0], None)),
        (ValueError, r"got tuple", lambda m, u, s: m.extend(u, (s,))),
        (ValueError, r"real floating-point type.*not torch\.int32", lambda m, u, s: m.realize(torch.int32)),
    ],
)
def test_wrong_arguments_are_named(error: type[Exception], message: str, call: Any) -> None:
    layer = make()
    with pytest.raises(error, match=message):
        call(layer, signal(2, 9, D), layer.init_state(2))
