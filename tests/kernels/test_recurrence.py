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

NAMES = ("u", "b", "a", "h0", "past")
SIZES = [
    # m, n, length, channels, extra past: tiles are 4 to 16 channels, blocks 4 steps by 4 lags, windows 128 steps
    (2, 2, 7, 6, 0),
    (0, 3, 7, 6, 0),
    (3, 0, 7, 6, 0),
    (0, 0, 7, 6, 0),
    (5, 1, 8, 1, 0),
    (1, 5, 9, 33, 0),
    (4, 4, 0, 6, 0),
    (4, 4, 1, 6, 0),
    (8, 8, 1, 33, 3),
    (3, 3, 257, 33, 2),
    (70, 66, 300, 1, 0),
    (300, 299, 530, 1, 0),
]
IDS = [f"m{m}-n{n}-L{length}-D{d}" + f"-past+{e}" * (e > 0) for m, n, length, d, e in SIZES]
RESETS = pytest.mark.parametrize("resets", [False, True], ids=["whole", "resets"])


def assert_near(ours: Tensor, loops: Tensor, name: str = "") -> None:
    assert ours.shape == loops.shape, name
    if ours.numel():
        error = float((ours - loops).detach().abs().max() / loops.detach().abs().max().clamp_min(1e-30))
        assert error <= ROUNDING * torch.finfo(ours.dtype).eps, f"{name}: relative error {error:.2g}"


def compare(arguments: tuple[Tensor, ...], resets: Tensor | None, flags: tuple[bool, ...]) -> None:
    """Outputs and all gradients against the loop; what requires no gradient gets none."""
    leaves = [x.detach().requires_grad_(flag) for x, flag in zip(arguments, flags, strict=True)]
    wanted = [x for x in leaves if x.requires_grad]
    results = []
    for run in (recurrence, plain_loop):
        outputs = run(*leaves, resets)
        functional = sum((k + 1) * x.square().sum() for k, x in enumerate(outputs)) + sum(0 * x.sum() for x in wanted)
        results.append((*outputs, *(torch.autograd.grad(functional, wanted) if wanted else ())))
    for name, ours, loops in zip(("y", "w", *itertools.compress(NAMES, flags)), *results, strict=True):
        assert_near(ours, loops, name)


@RESETS
@pytest.mark.parametrize(("m", "n", "length", "channels", "extra"), SIZES, ids=IDS)
def test_values_and_gradients_are_those_of_the_loop(m, n, length, channels, extra, resets, dtype) -> None:
    *arguments, cuts = example(m, n, length, channels, resets=resets, extra_past=extra, dtype=dtype)
    compare(tuple(arguments), cuts, (True,) * 5)


@RESETS
def test_each_gradient_is_right_whatever_else_is_asked_for(resets) -> None:
    *arguments, cuts = example(3, 2, 6, 5, resets=resets)
    for flags in itertools.product((False, True), repeat=5):
        compare(tuple(arguments), cuts, flags)


@RESETS
@pytest.mark.parametrize("name", [*NAMES, "all"])
def test_first_and_second_derivatives_by_differences(name, resets) -> None:
    *arguments, cuts = example(2, 3, 5, 2, resets=resets, batch=2)
    inputs = [x.requires_grad_(name in (mine, "all")) for x, mine in zip(arguments, NAMES, strict=True)]
    function = functools.partial(recurrence, resets=cuts)
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


@pytest.mark.parametrize(("m", "n", "length"), [(0, 2, 4), (2, 0, 4), (0, 0, 4), (2, 2, 0), (2, 2, 1)], ids=str)
def test_second_derivatives_where_something_is_empty(m, n, length) -> None:
    *arguments, cuts = example(m, n, length, 2, resets=True)
    assert gradgradcheck(functools.partial(recurrence, resets=cuts), [x.requires_grad_() for x in arguments])


def test_memory_layout_does_not_matter() -> None:
    *arguments, cuts = example(3, 2, 9, 6, resets=True)
    strided = [torch.stack((x, torch.full_like(x, torch.nan)), 1).mT.contiguous().mT[:, 0] for x in arguments]
    transposed = cuts.T.contiguous().T
    assert not any(x.is_contiguous() for x in (*strided[:3], transposed))
    for ours, plain in zip(recurrence(*strided, transposed), recurrence(*arguments, cuts), strict=True):
        assert torch.equal(ours, plain)
    compare(tuple(strided), transposed, (True,) * 5)


def test_what_a_reset_hides_may_be_anything() -> None:
    u, b, a, h0, past, _ = example(3, 2, 9, 6, resets=False)
    resets = torch.zeros(2, 9, dtype=torch.bool)
    resets[:, [0, 5, 6]] = True
    clean = recurrence(u, b, a, h0, torch.zeros_like(past), resets)
    leaves = [x.requires_grad_() for x in (b, a, torch.full_like(past, torch.nan))]
    y, w = recurrence(u, leaves[0], leaves[1], h0, leaves[2], resets)
    assert torch.equal(y, clean[0])
    assert torch.equal(w[:, 3:], clean[1][:, 3:])
    for gradient in torch.autograd.grad(y.sum() + w[:, 3:].sum(), leaves):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("batched", [*NAMES, "resets", "all"])
def test_vmap_over_each_argument(batched, axis) -> None:
    size = 3
    arguments = example(3, 2, 6, 5, resets=True)
    in_dims = tuple(axis if batched in (name, "all") else None for name in (*NAMES, "resets"))
    scales = torch.tensor([1.0, -0.5, 0.25], dtype=torch.float64)
    stacked = [
        x
        if d is None
        else torch.stack([x.roll(k, 1) if x.dtype == torch.bool else x * scales[k] for k in range(size)], d)
        for x, d in zip(arguments, in_dims, strict=True)
    ]
    mapped = torch.vmap(recurrence, in_dims)(*stacked)
    for k in range(size):
        one = plain_loop(*(x if d is None else x.select(d, k) for x, d in zip(stacked, in_dims, strict=True)))
        for ours, loops in zip(mapped, one, strict=True):
            assert_near(ours[k], loops)


@RESETS
def test_gradients_of_each_sample_by_function_transforms(resets) -> None:
    u, b, a, h0, past, cuts = example(3, 2, 6, 5, resets=resets, batch=4)

    def loss(b, a, h0, row, before, cut):
        y, w = recurrence(row[None], b, a, h0, before[None], None if cut is None else cut[None])
        return (y.square().sum() + w.square().sum()) / 2

    in_dims = (None, None, None, 0, 0, None if cuts is None else 0)
    each = torch.vmap(torch.func.grad(loss, argnums=(0, 1, 2)), in_dims)(b, a, h0, u, past, cuts)
    for k in range(4):
        leaves = [x.clone().requires_grad_() for x in (b, a, h0)]
        y, w = plain_loop(u[k : k + 1], *leaves, past[k : k + 1], None if cuts is None else cuts[k : k + 1])
        expected = torch.autograd.grad((y.square().sum() + w.square().sum()) / 2, leaves)
        for ours, loops in zip(each, expected, strict=True):
            assert_near(ours[k], loops)


@pytest.mark.parametrize("name", NAMES)
def test_forward_mode_raises_and_is_never_silently_zero(name) -> None:
    *arguments, cuts = example(2, 2, 4, 3, resets=False)
    with forward_ad.dual_level():
        k = NAMES.index(name)
        arguments[k] = forward_ad.make_dual(arguments[k], torch.ones_like(arguments[k]))
        with pytest.raises((RuntimeError, NotImplementedError), match=r"jvp|forward"):
            recurrence(*arguments, cuts)


@RESETS
@pytest.mark.parametrize("operator", ["recurrence", "recurrence_adjoint", "lag_products", "recurrence_gradients"])
def test_operators_are_registered_correctly(operator, resets) -> None:
    u, b, a, h0, past, cuts = example(3, 2, 6, 5, resets=resets)
    w = torch.cat((past, u), 1)
    arguments = {
        "recurrence": (u, b, a, h0, past, cuts),
        "recurrence_adjoint": (u, w, b, a, cuts),
        "lag_products": (u, w, cuts, 3),
        "recurrence_gradients": (u, w if resets else None, u, w, b, a, h0, resets),
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
    u, b, a, h0, past = large_example()
    outputs = recurrence(u, b, a, h0, past, None)
    torch.set_num_threads(2)
    for one, two in zip(outputs, recurrence(u, b, a, h0, past, None), strict=True):
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
