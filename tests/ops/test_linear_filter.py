"""`linear_filter` and `filter_both_ways` against the loops, in values, states and all derivatives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from ops.naive import bank, both_ways, error, one_way
from transferfn.core import TransferFunction, TruncatedTransferFunction
from transferfn.ops import linear_filter
from transferfn.ops.filter import filter_both_ways

METHODS = ("fft", "scan", "blocks", "auto")
methods = pytest.mark.parametrize("method", METHODS)
paths = pytest.mark.parametrize("method", METHODS[:3])

Arguments = dict[str, Any]


@pytest.fixture(autouse=True, scope="module")
def short_blocks() -> Iterator[None]:
    """So that signals of a few samples have several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transferfn.ops.filter.block_size", lambda order: max(order, 4))
        yield


@st.composite
def signals(draw: st.DrawFn) -> Arguments:
    """A signal with random shapes, state, lengths and resets."""
    batch, length, groups = draw(st.integers(0, 3)), draw(st.integers(0, 21)), draw(st.integers(1, 2))
    channels = groups * draw(st.integers(1, 2))
    order = draw(st.integers(0, 9))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    rows = st.lists(st.integers(0, length), min_size=batch, max_size=batch)
    cuts = st.lists(st.lists(st.booleans(), min_size=length, max_size=length), min_size=batch, max_size=batch)
    return {
        "u": torch.randn(batch, length, channels, dtype=torch.float64, generator=generator),
        "system": bank(channels, order, groups),
        "state": torch.randn(batch, channels, order, dtype=torch.float64, generator=generator)
        if draw(st.booleans())
        else None,
        "lengths": torch.tensor(draw(rows), dtype=torch.long) if draw(st.booleans()) else None,
        "resets": torch.tensor(draw(cuts), dtype=torch.bool).reshape(batch, length) if draw(st.booleans()) else None,
        "horizon": draw(st.none() | st.integers(order + 1, order + 24)),
    }


def leaves_of(case: Arguments, dtype: torch.dtype) -> dict[str, Tensor]:
    system = case["system"]
    tensors = {"u": case["u"], "b": system.b, "a": system.a, "h0": system.h0, "state": case["state"]}
    return {k: x.detach().to(dtype).requires_grad_() for k, x in tensors.items() if x is not None}


def with_gradients(outputs: tuple[Tensor, ...], leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """Outputs, and the gradients of a fixed functional of them."""
    loss = sum((x.double() * torch.linspace(-1, 2, x.numel(), dtype=torch.float64).view_as(x)).sum() for x in outputs)
    assert isinstance(loss, Tensor)
    loss = loss + sum(0 * x.double().sum() for x in leaves.values())
    found = {f"output {k}": x for k, x in enumerate(outputs)}
    return found | dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], **context: Any) -> None:
    """Each within rounding of the largest value there is, for small gradients are what is left of large terms."""
    largest = max(float(x.detach().abs().max()) for x in expected.values() if x.numel())
    wrong = {name: error(x, expected[name], largest) for name, x in found.items()}
    assert max(wrong.values()) <= 1, (wrong, context)


def filled(u: Tensor, lengths: Tensor | None, value: float) -> Tensor:
    if lengths is None:
        return u
    return torch.where(torch.arange(u.shape[1])[:, None] < lengths[:, None, None], u, value)


@settings(max_examples=50)
@given(signals())
def test_one_way_is_the_loop(case: Arguments) -> None:
    """In float64; in float32 only the values are compared, as the loop's gradients are no better than ours."""
    lengths, resets, horizon = case["lengths"], case["resets"], case["horizon"]
    leaves = leaves_of(case, torch.float64)
    system = TransferFunction(leaves["b"], leaves["a"], leaves["h0"])
    expected = with_gradients(one_way(leaves["u"], system, leaves.get("state"), lengths, resets), leaves)
    for method in METHODS:
        own = leaves_of(case, torch.float64)
        system = TransferFunction(own["b"], own["a"], own["h0"])
        outputs = linear_filter(
            filled(own["u"], lengths, torch.nan),
            system if horizon is None else system.truncate(horizon),
            own.get("state"),
            lengths=lengths,
            resets=resets,
            method=method,
        )
        assert_close(with_gradients(outputs, own), expected, method=method)
        narrow = leaves_of(case, torch.float32)
        outputs = linear_filter(
            narrow["u"], case["system"], narrow.get("state"), lengths=lengths, resets=resets, method=method
        )
        assert {x.dtype for x in outputs} == {torch.float32}
        assert_close({f"output {k}": x for k, x in enumerate(outputs)}, expected, method=method)


@settings(max_examples=30)
@given(signals())
def test_without_a_final_state_it_is_the_loop(case: Arguments) -> None:
    """Other ways are open then: one operator, and blocks of rows with lengths."""
    lengths, resets = case["lengths"], case["resets"]
    leaves = leaves_of(case, torch.float64)
    system = TransferFunction(leaves["b"], leaves["a"], leaves["h0"])
    expected = with_gradients(one_way(leaves["u"], system, leaves.get("state"), lengths, resets)[:1], leaves)
    for method in METHODS:
        own = leaves_of(case, torch.float64)
        y, none = linear_filter(
            filled(own["u"], lengths, torch.nan),
            TransferFunction(own["b"], own["a"], own["h0"]),
            own.get("state"),
            lengths=lengths,
            resets=resets,
            method=method,
            return_state=False,
        )
        assert none is None
        assert_close(with_gradients((y,), own), expected, method=method)


@pytest.mark.parametrize("ends", ["lengths", "none"])
def test_blocks_take_lengths_where_no_state_is_wanted(ends: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They know the state after all samples only."""
    calls = []
    monkeypatch.setattr("transferfn.ops.filter.block_filter", lambda u, *_: calls.append(u) or (u, u))
    lengths = torch.tensor([20, 3]) if ends == "lengths" else None
    for return_state in (False, True):
        linear_filter(torch.ones(2, 20, 2), bank(2, 3), lengths=lengths, method="blocks", return_state=return_state)
    assert len(calls) == (1 if ends == "lengths" else 2)


@settings(max_examples=30)
@given(signals(), st.booleans())
def test_both_ways_is_the_loop(case: Arguments, tied: bool) -> None:
    lengths, resets, horizon = case["lengths"], case["resets"], case["horizon"]
    channels, order = case["u"].shape[2], case["system"].order
    case |= {"system": bank(channels, order, 1 if tied else channels, both=True), "state": None}
    leaves = leaves_of(case, torch.float64)
    system = TransferFunction(leaves["b"], leaves["a"], leaves["h0"])
    if not leaves["u"].numel():
        expected = {"output 0": leaves["u"]} | {k: torch.zeros_like(x) for k, x in leaves.items()}
    else:
        expected = with_gradients((both_ways(leaves["u"], system, lengths, resets),), leaves)
    for method in METHODS:
        own = leaves_of(case, torch.float64)
        system = TransferFunction(own["b"], own["a"], own["h0"])
        y = filter_both_ways(
            filled(own["u"], lengths, torch.nan),
            system if horizon is None else system.truncate(horizon),
            lengths=lengths,
            resets=resets,
            method=method,
        )
        if not own["u"].numel():
            assert y.shape == own["u"].shape
        else:
            assert_close(with_gradients((y,), own), expected, method=method)


# ------------------------------------------------------------------------------------------------ derivatives

LENGTHS, CUTS = torch.tensor([7, 4]), torch.zeros(2, 7, dtype=torch.bool)
CUTS[0, [2, 3]] = CUTS[1, 0] = True


def inputs(*, both: bool = False) -> list[Tensor]:
    system = bank(2, 3, 1, both=both)
    u, state = torch.randn(2, 2, 7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tensors = [u, system.b, system.a, system.h0, state[:, :3].mT.contiguous()]
    return [x.detach().requires_grad_() for x in (tensors[:-1] if both else tensors)]


@paths
@pytest.mark.parametrize("bounded", [False, True], ids=["whole", "bounded"])
@pytest.mark.parametrize("form", ["exact", "truncated", "both"])
def test_first_and_second_derivatives_by_differences(method: str, bounded: bool, form: str) -> None:
    options: Any = {"lengths": LENGTHS, "resets": CUTS} if bounded else {}

    def function(u: Tensor, b: Tensor, a: Tensor, h0: Tensor, state: Tensor | None = None) -> Any:
        system = TransferFunction(b, a, h0)
        if form == "both":
            return filter_both_ways(u, system, method=method, **options)
        return linear_filter(u, system.truncate(9) if form == "truncated" else system, state, method=method, **options)

    arguments = inputs(both=form == "both")
    assert gradcheck(function, arguments, fast_mode=True)
    assert gradgradcheck(function, arguments, fast_mode=True)


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # PyTorch loops over one backward formula
@paths
@pytest.mark.parametrize("bounded", [False, True], ids=["whole", "lengths"])
def test_gradients_of_each_row_by_function_transforms(method: str, bounded: bool) -> None:
    u, b, a, h0, state = (x.detach() for x in inputs())
    lengths = LENGTHS if bounded else torch.tensor([7, 7])

    def loss(coefficients: tuple[Tensor, ...], row: Tensor, before: Tensor, length: Tensor) -> Tensor:
        y, after = linear_filter(
            row[None], TransferFunction(*coefficients), before[None], lengths=length[None], method=method
        )
        return y.square().sum() + after.square().sum()

    each = torch.vmap(torch.func.grad(loss), (None, 0, 0, 0))((b, a, h0), u, state, lengths)
    for row in range(2):
        leaves = [x.clone().requires_grad_() for x in (b, a, h0)]
        y, after = one_way(u[[row]], TransferFunction(*leaves), state[[row]], lengths[[row]])
        expected = torch.autograd.grad(y.square().sum() + after.square().sum(), leaves)
        for found, loop in zip(each, expected, strict=True):
            assert error(found[row], loop) <= 1


@paths
@pytest.mark.parametrize("truncated", [False, True])
def test_batches_of_gradients(method: str, truncated: bool) -> None:
    """``torch.autograd.grad(..., is_grads_batched=True)`` is a transform that only tensors tell of."""
    h = bank(2, 3)
    leaves = [x.detach().clone().requires_grad_() for x in (h.b, h.a, h.h0)]
    u = torch.randn(2, 9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    system = TruncatedTransferFunction(*leaves, 12) if truncated else TransferFunction(*leaves)
    y, _ = linear_filter(u, system, return_state=False, method=method)
    directions = torch.randn(3, *y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    together = torch.autograd.grad(y, [u, *leaves], directions, retain_graph=True, is_grads_batched=True)
    for k, direction in enumerate(directions):
        for found, expected in zip(
            together, torch.autograd.grad(y, [u, *leaves], direction, retain_graph=True), strict=True
        ):
            assert error(found[k], expected) <= 1


@paths
def test_vmap_over_banks(method: str) -> None:
    """An ensemble: one signal through many banks."""
    u = torch.randn(2, 9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    banks = [bank(seed=k) for k in range(3)]
    stacked = [torch.stack([getattr(x, name) for x in banks]) for name in ("b", "a", "h0")]
    y, state = torch.vmap(lambda *parts: linear_filter(u, TransferFunction(*parts), method=method))(*stacked)
    for k, one in enumerate(banks):
        expected = one_way(u, one)
        assert max(error(y[k], expected[0]), error(state[k], expected[1])) <= 1


@pytest.mark.parametrize("method", ["scan", "blocks", "auto"])
def test_forward_mode_is_right_or_refused(method: str) -> None:
    """Never silently zero."""
    u, b, a, h0, _ = (x.detach() for x in inputs())

    def run(a: Tensor) -> Tensor:
        return linear_filter(u, TransferFunction(b, a, h0), method=method)[0]

    with pytest.raises((RuntimeError, NotImplementedError), match=r"jvp|forward"):
        torch.func.jvp(run, (a,), (torch.ones_like(a),))


# ------------------------------------------------------------------------------------- padding and growth


# The FFT computes a response as long as the signal, to eps times its largest sample: 2^15 here. A scan stops at a row's
# end.
PADDINGS = [("fft", 20), ("blocks", 20), ("scan", 5), ("scan", 2000), ("auto", 20)]


@pytest.mark.parametrize(("method", "length"), PADDINGS, ids=lambda x: str(x))
@pytest.mark.parametrize("both", [False, True], ids=["causal", "both"])
@pytest.mark.parametrize("truncated", [False, True], ids=["exact", "truncated"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e300], ids=str)
def test_padding_does_no_harm(method: str, both: bool, truncated: bool, value: float, length: int) -> None:
    """Not to values, states or gradients; of unstable filters neither, which would overflow in a long padding."""
    unstable = bank(2, 3, both=both, radius=9.0)
    lengths = torch.tensor([5, 3, 0])
    u = torch.randn(3, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    longer = torch.nn.functional.pad(u, (0, 0, 0, length - 5))

    def run(u: Tensor) -> dict[str, Tensor]:
        leaves = {"u": u.clone().requires_grad_()}
        leaves |= {k: getattr(unstable, k).clone().requires_grad_() for k in ("b", "a", "h0")}
        system: Any = TransferFunction(leaves["b"], leaves["a"], leaves["h0"])
        if truncated:
            system = system.truncate(6)
        if both:
            outputs = (filter_both_ways(leaves["u"], system, lengths=lengths, method=method),)
        else:
            outputs = linear_filter(leaves["u"], system, lengths=lengths, method=method)
        found = with_gradients((outputs[0][:, :5], *outputs[1:]), leaves)
        assert not outputs[0][:, 5:].any()
        assert not found["u"][:, 5:].any()
        return found | {"u": found["u"][:, :5]}

    growth = 2.0**15 if method != "scan" and length > 5 else 1.0
    for name, expected in run(u).items():
        assert error(run(filled(longer, lengths, value))[name], expected) <= growth, name


@methods
def test_a_reset_hides_whatever_was_before(method: str) -> None:
    u = torch.randn(2, 40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    resets = torch.zeros(2, 40, dtype=torch.bool)
    resets[:, 30] = True
    clean = linear_filter(u, bank(), resets=resets, method=method)
    for value in (torch.nan, torch.inf):
        dirty = torch.cat((torch.full_like(u[:, :30], value), u[:, 30:]), 1)
        state = torch.full((2, 2, 3), value, dtype=torch.float64)
        y, after = linear_filter(dirty, bank(), state, resets=resets, method=method)
        assert error(y[:, 30:], clean[0][:, 30:]) <= 1
        assert error(after, clean[1]) <= 1


# --------------------------------------------------------------------------------------------- odds and ends


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64], ids=str)
@methods
def test_types(method: str, dtype: torch.dtype) -> None:
    """Signals keep their type; states are float32 or wider."""
    u = torch.randn(2, 9, 2, generator=torch.Generator().manual_seed(0)).to(dtype)
    y, state = linear_filter(u, bank(), method=method)
    wide = torch.promote_types(dtype, torch.float32)
    assert (y.dtype, state.dtype) == (dtype, wide)
    expected = one_way(u.double(), bank())
    assert error(y, expected[0]) <= 1
    assert error(state, expected[1]) <= 1


@methods
def test_the_state_may_be_left_out(method: str) -> None:
    u = torch.ones(2, 9, 2, dtype=torch.float64)
    y, state = linear_filter(u, bank(), method=method, return_state=False)
    assert state is None
    assert error(y, one_way(u, bank())[0]) <= 1
    assert linear_filter(u[:, :0], bank(), return_state=False)[1] is None


def test_kernel_dropout_drops_taps() -> None:
    """Each tap is kept with probability 1 - p and then scaled by 1 / (1 - p), for all rows alike."""
    torch.manual_seed(0)
    impulse = torch.zeros(2, 400, 2, dtype=torch.float64)
    impulse[:, 0] = 1
    flat = TransferFunction(*(torch.tensor(x).double() for x in ([[1.0], [2.0]], [[-1.0]], [1.0, 2.0])))
    y = linear_filter(impulse, flat, kernel_dropout=0.25)[0] / torch.tensor([1.0, 2.0])
    kept = y > 0.5
    assert error(y, kept.double() / 0.75) <= 1
    assert torch.equal(kept[0], kept[1])
    assert not torch.equal(kept[..., 0], kept[..., 1])
    assert float(kept[0].double().mean()) == pytest.approx(0.75, abs=0.1)  # 6 standard deviations of 800 draws


@pytest.mark.compile
@pytest.mark.parametrize("both", [False, True], ids=["causal", "both"])
@pytest.mark.parametrize("method", METHODS)
def test_compiles_in_one_graph(method: str, both: bool) -> None:
    """With lengths and resets, too, where the path does not need to know where they are."""
    torch.compiler.reset()
    arguments = inputs(both=both)[:4]
    resets = CUTS if method in ("auto", "scan") else None
    lengths = None if method == "blocks" else LENGTHS

    def run(u: Tensor, b: Tensor, a: Tensor, h0: Tensor) -> tuple[Tensor, ...]:
        system = TransferFunction(b, a, h0)
        if both:
            return (filter_both_ways(u, system, lengths=lengths, resets=resets, method=method),)
        return linear_filter(u, system, lengths=lengths, resets=resets, method=method)

    found, expected = [], []
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager_default_partitioner")
    for function, results in ((compiled, found), (run, expected)):
        outputs = function(*arguments)
        loss = sum(x.square().sum() for x in outputs)
        results.extend((*outputs, *torch.autograd.grad(loss, arguments)))
    assert max(error(x, y) for x, y in zip(found, expected, strict=True)) <= 1


@pytest.mark.compile  # without the type-checking hook, which would speak first
def test_what_does_not_fit_is_named() -> None:
    u, system = torch.ones(2, 5, 2), bank()
    for change, match in [
        ({"u": u[0]}, r"\(batch, length, channels=2\), got \(5, 2\)"),
        ({"u": u[..., :1]}, r"channels=2\), got \(2, 5, 1\)"),
        ({"state": torch.ones(2, 2, 4)}, r"\(batch=2, channels=2, order=3\), got \(2, 2, 4\)"),
        ({"method": "loop"}, r"'auto', 'fft', 'scan' or 'blocks', got 'loop'"),
        ({"lengths": torch.tensor([5, 6])}, r"0\.\.5.*got 5\.\.6"),
        ({"lengths": torch.tensor([5.0, 4.0])}, r"one integer a row.*float32"),
        ({"lengths": torch.tensor([5])}, r"shape \(2,\), got shape \(1,\)"),
        ({"resets": torch.ones(2, 5)}, r"bool mask of shape \(2, 5\).*float32"),
        ({"resets": torch.ones(5, 2, dtype=torch.bool)}, r"got shape \(5, 2\)"),
    ]:
        with pytest.raises(ValueError, match=match):
            linear_filter(**({"u": u, "system": system} | change))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"leading axes \(\), got a of shape \(2, 2, 3\).*takes one bank"):
        linear_filter(u, bank(both=True))
    with pytest.raises(ValueError, match=r"leading axes \(2,\), got a of shape \(2, 3\)"):
        filter_both_ways(u, system)
    for wrong, match in [
        (u.long(), "floating-point signal, got torch.int64"),
        ([[1.0]], "u must be a tensor, got list"),
    ]:
        with pytest.raises(TypeError, match=match):
            linear_filter(wrong, system)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="state must be a tensor, got list"):
        linear_filter(u, system, [0.0])  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("method", ["scan", "blocks"])
def test_native_loops_need_a_cpu(method: str, device: torch.device) -> None:
    if device.type == "cpu":
        with pytest.raises(ValueError, match=r"runs on the CPU, but the signal is on meta"):
            linear_filter(torch.ones(2, 5, 2, device="meta"), bank().to(device="meta"), method=method)
