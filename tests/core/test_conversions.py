"""Dense and modal systems to coefficients and back; coordinates that do not matter; banks; poles that cancel."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.banks import F64, bank, banks, coefficients, denominator, system
from transferfn.core import (
    Converted,
    ModalSystem,
    TransferFunction,
    c2d,
    d2c,
    from_modal,
    from_state_space,
    minimal,
    select,
    stack,
    to_modal,
    with_rate,
)
from transferfn.core.converted import check_error, response_error, samples_to_compare
from transferfn.core.state_space import markov, state_space
from transferfn.interop.arrays import from_ba, from_sos, to_sos, to_zpk

LENGTH = 200
MARGIN = 1e-9  # of these banks, whose poles are at most 0.95 and whose orders at most 7; a wrong rule is off by ones


def butter(order: int, cut: float, dt: float | None = None) -> TransferFunction:
    b, a = scipy.signal.butter(order, cut)
    return TransferFunction(*(torch.from_numpy(x) for x in ((b[1:] - b[0] * a[1:])[None], a[None, 1:], b[:1])), dt)


def dense(n: int, inputs: int = 1, outputs: int = 1, groups: int = 1, seed: int = 0) -> list[Tensor]:
    """Systems with random matrices whose spectral radius is at most about 0.8."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(groups, n, n), (groups, n, inputs), (groups, outputs, n), (groups, outputs, inputs)]
    A, *rest = (torch.randn(shape, dtype=F64, generator=generator) for shape in shapes)
    return [0.8 * A / torch.linalg.eigvals(A).abs().amax(-1)[:, None, None].clamp_min(1) if n else A, *rest]


@given(n=st.integers(0, 6), inputs=st.integers(1, 3), outputs=st.integers(1, 3), groups=st.integers(1, 3))
@settings(max_examples=20)
def test_every_output_responds_to_every_input(n: int, inputs: int, outputs: int, groups: int) -> None:
    A, B, C, D = dense(n, inputs, outputs, groups, seed=n)
    h, error = from_state_space(A, B, C, D, length=40, dt=0.1)
    assert (h.channels, h.denominator_groups, h.order, h.dt) == (groups * inputs * outputs, groups, n, 0.1)
    omega = torch.linspace(0.1, 3, 5, dtype=F64)
    z = torch.exp(1j * omega)[:, None, None, None]
    expected = (
        C.to(z.dtype) @ torch.linalg.inv(z * torch.eye(n) - A) @ B.to(z.dtype) + D
        if n
        else D.to(z.dtype).expand(5, -1, -1, -1)
    )
    torch.testing.assert_close(h.frequency_response(omega), expected.flatten(1).mT, rtol=MARGIN, atol=MARGIN)
    assert float(error.max()) < MARGIN


@given(n=st.integers(1, 6), seed=st.integers(0, 50))
@settings(max_examples=20)
def test_coordinates_do_not_matter(n: int, seed: int) -> None:
    """Two realizations of one system have the same coefficients: balanced in no way, related by a random T."""
    A, B, C, D = dense(n, seed=seed)
    T = torch.linalg.qr(torch.randn(n, n, dtype=F64, generator=torch.Generator().manual_seed(seed)))[0]
    T = T * torch.logspace(-1, 1, n, dtype=F64)
    one = from_state_space(A, B, C, D).value
    other = from_state_space(T @ A @ T.inverse(), T @ B, C @ T.inverse(), D).value
    for name in ("a", "b", "h0"):
        torch.testing.assert_close(getattr(other, name), getattr(one, name), rtol=MARGIN, atol=MARGIN)


@given(banks())
@settings(max_examples=20)
def test_companion_matrices_lead_back(given) -> None:
    h = TransferFunction(*given, 0.5)
    again, error = from_state_space(*h.state_space(), length=LENGTH)
    torch.testing.assert_close(again.impulse_response(LENGTH), h.impulse_response(LENGTH), rtol=1e-6, atol=1e-6)
    assert float(error.max()) < 1e-6  # multiple poles move by roots of eps


def test_the_error_is_that_of_the_response() -> None:
    """Against the recurrence of the matrices, which is the definition."""
    matrices = dense(5, seed=3)
    h, error = from_state_space(*matrices, length=60)
    A, B, C, D = (x[0].numpy() for x in matrices)
    truth = [D.item(), *(float((C @ np.linalg.matrix_power(A, k) @ B).item()) for k in range(59))]
    torch.testing.assert_close(markov(state_space(*matrices), 60).flatten(), torch.tensor(truth, dtype=F64))
    found = (h.impulse_response(60)[0] - torch.tensor(truth, dtype=F64)).abs().max() / np.abs(truth).max()
    assert float(found) == pytest.approx(float(error), abs=1e-15)


def test_what_coefficients_do_not_hold_is_refused() -> None:
    """S4D-Lin with 16 states at a step of 0.01, as a dense system in coordinates that are not its own."""
    poles = torch.exp((-0.5 + 1j * torch.pi * torch.arange(8, dtype=F64)) * 0.01)
    blocks = [torch.tensor([[p.real, -p.imag], [p.imag, p.real]], dtype=F64) for p in poles]
    A = torch.block_diag(*blocks)
    T = torch.linalg.qr(torch.randn(16, 16, dtype=F64, generator=torch.Generator().manual_seed(0)))[0]
    B, C = torch.ones(16, 1, dtype=F64), torch.ones(1, 16, dtype=F64)
    with pytest.raises(
        ArithmeticError, match=r"do not hold 1 of 1.*16 poles.*too close.*modal form.*second-order.*reduce the order"
    ):
        from_state_space(T @ A @ T.mT, T @ B, C @ T.mT, torch.zeros(1, 1))
    modal = ModalSystem(poles[None], torch.ones_like(poles)[None], torch.ones_like(poles)[None], torch.zeros(1))
    with pytest.raises(ArithmeticError, match=r"do not hold 1 of 1 filters.*keep the modal form"):
        from_modal(modal)


def rotation(n: int, seed: int) -> Tensor:
    return torch.linalg.qr(torch.randn(n, n, dtype=F64, generator=torch.Generator().manual_seed(seed)))[0]


@pytest.mark.parametrize(("growth", "shortened"), [(1.05, 142), (1.2, 38)])
def test_growing_modes_that_no_input_reaches(growth: float, shortened: int) -> None:
    """They come in as a pole and a zero, and minimal cancels them."""
    T, A = rotation(4, 1), torch.diag(torch.tensor([growth, 0.5, -0.3, 0.2], dtype=F64))
    B, C = torch.tensor([[0.0], [1], [1], [1]], dtype=F64), torch.ones(1, 4, dtype=F64)
    system = (T @ A @ T.mT, T @ B, C @ T.mT, torch.zeros(1, 1))
    h = from_state_space(*system)
    assert (h.value.order, h.length, bool(h.error < 1e-9)) == (4, shortened, True)
    expected = torch.tensor([[-0.3, 0.2, 0.5]], dtype=F64)
    torch.testing.assert_close(minimal(h.value).value.poles().real.sort().values, expected, rtol=0, atol=1e-7)
    with pytest.raises(ArithmeticError, match=rf"grows by {growth} a sample.*length={shortened} .*minimal\(h\)"):
        from_state_space(*system, length=3000)


@pytest.mark.parametrize("seed", range(3))
def test_state_matrices_that_rounding_changes_are_told_from_crowded_poles(seed: int) -> None:
    """Coordinates of condition 1e6: the numbers given are already another filter, however it is written."""
    A, B, C, D = (torch.from_numpy(x) for x in scipy.signal.tf2ss(*scipy.signal.ellip(6, 1, 40, 0.2)))
    T = rotation(6, seed) @ torch.diag(torch.logspace(0, 6, 6, dtype=F64)) @ rotation(6, seed + 10)
    with pytest.raises(ArithmeticError, match=r"badly conditioned, rounding its entries to float64 moves a pole by"):
        from_state_space(T @ A @ T.inverse(), T @ B, C @ T.inverse(), D)
    units = torch.diag(torch.logspace(0, 9, 6, dtype=F64))
    assert bool(from_state_space(units @ A @ units.inverse(), units @ B, C @ units.inverse(), D).error < 1e-9)


@pytest.mark.parametrize(
    ("shapes", "given"),
    [
        ([(2, 2), (2, 1), (1, 3), (1, 1)], r"\(2, 2\), \(2, 1\), \(1, 3\), \(1, 1\)"),
        ([(2, 2), (2,), (2,), ()], r"\(2,\)"),
    ],
)
def test_matrices_that_do_not_fit(shapes: list, given: str) -> None:
    with pytest.raises((ValueError, IndexError), match=given):
        from_state_space(*(torch.zeros(shape) for shape in shapes))
    with pytest.raises(TypeError, match="real matrices"):
        from_state_space(torch.zeros(1, 1, dtype=torch.complex64), [[1.0]], [[1.0]], [[1.0]])


# ------------------------------------------------------------------------------------------------- modes


@given(order=st.integers(0, 8), groups=st.sampled_from([1, 2, 4]), seed=st.integers(0, 20))
@settings(max_examples=25)
def test_modes_lead_back(order: int, groups: int, seed: int) -> None:
    h = TransferFunction(*bank(order, groups=groups, seed=seed), 0.5)
    modal, error = to_modal(h, length=LENGTH)
    assert modal.A.shape[0] == h.channels
    assert modal.A.shape[1] <= order
    torch.testing.assert_close(modal.kernel(LENGTH, F64), h.impulse_response(LENGTH), rtol=1e-8, atol=1e-8)
    again, back = from_modal(modal, length=LENGTH)
    assert again.order == order
    assert again.dt == 0.5
    for name in ("b", "h0"):
        torch.testing.assert_close(getattr(again, name), getattr(h, name), rtol=1e-8, atol=1e-8)
    assert max(float(error.max()), float(back.max())) < 1e-8


def test_residues_are_scipys() -> None:
    h = system(5, groups=1)
    modal = to_modal(h).value
    for d in range(h.channels):
        residues, poles, rest = scipy.signal.residuez(h.b[d].numpy(), np.r_[1, h.a[0].numpy()])  # of z B(z) / A(z)
        assert not rest.size
        for p, c in zip(modal.A[d].numpy(), modal.C[d].numpy(), strict=True):
            k = np.abs(poles - p).argmin()
            weight = 2 if abs(p.imag) < 1e-12 else 1
            assert abs(poles[k] - p) < MARGIN
            assert abs(residues[k] - weight * c * p) < 1e-8 * max(1, np.abs(residues).max())


def test_real_modes_count_once_and_channels_may_differ() -> None:
    h = TransferFunction(*coefficients(denominator([0.5, 0.3], [0.4 + 0.3j, 0.4 - 0.3j]), channels=2))
    modal, _ = to_modal(h)
    assert modal.A.shape == (2, 2)
    assert modal.A[1, 1] == 0
    again = from_modal(modal).value
    assert again.order == 2
    torch.testing.assert_close(again.a, h.a, rtol=MARGIN, atol=MARGIN)
    real = ModalSystem(*(torch.tensor(x, dtype=F64) for x in ([[0.5, 0.3]], [[1.0, 2.0]], [[1.0, -1.0]], [0.5])))
    torch.testing.assert_close(
        from_modal(real).value.impulse_response(20), real.kernel(20, F64), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize(
    ("poles", "match"),
    [([0.5, 0.5, 0.5], "3 poles lie too close.*second-order"), ([0.5, 0.0], "pole at zero.*minimal")],
)
def test_filters_without_modes_are_refused(poles: list[float], match: str) -> None:
    with pytest.raises(ArithmeticError, match=match):
        to_modal(TransferFunction(*coefficients(denominator(poles), channels=1)))


# ------------------------------------------------------------------------------------------------- banks


def test_filters_stack_and_are_selected() -> None:
    one, two = butter(2, 0.2, dt=0.5), butter(4, 0.1, dt=0.5)
    both = stack([one, two])
    assert (both.channels, both.order, both.dt) == (2, 4, 0.5)
    torch.testing.assert_close(both.impulse_response(50), torch.cat([h.impulse_response(50) for h in (one, two)]))
    tied = system(3, groups=2)
    torch.testing.assert_close(select(tied, [3, 1]).impulse_response(9), tied.impulse_response(9)[[3, 1]])
    with pytest.raises(ValueError, match=r"in 0\.\.3.*got \[4\]"):
        select(tied, [4])
    with pytest.raises(ValueError, match="at least one filter"):
        stack([])
    assert stack([butter(2, 0.2), one]).dt == 0.5  # as in the algebra, None goes with any
    with pytest.raises(ValueError, match=r"share a sampling interval, got dt=0\.5 and dt=0\.25: with_rate"):
        stack([one, butter(2, 0.2), butter(2, 0.2, dt=0.25)])


# ------------------------------------------------------------------------------------------------- minimal


@pytest.mark.parametrize(
    ("combine", "order"),
    [
        (lambda h: h + h, 3),
        (lambda h: h * h + h, 6),
        (lambda h: h - h, 0),
        (lambda h: h.feedback(h), 6),
        (lambda h: h, 3),
    ],
    ids=["h+h", "hh+h", "h-h", "loop", "h"],
)
def test_what_the_algebra_repeats_is_cancelled(combine, order: int) -> None:
    """The orders that pencil and paper give."""
    h = combine(butter(3, 0.3))
    reduced, error = minimal(h, length=300)
    assert reduced.order == order
    difference = (reduced.impulse_response(300) - h.impulse_response(300)).abs().max()
    assert float(difference) <= 1e-8 * float(h.impulse_response(300).abs().max())
    assert float(error) <= 1e-8


def test_the_tolerance_is_what_the_response_may_lose() -> None:
    """A pole next to a zero: 1e-5 of the response, so that it stays or goes."""
    a = denominator([0.5, 0.3])
    b = denominator([0.5 + 1e-5])
    h = TransferFunction(torch.cat((torch.ones(1, 1), b), 1).to(F64), a, torch.zeros(1, dtype=F64))
    assert minimal(h).value.order == 2
    reduced, error = minimal(h, tolerance=1e-3)
    assert reduced.order == 1
    assert 1e-6 < float(error) < 1e-4


def test_channels_are_reduced_each_by_itself() -> None:
    one, two = butter(2, 0.2), butter(3, 0.3)
    reduced, error = minimal(stack([one + one, two]))
    assert reduced.order == 3
    assert error.shape == (2,)
    assert float(reduced.a[0, 2]) == 0
    with pytest.raises(ValueError, match="order 3 needs a response of at least 4 samples, got 3"):
        minimal(two, length=3)


GROWTHS = [1.005, 1.01, 1.02, 1.05, 1.1, 1.2, 1.3, 2.0]


def fraction(zeros: list[float], poles: list[float]) -> TransferFunction:
    return from_ba(np.atleast_1d(np.poly(zeros)), np.poly(poles))


@pytest.mark.parametrize("growth", GROWTHS)
def test_growing_modes_that_nothing_shows_are_cancelled(growth: float) -> None:
    """As python-control's minreal does: of a stable loop around an unstable plant the loop is left."""
    plant = from_ba([0, 0.1], [1, -growth])
    through = plant * from_ba([1.0], [1.0]).feedback(10 * (growth - 0.7) * plant)
    loop = minimal(through).value
    torch.testing.assert_close(loop.poles().real, torch.tensor([[0.7]], dtype=F64))
    assert loop.stability().verdict == "stable"
    twice = fraction([0.2], [growth, 0.5])
    torch.testing.assert_close(minimal(twice + twice).value.poles().abs().sort().values, twice.poles().abs().sort()[0])
    for zeros, poles in (([0.3], [0.5]), ([0.3, 0.2], [0.5, 0.9, 0.8, -0.7, 0.1])):
        reduced = minimal(fraction([growth, *zeros], [growth, *poles])).value
        assert (reduced.order, reduced.stability().verdict) == (len(poles), "stable")


@pytest.mark.parametrize("growth", GROWTHS)
@pytest.mark.parametrize("residue", [1.0, 1e-6, 1e-9])
def test_growing_modes_that_are_there_stay(growth: float, residue: float) -> None:
    h = fraction([0.2], [0.5, 0.1]) + residue * fraction([], [growth])
    kept = minimal(h).value
    assert kept.stability().verdict == "unstable"
    assert float(kept.stability().radius) == pytest.approx(growth, abs=1e-4)


def test_a_response_that_overflows_is_told() -> None:
    with pytest.raises(ValueError, match="beyond the largest number in 2000 samples: pass a smaller length"):
        minimal(fraction([], [2.0]), length=2000)


@pytest.mark.parametrize(
    ("poles", "expected"),
    [
        ([], 1024),
        ([0.0], 1024),
        ([0.99, -0.999j], 7996),
        ([1 - 1e-9], 2**16),
        ([1.0, 0.9995], 15996),  # what does not die out does not count
        ([1.0], 1024),
        ([1.1, 0.9999], 73),
        ([1.0001], 1024),
        ([10.0, 0.5, 0.25], 8),  # more than twice the order
        ([0.5] * 200, 1600),
    ],
    ids=str,
)
def test_responses_are_compared_until_they_have_died_out(poles: list[complex], expected: int) -> None:
    found = samples_to_compare(torch.tensor(poles, dtype=torch.complex128))
    assert found == expected

    slowest = max((abs(p) for p in poles if abs(p) < 1), default=0.0)
    if 1600 < found < 2**16:
        assert slowest**found == pytest.approx(np.exp(-8), rel=1e-2)


def test_beside_a_filter_that_grows_others_are_compared_for_longer() -> None:
    assert samples_to_compare(torch.tensor([[1.1, 0.5], [0.9999, 0.5]])) == 1024
    assert samples_to_compare(torch.tensor([[1.1, 0.5], [1.2, 0.5]])) == 73
    assert samples_to_compare(torch.tensor([1.1]), torch.tensor([0.2])) == 1024  # it may be inside


def test_what_shows_late_is_seen_unless_the_caller_looks_away() -> None:
    """The poles of this filter, rounded, are unstable, which the first thousand samples do not show."""
    slow = scipy.signal.butter(4, 5, fs=48000, output="sos")
    early = from_sos(slow, length=1024)
    assert (early.length, float(early.error) < 1e-5) == (1024, True)
    with pytest.raises(ArithmeticError, match="coefficients in float64 of order 4 do not hold"):
        from_sos(slow)


def test_every_conversion_tells_over_how_many_samples() -> None:
    h = TransferFunction(*coefficients(denominator([0.9995, 0.5]), channels=1), 0.1)
    for convert in (to_modal, minimal, d2c, to_sos, to_zpk, lambda h, **kw: from_state_space(*h.state_space(), **kw)):
        assert convert(h).length == 15996
        assert convert(h, length=200).length == 200
    assert from_modal(to_modal(h).value).length == 15996
    assert c2d(d2c(h).value, 0.1).length == pytest.approx(15996, abs=1)
    assert with_rate(h, 0.2).length is None


def test_results_are_copied_with_all_they_tell() -> None:
    for made in (copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))):
        again = made(Converted("x", torch.tensor([0.5]), 7))
        assert (again.value, float(again.error), again.length) == ("x", 0.5, 7)


def test_errors_are_measured_and_refused() -> None:
    value, error = Converted("x", torch.tensor([0.5]), 7)
    assert (value, float(error)) == ("x", 0.5)
    assert response_error(torch.tensor([[1.0, torch.nan]]), torch.ones(1, 2)).isinf().all()
    for wrong in (torch.inf, torch.nan, 2e-3):
        with pytest.raises(
            ArithmeticError, match=r"it: 1 of 2 responses are off by up to .*0\.001 was asked for\. Do so"
        ):
            check_error(torch.tensor([0.0, wrong]), 1e-3, what="it", instead="Do so.")
    with pytest.raises(ValueError, match="3 parts"):
        c2d(([1.0], [1.0], [1.0]), 0.1)
