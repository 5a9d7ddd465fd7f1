"""Signals and coefficients as PyTorch may hand them over: negated lazily, on other devices, beside another default."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from scipy import signal as scipy_signal
from torch import Tensor

from ops.naive import error
from transferfn.core import TransferFunction
from transferfn.kernels import arrays, rational
from transferfn.nn import RTF, Stream
from transferfn.ops import linear_filter, sosfilt
from transferfn.ops.choice import Method

METHODS: tuple[Method, ...] = ("auto", "fft", "scan", "blocks")


def a_layer(order: int = 3, numerator: str = "exact") -> RTF:
    torch.manual_seed(0)
    return RTF(3, order, horizon=400, numerator=numerator)  # pyright: ignore[reportArgumentType]


def lazily_negated(x: Tensor) -> Tensor:
    """The same values, of which memory holds the opposite."""
    found = torch.complex(torch.zeros_like(x), -x).conj().imag
    assert found.is_neg()
    return found


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("order", "numerator"), [(3, "exact"), (20, "exact"), (100, "exact"), (3, "truncated")])
def test_what_is_negated_lazily_is_filtered_negated(order: int, numerator: str, method: Method) -> None:
    """A view of a conjugate's imaginary part has its sign in a flag: who reads its memory must look at that."""
    system = a_layer(order, numerator).system()
    u, cotangent = torch.randn(2, 9, 300, 3).unbind()
    state = torch.randn(9, 3, order)

    def run(as_given: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
        leaf = u.clone().requires_grad_()
        y, after = linear_filter(as_given(leaf), system, as_given(state), method=method)
        alone, _ = linear_filter(as_given(u), system, method=method, return_state=False)
        assert after is not None
        of_y, of_state = torch.autograd.grad(
            (y, after), (leaf, system.a), (as_given(cotangent), as_given(torch.ones_like(after))), retain_graph=True
        )
        return y, after, alone, of_y, of_state

    for found, expected in zip(run(lazily_negated), run(lambda x: x), strict=True):
        torch.testing.assert_close(found, expected)


def test_sections_and_streams_take_what_is_negated_lazily() -> None:
    """Also outside of graphs."""
    u = torch.randn(2, 3, 100)
    sos = torch.from_numpy(scipy_signal.butter(4, 0.2, output="sos"))
    torch.testing.assert_close(sosfilt(sos, lazily_negated(u)), sosfilt(sos, u))
    layer = a_layer()
    found, expected = (Stream(layer, batch_size=2) for _ in range(2))
    for block in (u[..., 0], u.mT):
        torch.testing.assert_close(found(lazily_negated(block)), expected(block))


@pytest.mark.parametrize("what", ["coefficients", "state", "lengths", "resets"])
def test_devices_must_be_the_same(what: str) -> None:
    """An address on another device is none here: that was a crash."""
    system, u = a_layer(4).system(), torch.randn(2, 50, 3)
    given = {
        "state": torch.zeros(2, 3, 4, device="meta"),
        "lengths": torch.tensor([4, 5], device="meta"),
        "resets": torch.zeros(2, 50, dtype=torch.bool, device="meta"),
    }
    system = system.to(device="meta") if what == "coefficients" else system
    with pytest.raises(ValueError, match=rf"the signal is on cpu and .*{what}.* on meta: move one of them"):
        linear_filter(u, system, **({what: given[what]} if what in given else {}))  # pyright: ignore[reportArgumentType]


def test_the_default_device_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work space of loops is on the CPU, where the signals are."""
    u = torch.randn(9, 50, 3)
    systems = [a_layer(order, kind).system() for order, kind in ((4, "exact"), (100, "exact"), (4, "truncated"))]

    def run() -> list[Tensor]:
        found = []
        for system in systems:
            for method in METHODS:
                leaf = u.clone().requires_grad_()
                y, _ = linear_filter(leaf, system, method=method)
                found += [y, *torch.autograd.grad(y.sum(), leaf, retain_graph=True)]
        return found

    expected = run()
    monkeypatch.setattr(arrays, "_kept", type(arrays._kept)())
    rational._powers.cache_clear()
    torch.set_default_device("meta")
    try:
        found = run()
    finally:
        torch.set_default_device(None)
    assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))


@pytest.mark.parametrize("shape", [(0, 10, 3), (2, 0, 3)], ids=["no rows", "no samples"])
def test_nothing_has_gradients_of_zero(shape: tuple[int, ...]) -> None:
    """An empty batch of one of several processes takes part in a step."""
    layer = a_layer()
    layer(torch.zeros(shape)).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in layer.parameters())


def test_gradients_of_a_final_state_come_in_batches() -> None:
    """``is_grads_batched`` makes a batch of what arrives at the state alone."""
    system, u = a_layer(4).system(), torch.randn(2, 30, 3, requires_grad=True)
    state = torch.randn(2, 3, 4, requires_grad=True)
    _, after = linear_filter(u, system, state, method="scan")
    assert after is not None
    cotangents = torch.randn(5, *after.shape)
    wanted = (u, state, system.a)
    found = torch.autograd.grad(after, wanted, cotangents, is_grads_batched=True, retain_graph=True)
    each = [torch.autograd.grad(after, wanted, one, retain_graph=True) for one in cotangents]
    for batch, singles in zip(found, zip(*each, strict=True), strict=True):
        torch.testing.assert_close(batch, torch.stack(singles))


@pytest.mark.parametrize(("order", "corner"), [(4, 0.02), (8, 0.05)])
def test_where_nobody_can_look_a_recurrence_loses_nothing(order: int, corner: float) -> None:
    """Low-passes of which a recurrence in float32 keeps two digits, or none: "auto" runs it in float64 then."""
    b, a = (torch.from_numpy(x) for x in scipy_signal.butter(order, corner))
    system = TransferFunction((b[1:] - b[0] * a[1:])[None], a[None, 1:], b[:1])
    u = torch.randn(1, 4000, 1, generator=torch.Generator().manual_seed(0))
    expected, _ = linear_filter(u.double(), system, method="scan")
    found = torch.vmap(lambda rows: linear_filter(rows, system)[0])(u[None])[0]
    assert error(found, expected) <= 1
    gradient = torch.func.grad(lambda rows: linear_filter(rows, system)[0].square().sum())(u)
    leaf = u.double().requires_grad_()
    (of_leaf,) = torch.autograd.grad(linear_filter(leaf, system, method="scan")[0].square().sum(), leaf)
    assert error(gradient, of_leaf) <= 2  # it goes through the filter twice
    narrow, _ = linear_filter(u, system, method="scan")
    assert error(narrow, expected) > 1


@pytest.mark.compile
def test_cut_rows_are_left_to_python_or_refused_in_a_graph() -> None:
    layer = RTF(3, 3, horizon=400, method="fft").requires_grad_(False)
    u, resets = torch.randn(2, 30, 3), torch.zeros(2, 30, dtype=torch.bool)
    resets[0, 11] = True

    def filtered(u: Tensor, resets: Tensor) -> Tensor:
        return layer(u, resets=resets)

    torch._dynamo.reset()
    with pytest.raises(Exception, match=r"cannot know how many there are: take method='scan' or 'auto'"):
        torch.compile(filtered, fullgraph=True, backend="aot_eager")(u, resets)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(filtered, backend="aot_eager")(u, resets), filtered(u, resets))
