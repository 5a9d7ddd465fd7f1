from __future__ import annotations

import functools
import itertools
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.testing import assert_close

from kernels.loop import answer, example, large_example, plain_loop, run_with_gradients
from transferfn.kernels.recurrence import recurrence

ROUNDING = 64  # relative to the largest value, in units of eps; 14 was measured, on sums of 500 terms

NAMES = ("u", "b", "a", "h0", "state")
SIZES = [
    # order, length, channels, denominators, batch: lags are added by fours, pieces have 128 samples, and a register
    # holds 4 to 16 channels or several rows
    (1, 7, 6, 6, 2),
    (2, 7, 6, 3, 2),
    (3, 261, 33, 11, 2),
    (4, 1, 6, 1, 2),
    (4, 0, 6, 6, 2),
    (5, 130, 1, 1, 5),
    (8, 5, 17, 17, 1),
    (9, 128, 3, 3, 7),
    (16, 129, 16, 2, 1),
    (70, 300, 2, 1, 3),
    (300, 530, 3, 1, 1),
]
IDS = [f"n{n}-L{length}-D{d}-G{g}-B{b}" for n, length, d, g, b in SIZES]
CUTS = pytest.mark.parametrize(
    ("resets", "lengths"), [(False, False), (True, False), (False, True), (True, True)],
    ids=["whole", "resets", "lengths", "both"],
)  # fmt: skip
REVERSE = pytest.mark.parametrize("reverse", [False, True], ids=["forwards", "backwards"])


def assert_near(ours: Tensor, loops: Tensor, name: str = "") -> None:
    assert ours.shape == loops.shape, name
    if ours.numel():
        error = float((ours - loops).detach().abs().max() / loops.detach().abs().max().clamp_min(1e-30))
        assert error <= ROUNDING * torch.finfo(ours.dtype).eps, f"{name}: relative error {error:.2g}"


def compare(arguments: tuple[Tensor | None, ...], flags: tuple[bool, ...], *, reverse: bool = False) -> None:
    """Outputs and all gradients against the loop in float64; what requires no gradient gets none."""
    *tensors, resets, lengths = arguments
    leaves = [None if x is None else x.detach().requires_grad_(flag) for x, flag in zip(tensors, flags, strict=True)]
    names = [name for name, x in zip(NAMES, leaves, strict=True) if x is not None and x.requires_grad]
    wide = [None if x is None else x.detach().double().requires_grad_(x.requires_grad) for x in leaves]
    results = []
    for run, inputs in ((recurrence, leaves), (plain_loop, wide)):
        wanted = [x for x in inputs if x is not None and x.requires_grad]
        outputs = run(*inputs, resets, lengths, reverse=reverse)
        functional = sum((k + 1) * x.square().sum() for k, x in enumerate(outputs)) + sum(0 * x.sum() for x in wanted)
        results.append((*outputs, *(torch.autograd.grad(functional, wanted) if wanted else ())))
    for name, ours, loops in zip(("y", "state after", *names), *results, strict=True):
        assert_near(ours, loops, name)


@REVERSE
@CUTS
@pytest.mark.parametrize(("order", "length", "channels", "groups", "batch"), SIZES, ids=IDS)
def test_values_and_gradients_are_those_of_the_loop(
    order, length, channels, groups, batch, resets, lengths, reverse, dtype
) -> None:
    sizes = {"groups": groups, "batch": batch, "resets": resets, "lengths": lengths, "dtype": dtype}
    compare(example(order, length, channels, **sizes), (True,) * 5, reverse=reverse)


@CUTS
def test_each_gradient_is_right_whatever_else_is_asked_for(resets, lengths) -> None:
    for state in (False, True):
        arguments = example(3, 6, 5, resets=resets, lengths=lengths, state=state)
        for flags in itertools.product((False, True), repeat=5):
            compare(arguments, flags)


@REVERSE
@CUTS
@pytest.mark.parametrize("name", [*NAMES, "all"])
def test_first_and_second_derivatives_by_differences(name, resets, lengths, reverse) -> None:
    *tensors, cuts, ends = example(3, 5, 2, groups=1, resets=resets, lengths=lengths)
    inputs = [x.requires_grad_(name in (mine, "all")) for x, mine in zip(tensors, NAMES, strict=True)]

    def function(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        return recurrence(*inputs, cuts, ends, reverse=reverse)

    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


@pytest.mark.parametrize(("order", "length"), [(2, 0), (2, 1), (0, 3)], ids=str)
def test_second_derivatives_where_something_is_empty(order, length) -> None:
    *tensors, cuts, _ = example(order, length, 2, resets=True)
    function = functools.partial(recurrence, resets=cuts)
    assert gradgradcheck(function, [x.requires_grad_() for x in tensors])


def test_memory_layout_does_not_matter() -> None:
    *tensors, cuts, ends = example(3, 300, 6, resets=True, lengths=True)
    strided = [torch.stack((x, torch.full_like(x, torch.nan)), 1).mT.contiguous().mT[:, 0] for x in tensors]
    transposed = cuts.T.contiguous().T
    assert not any(x.is_contiguous() for x in (*strided[:3], transposed))
    for ours, plain in zip(recurrence(*strided, transposed, ends), recurrence(*tensors, cuts, ends), strict=True):
        assert torch.equal(ours, plain)
    compare((*strided, transposed, ends), (True,) * 5)


def test_an_expanded_signal_is_read_as_it_lies() -> None:
    u, *others = example(3, 140, 6)
    rows = u[:1].expand(2, -1, -1)
    assert torch.equal(recurrence(rows, *others)[0], recurrence(rows.contiguous(), *others)[0])


def test_what_a_reset_hides_may_be_anything() -> None:
    u, b, a, h0, state, *_ = example(3, 9, 6)
    resets = torch.zeros(2, 9, dtype=torch.bool)
    resets[:, [0, 5, 6]] = True
    clean = recurrence(u, b, a, h0, None, resets)
    leaves = [x.requires_grad_() for x in (b, a, torch.full_like(state, torch.nan))]
    outputs = recurrence(u, leaves[0], leaves[1], h0, leaves[2], resets)
    for ours, alone in zip(outputs, clean, strict=True):
        assert torch.equal(ours, alone)
    for gradient in torch.autograd.grad(sum(x.sum() for x in outputs), leaves):
        assert gradient.isfinite().all()


@REVERSE
def test_what_is_behind_the_end_of_a_row_may_be_anything(reverse) -> None:
    u, b, a, h0, state, _, lengths = example(3, 200, 20, batch=3, lengths=True)
    padding = torch.arange(200) >= lengths[:, None]
    dirty = torch.where(padding[..., None], torch.nan, u)
    results = []
    for signal in (u, dirty):
        leaves = [x.clone().requires_grad_() for x in (signal, b, a, h0, state)]
        outputs = recurrence(*leaves, None, lengths, reverse=reverse)
        cotangents = [torch.ones_like(x) for x in outputs]
        cotangents[0] = torch.where(padding[..., None], torch.nan, cotangents[0])
        results.append((*outputs, *torch.autograd.grad(outputs, leaves, cotangents)))
    for clean, other in zip(*results, strict=True):
        assert torch.equal(clean, other)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("batched", [*NAMES, "resets", "lengths", "all"])
def test_vmap_over_each_argument(batched, axis) -> None:
    size = 3
    arguments = example(3, 6, 5, resets=True, lengths=True)
    in_dims = tuple(
        (min(axis, x.dim()) if batched in (name, "all") else None)
        for name, x in zip((*NAMES, "resets", "lengths"), arguments, strict=True)
    )
    scales = torch.tensor([1.0, -0.5, 0.25], dtype=torch.float64)
    stacked = [
        x
        if d is None
        else torch.stack([x * scales[k] if x.is_floating_point() else x.roll(k, -1) for k in range(size)], d)
        for x, d in zip(arguments, in_dims, strict=True)
    ]
    mapped = torch.vmap(recurrence, in_dims)(*stacked)
    for k in range(size):
        one = plain_loop(*(x if d is None else x.select(d, k) for x, d in zip(stacked, in_dims, strict=True)))
        for ours, loops in zip(mapped, one, strict=True):
            assert_near(ours[k], loops)


@CUTS
def test_gradients_of_each_sample_by_function_transforms(resets, lengths) -> None:
    u, b, a, h0, state, cuts, ends = example(3, 150, 5, resets=resets, lengths=lengths, batch=4)

    def loss(b, a, h0, row, before, cut, end):
        y, after = recurrence(
            row[None], b, a, h0, before[None], None if cut is None else cut[None], None if end is None else end[None]
        )
        return (y.square().sum() + after.square().sum()) / 2

    in_dims = (None, None, None, 0, 0, None if cuts is None else 0, None if ends is None else 0)
    each = torch.vmap(torch.func.grad(loss, argnums=(0, 1, 2)), in_dims)(b, a, h0, u, state, cuts, ends)
    for k in range(4):
        leaves = [x.clone().requires_grad_() for x in (b, a, h0)]
        one = [None if x is None else x[k : k + 1] for x in (u, state, cuts, ends)]
        y, after = plain_loop(one[0], *leaves, *one[1:])
        expected = torch.autograd.grad((y.square().sum() + after.square().sum()) / 2, leaves)
        for ours, loops in zip(each, expected, strict=True):
            assert_near(ours[k], loops)


@pytest.mark.parametrize("name", NAMES)
def test_forward_mode_raises_and_is_never_silently_zero(name) -> None:
    tensors = list(example(2, 4, 3))
    with forward_ad.dual_level():
        k = NAMES.index(name)
        tensors[k] = forward_ad.make_dual(tensors[k], torch.ones_like(tensors[k]))
        with pytest.raises((RuntimeError, NotImplementedError), match=r"jvp|forward"):
            recurrence(*tensors)


@CUTS
@pytest.mark.parametrize("operator", ["recurrence", "recurrence_gradients"])
def test_operators_are_registered_correctly(operator, resets, lengths) -> None:
    u, *given = example(3, 6, 5, resets=resets, lengths=lengths)
    kept = torch.ops.transferfn.recurrence(u, *given, False, True)[2]
    arguments = {
        "recurrence": (u, *given, False, True),
        "recurrence_gradients": (u, given[3] if resets else None, u, *given, False, kept),
    }[operator]
    torch.library.opcheck(getattr(torch.ops.transferfn, operator).default, arguments)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_the_number_of_threads_changes_nothing(two_threads) -> None:
    on_two = run_with_gradients(*large_example())
    torch.set_num_threads(1)
    for one, two in zip(run_with_gradients(*large_example()), on_two, strict=True):
        # Torch itself may add in another order; the loops do not.
        assert_close(one, two, rtol=1e-13, atol=1e-13)
    outputs = recurrence(*large_example())
    torch.set_num_threads(2)
    for one, two in zip(outputs, recurrence(*large_example()), strict=True):
        assert torch.equal(one, two)


def test_eight_callers_at_once(two_threads) -> None:
    expected = run_with_gradients(*large_example())

    def call(_: int) -> list[Tensor]:
        torch.set_num_threads(2)  # the setting is the thread's own
        return run_with_gradients(*large_example())

    with ThreadPoolExecutor(8) as callers:
        for result in callers.map(call, range(24), timeout=120):
            for ours, alone in zip(result, expected, strict=True):
                assert_close(ours, alone, rtol=1e-13, atol=1e-13)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # of Python itself, where threads are running
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_child_process_filters_after_its_parent_has(start, two_threads) -> None:
    if start not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {start}")
    expected = run_with_gradients(*large_example())
    context = multiprocessing.get_context(start)
    mine, childs = context.Pipe(duplex=False)
    child = context.Process(target=answer, args=(childs, [x.numpy() for x in large_example()]))
    child.start()
    childs.close()
    try:
        assert mine.poll(120), f"the {start}ed child hangs"
        received = mine.recv()
    finally:
        child.join(5)
        if child.is_alive():
            child.kill()
            child.join()
    for ours, theirs in zip(expected, received, strict=True):
        assert_close(ours, torch.from_numpy(theirs), rtol=1e-13, atol=1e-13)
