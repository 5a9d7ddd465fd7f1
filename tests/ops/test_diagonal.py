"""The diagonal recurrence against a loop over time in complex128: values, final states and every gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from laws.runs import cotangent, reset_mask
from laws.tolerance import relative_error
from transferfn.ops.diagonal import CHUNK, diagonal_scan

B, P = 3, 5
# One sample; up to two chunks in one loop; one more; odd, even, prime and whole chunks; three levels.
LENGTHS = (1, 2, CHUNK, 2 * CHUNK, 2 * CHUNK + 1, 48, 97, 16 * CHUNK, 33 * CHUNK + 5)
EPS = {torch.complex64: 2e-5, torch.complex128: 5e-14}  # poles up to 0.95: rounding is kept 20 samples


def naive(
    v: Tensor, a: Tensor, state: Tensor | None, lengths: Tensor | None, resets: Tensor | None, reverse: bool
) -> tuple[Tensor, Tensor]:
    """One loop over rows and time."""
    batch, length, width = v.shape
    a = a.expand(batch, length, width)
    ys, finals = [], []
    for row in range(batch):
        end = length if lengths is None else int(lengths[row])
        x = v.new_zeros(width) if state is None else state[row]
        states: list[Tensor] = [v.new_zeros(width)] * length
        for t in reversed(range(end)) if reverse else range(end):
            begins = resets is not None and bool(resets[row, t])
            if reverse:
                states[t] = x = a[row, t] * x + v[row, t]
                x = torch.zeros_like(x) if begins and t else x
            else:
                states[t] = x = v[row, t] + (0 if begins else a[row, t] * x)
        ys.append(torch.stack(states) if length else v[row])
        finals.append(states[0] if reverse and end else x)
    return torch.stack(ys), torch.stack(finals)


def problem(length: int, *, varying: bool, with_state: bool, dtype: torch.dtype) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(length)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.complex128, generator=generator)

    a = draw(B, length, P) if varying else draw(P)
    a = 0.95 * a / a.abs() * torch.rand(a.shape, dtype=torch.float64, generator=generator).sqrt()
    tensors = (draw(B, length, P), a, *((draw(B, P),) if with_state else ()))
    return tuple(x.to(dtype).requires_grad_() for x in tensors)


def outcome(run: Any, tensors: tuple[Tensor, ...], lengths: Any, resets: Any, reverse: bool) -> dict[str, Tensor]:
    v, a, *rest = tensors
    x, final = run(v, a, rest[0] if rest else None, lengths, resets, reverse)
    loss = (x * cotangent(x)).sum() + (final * cotangent(final)).sum() + 0 * v[:, :0].sum()  # of v if all is padding
    gradients = torch.autograd.grad(loss.real + 2 * loss.imag, tensors, allow_unused=True, materialize_grads=True)
    names = ("gradient of v", "gradient of a", "gradient of the state")
    return {"x": x, "final": final} | dict(zip(names, gradients, strict=False))


def fast(v: Tensor, a: Tensor, state: Any, lengths: Any, resets: Any, reverse: bool) -> tuple[Tensor, Tensor]:
    return diagonal_scan(v, a, state, lengths=lengths, resets=resets, reverse=reverse)


def compare(tensors: tuple[Tensor, ...], lengths: Any, resets: Any, reverse: bool = False) -> None:
    found = outcome(fast, tensors, lengths, resets, reverse)
    wide = tuple(x.detach().to(torch.complex128).requires_grad_() for x in tensors)
    expected = outcome(naive, wide, lengths, resets, reverse)
    for name, value in expected.items():
        assert found[name].dtype == tensors[0].dtype
        error = relative_error(torch.view_as_real(found[name].resolve_conj()), torch.view_as_real(value.resolve_conj()))
        assert error <= EPS[tensors[0].dtype], f"{name} is off by {error:.2g}"


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("varying", [False, True], ids=["fixed", "varying"])
@pytest.mark.parametrize("start", ["rest", "state", "reverse"])
@pytest.mark.parametrize("dtype", EPS, ids=["c64", "c128"])
def test_whole_rows(length: int, varying: bool, start: str, dtype: torch.dtype) -> None:
    compare(problem(length, varying=varying, with_state=start == "state", dtype=dtype), None, None, start == "reverse")


BOUNDS: dict[str, tuple[list[int] | None, list[list[int]] | None]] = {
    "lengths": ([97, 40, 0], None),
    "resets": (None, [[17], [32, 33, 47], [0, 96]]),
    "both": ([97, 40, 1], [[0, 15, 16, 80], [39, 40, 41], [0, 1, 5]]),
    "nothing": ([0, 0, 0], [[0], [], [96]]),
}


@pytest.mark.parametrize("bounds", BOUNDS.values(), ids=BOUNDS)
@pytest.mark.parametrize("length", [97, 600])
@pytest.mark.parametrize("varying", [False, True], ids=["fixed", "varying"])
@pytest.mark.parametrize("start", ["rest", "state", "reverse"])
def test_lengths_and_resets(bounds: Any, length: int, varying: bool, start: str) -> None:
    lengths, resets = bounds
    compare(
        problem(length, varying=varying, with_state=start == "state", dtype=torch.complex128),
        lengths if lengths is None else torch.tensor(lengths),
        resets if resets is None else reset_mask(resets, length),
        start == "reverse",
    )


@pytest.mark.parametrize("varying", [False, True], ids=["fixed", "varying"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("multiplier", [0.5, 3.0], ids=["stable", "unstable"])
def test_padding_changes_nothing(varying: bool, reverse: bool, multiplier: float) -> None:
    """Neither NaN in it, nor what a state would grow to along it, also in gradients."""
    v, a = problem(700, varying=varying, with_state=False, dtype=torch.complex64)
    a = (multiplier * a / a.abs()).detach()
    lengths = torch.tensor([40, 33, 0])
    valid = torch.arange(700) < lengths[:, None]
    clean, dirty = torch.where(valid[..., None], v, 0).detach(), torch.where(valid[..., None], v, torch.nan).detach()
    dirty_a = torch.where(valid[..., None], a, torch.nan) if varying else a
    tensors = [tuple(x.clone().requires_grad_() for x in pair) for pair in ((clean, a), (dirty, dirty_a))]
    expected, found = (outcome(fast, pair, lengths, None, reverse) for pair in tensors)
    for name, value in expected.items():
        assert value.isfinite().all()
        assert torch.equal(found[name], value), name
    assert not found["x"][~valid].any()


def test_nothing_passes_a_reset_or_goes_back_in_time() -> None:
    v, a = problem(97, varying=False, with_state=False, dtype=torch.complex128)
    v, a = v.detach(), a.detach()
    resets = reset_mask([[50]] * B, 97)
    dirty = v.clone()
    dirty[:, 40] = torch.nan
    x, clean = diagonal_scan(dirty, a, resets=resets)[0], diagonal_scan(v, a, resets=resets)[0]
    assert torch.equal(x[:, :40], clean[:, :40])
    assert torch.equal(x[:, 50:], clean[:, 50:])
    assert x[:, 40:50].isnan().all()
    back, clean = (diagonal_scan(z, a, resets=resets, reverse=True)[0] for z in (dirty, v))
    assert torch.equal(back[:, 41:], clean[:, 41:])
    assert back[:, :41].isnan().all()


def test_long_memory_is_not_lost() -> None:
    """Multipliers near the unit circle, for which no power may be divided by, and others that underflow."""
    a = torch.tensor([0.99999, 1.0j, 1e-9, 0.0], dtype=torch.complex128)
    v = torch.zeros(1, 5000, 4, dtype=torch.complex128)
    v[:, 3] = 1
    x, _ = diagonal_scan(v, a)
    expected = torch.cat((torch.ones_like(a)[None], a.expand(4996, 4).cumprod(0)))
    assert relative_error(torch.view_as_real(x[0, 3:]), torch.view_as_real(expected)) <= 1e-12


@pytest.mark.parametrize("varying", [False, True], ids=["fixed", "varying"])
@pytest.mark.parametrize("start", ["state", "reverse"])
def test_derivatives_of_derivatives(varying: bool, start: str) -> None:
    tensors = problem(35, varying=varying, with_state=start == "state", dtype=torch.complex128)
    tensors = tuple((x[:1] if x.dim() > 1 else x)[..., :1].detach().requires_grad_() for x in tensors)
    resets = reset_mask([[20]], 35)

    def run(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        v, a, *rest = tensors
        return fast(v, a, rest[0] if rest else None, torch.tensor([34]), resets, start == "reverse")

    assert gradcheck(run, tensors)
    assert gradgradcheck(run, tensors, fast_mode=True)


def test_transforms() -> None:
    """Batches of multipliers by vmap, derivatives through it, and forward mode refused, not silently zero."""
    v, a = (x.detach() for x in problem(40, varying=False, with_state=False, dtype=torch.complex128))
    many = torch.stack((a, 0.5 * a))
    found = torch.vmap(lambda a: diagonal_scan(v, a)[0])(many)
    assert torch.allclose(found, torch.stack([diagonal_scan(v, one)[0] for one in many]), rtol=1e-12)

    def energy(a: Tensor) -> Tensor:
        return diagonal_scan(v, a)[0].abs().square().sum()

    leaf = a.clone().requires_grad_()
    (expected,) = torch.autograd.grad(energy(leaf), leaf)
    assert torch.allclose(torch.func.grad(energy)(a), expected, rtol=1e-12)
    with pytest.raises(RuntimeError, match="jvp"):
        torch.func.jvp(energy, (a,), (torch.ones_like(a),))


def test_wide_multipliers_of_narrow_signals() -> None:
    """Powers are computed in the type of the multipliers, and gradients come in it."""
    v, a = problem(4000, varying=False, with_state=False, dtype=torch.complex128)
    a = (0.9999 * a / a.abs()).detach().requires_grad_()
    x, final = diagonal_scan(v.to(torch.complex64), a)
    assert (x.dtype, final.dtype) == (torch.complex64, torch.complex64)
    x.abs().sum().backward()
    assert a.grad is not None
    assert a.grad.dtype == torch.complex128


@pytest.mark.parametrize("varying", [False, True], ids=["fixed", "varying"])
def test_no_samples(varying: bool) -> None:
    v = torch.zeros(2, 0, 3, dtype=torch.complex64)
    a = torch.zeros((2, 0, 3) if varying else (3,), dtype=torch.complex64)
    state = torch.randn(2, 3, dtype=torch.complex64)
    x, final = diagonal_scan(v, a, state)
    assert torch.equal(final, state)
    assert x.shape == v.shape
    assert not diagonal_scan(v, a)[1].any()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"v": torch.zeros(2, 4, 3)}, TypeError, r"v must be complex, got torch.float32"),
        ({"a": torch.zeros(3)}, TypeError, "a must be complex"),
        ({"a": torch.zeros(2, 3) + 0j}, ValueError, r"\(P\) or \(B, L, P\), got \(2, 4, 3\) and \(2, 3\)"),
        ({"state": torch.zeros(3, 3) + 0j}, ValueError, r"\(B, P\) = \(2, 3\), got \(3, 3\)"),
        ({"state": torch.zeros(2, 3) + 0j, "reverse": True}, ValueError, "takes no state"),
        ({"lengths": torch.tensor([1])}, ValueError, r"shape \(2,\)"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], error: Any, message: str) -> None:
    arguments = {"v": torch.zeros(2, 4, 3) + 0j, "a": torch.zeros(3) + 0j} | options
    with pytest.raises(error, match=message):
        diagonal_scan(**arguments)
