"""HiPPO matrices: what they are made for, the identities of their forms, and the numbers of the official code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.polynomial import laguerre, legendre
from scipy.linalg import expm

from transferfn.core.hippo import hippo, hippo_n_blocks, low_rank, nplr, s4d

GOLDEN = Path(__file__).parent.parent / "golden" / "hippo.npz"
MEASURES = ("legs", "legt", "lagt", "fourier")
TOLERANCE = 1e-12  # of the golden numbers, see tests/golden/README.md
every_measure = pytest.mark.parametrize("measure", MEASURES)


def golden(case: str) -> dict[str, Any]:
    with np.load(GOLDEN) as f:
        return {key.split("/")[1]: f[key] for key in f.files if key.startswith(case + "/")}


def error(x: Any, expected: Any) -> float:
    x, expected = (np.asarray(v.resolve_conj() if isinstance(v, torch.Tensor) else v) for v in (x, expected))
    assert x.shape == expected.shape
    return float(np.abs(x - expected).max() / np.abs(expected).max())


# ------------------------------------------------------------------------------------------------- what they are for


def test_legs_and_lagt_have_their_polynomials_as_impulse_responses() -> None:
    for t in (0.0, 0.3, 1.7):
        for N in (1, 2, 7):
            A, B = (x.numpy() for x in hippo("legs", N))
            found = expm(A * t) @ B
            basis = legendre.legval(2 * np.exp(-t) - 1, np.diag(np.sqrt(2 * np.arange(N) + 1)))
            assert error(found, np.exp(-t) * basis) <= 1e-12
            A, B = (x.numpy() for x in hippo("lagt", N))
            assert error(expm(A * t) @ B, np.exp(-t / 2) * laguerre.lagval(t, np.eye(N))) <= 1e-12


def test_legt_keeps_polynomials_on_its_window() -> None:
    """For u of degree below N the coefficients on [t - 2, t] solve the equation exactly."""
    N = 5
    A, B = (x.numpy() for x in hippo("legt", N))
    nodes, weights = legendre.leggauss(2 * N)
    rows = np.sqrt(2 * np.arange(N) + 1) * legendre.legvander(nodes, N - 1) * weights[:, None] / 2

    def coefficients(u: np.polynomial.Polynomial, t: float) -> Any:
        return rows.T @ u(t - 1 + nodes)

    u = np.polynomial.Polynomial([0.3, -1.0, 0.7, 0.2, -0.4])
    for t in (-0.6, 0.0, 1.3):
        assert error(coefficients(u.deriv(), t), A @ coefficients(u, t) + B * u(t)) <= 1e-12


def test_fourier_keeps_harmonics_of_its_window() -> None:
    N = 6
    A, B = (x.numpy() for x in hippo("fourier", N))
    gain = np.array([0.3, -1.0, 0.7])
    phase = np.array([0.0, 0.4, -1.1])

    def state(t: float) -> Any:
        """Of u = g_0 + sum_k sqrt 2 g_k cos(pi k t + phase_k), which has the period 2 of the window."""
        turned = gain * np.exp(1j * (np.pi * np.arange(3) * t + phase))
        return np.stack((turned.real, turned.imag), -1).reshape(-1)

    for t in (-0.6, 0.0, 1.3):
        u = float(B @ state(t))
        slope = (state(t + 1e-5) - state(t - 1e-5)) / 2e-5
        assert error(A @ state(t) + B * u, slope) <= 1e-9


# ------------------------------------------------------------------------------------------------------- identities


@every_measure
@pytest.mark.parametrize("N", [2, 6, 16, 64])
def test_normal_plus_low_rank_is_the_system(measure: Any, N: int) -> None:
    A, B = (x.numpy() for x in hippo(measure, N))
    p = low_rank(measure, N).numpy()
    modes = nplr(measure, N, b_clip=None)
    Lambda, P, B_modes, V = (x.numpy() for x in (modes.Lambda, modes.P, modes.B, modes.V))
    full = np.concatenate((V, V.conj()), 1)
    assert np.abs(full.conj().T @ full - np.eye(N)).max() <= 1e-12
    P_full = np.concatenate((P, P.conj()), 1)
    core = np.diag(np.concatenate((Lambda, Lambda.conj()))) - P_full.T @ P_full.conj()
    assert error(full @ core @ full.conj().T, A.astype(complex)) <= 1e-12
    assert error(2 * (P @ V.T).real, p) <= 1e-12
    assert error(2 * (V @ B_modes).real, B) <= 1e-12
    assert (np.diff(Lambda.imag) > 0).all()
    assert (Lambda.imag <= 0).all()
    assert np.abs(Lambda.real - (-0.5 if measure == "legs" else 0)).max() <= 1e-12


@every_measure
def test_the_phase_of_eigenvectors_is_fixed(measure: Any) -> None:
    V = nplr(measure, 16).V.numpy()
    first = V[(np.abs(V) > 1e-6).argmax(0), np.arange(8)]
    assert np.abs(first.imag).max() <= 1e-15
    assert (first.real > 0).all()


@every_measure
def test_clipping_is_of_the_imaginary_part_of_b_alone(measure: Any) -> None:
    exact, official, tight = nplr(measure, 16, b_clip=None), nplr(measure, 16), nplr(measure, 16, b_clip=0.25)
    for clipped, bound in ((official, 2.0), (tight, 0.25)):
        assert torch.equal(clipped.B.real, exact.B.real)
        assert torch.equal(clipped.B.imag, exact.B.imag.clamp(-bound, bound))
        for name in ("Lambda", "P", "V"):
            assert torch.equal(getattr(clipped, name), getattr(exact, name))


@pytest.mark.parametrize(("N", "blocks", "conj_sym"), [(12, 3, True), (12, 3, False), (15, 3, False), (7, 1, False)])
def test_blocks_of_hippo_n(N: int, blocks: int, conj_sym: bool) -> None:
    Lambda, V = (x.numpy() for x in hippo_n_blocks(N, blocks, conj_sym=conj_sym))
    m = N // blocks
    p = low_rank("legs", m).numpy()
    normal = np.kron(np.eye(blocks), hippo("legs", m)[0].numpy() + p.T @ p)
    assert error(V * Lambda, normal @ V) <= 1e-12
    assert np.abs(V.conj().T @ V - np.eye(V.shape[1])).max() <= 1e-12
    assert V.shape == (N, N // 2 if conj_sym else N)


def test_half_of_b_makes_s4d_legs_of_infinite_size() -> None:
    """The S4D paper's theorem: with B / 2 the normal part alone becomes HiPPO-LegS as N grows."""
    frequency = 1.0 + 2.0j

    def distance(N: int, halve_b: bool) -> float:
        A, B = (x.numpy() for x in hippo("legs", N))
        Lambda, B_modes = (x.numpy() for x in s4d("legs", N, b_clip=None, halve_b=halve_b))
        V = nplr("legs", N).V.numpy()
        found = V @ (B_modes / (frequency - Lambda)) + V.conj() @ (B_modes.conj() / (frequency - Lambda.conj()))
        return error(found[:4], np.linalg.solve(frequency * np.eye(N) - A, B)[:4])

    half = [distance(N, True) for N in (16, 64, 256)]
    assert half[2] < half[1] < half[0]
    assert half[2] <= 0.01
    assert distance(256, False) >= 0.9


# ---------------------------------------------------------------------------------------------------------- official


@pytest.mark.parametrize("case", ["legs_small", "legs_large"])
def test_official_legs(case: str) -> None:
    f = golden(case)
    N = int(f["N"])
    A, B = hippo("legs", N)
    assert error(A, f["A"]) <= TOLERANCE
    assert error(B, f["B"]) <= TOLERANCE
    assert error(low_rank("legs", N)[0], f["P_real_basis"]) <= TOLERANCE
    exact, clipped = nplr("legs", N, b_clip=None), nplr("legs", N)
    assert error(exact.Lambda, f["Lambda"]) <= TOLERANCE
    assert error(exact.P[0].abs(), np.abs(f["P"])) <= TOLERANCE
    assert error(exact.B.abs(), np.abs(f["B_eig"])) <= TOLERANCE
    assert error(exact.P[0].conj() * exact.B, f["P"].conj() * f["B_eig"]) <= TOLERANCE
    # The phases of both are real at the first entry, so that they differ by signs, which clipping respects.
    sign = np.sign(f["V"][0].real)
    assert error(exact.V.numpy() * sign, f["V"]) <= 1e-11  # the eigenvectors' own conditioning
    assert error(clipped.B.numpy() * sign, f["B_eig_clipped"]) <= TOLERANCE
    assert f["B_clip"] == 2.0


def test_official_s4d() -> None:
    f = golden("s4d_init")
    N = int(f["N"])
    for init, name in [("lin", "S4D_Lin"), ("inv", "S4D_Inv"), ("real", "S4D_Real"), ("legs", "S4D_LegS_float64")]:
        Lambda, B = s4d(init, N)  # pyright: ignore[reportArgumentType]
        assert error(Lambda, f[name]) <= TOLERANCE
        assert torch.equal(B, nplr("legs", N).B if init == "legs" else torch.ones(N // 2, dtype=torch.complex128))
    assert error(s4d("legs", N)[0], f["S4D_LegS"]) <= 1e-7  # through float32
    assert error(s4d("lin", N)[0].conj(), f["S4D_Lin_minimal"]) <= TOLERANCE
    assert error(s4d("lin", N, least_frequency=1e-4)[0], f["S4D_Lin_in_kernel_class"]) <= TOLERANCE


@pytest.mark.parametrize("case", ["s5_one_block_half", "s5_one_block_full", "s5_blocks_half", "s5_blocks_full"])
def test_official_s5(case: str) -> None:
    f = golden(case)
    Lambda, V = hippo_n_blocks(int(f["state_size"]), int(f["blocks"]), conj_sym=bool(f["conj_sym"]))
    assert error(Lambda, f["Lambda"]) <= TOLERANCE
    # Up to the phase of each eigenvector: the projections on them are the same.
    for k in range(V.shape[1]):
        found, expected = (np.outer(v[:, k], v[:, k].conj()) for v in (V.numpy(), f["V"]))
        assert error(found, expected) <= TOLERANCE
    assert error(V.conj().T, f["Vinv"] * (np.sum(V.numpy() * f["V"].conj(), 0).conj())[:, None]) <= TOLERANCE


# ------------------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nplr("legs", 5), "must be even and at least 2, got 5"),
        (lambda: hippo("fourier", 5), "must be even and at least 2, got 5"),
        (lambda: hippo("legs", 0), "at least 1, got 0"),
        (lambda: nplr("legs", 4, b_clip=0.0), "b_clip is a positive bound, or None.*got 0"),
        (lambda: s4d("lin", 3), "must be even and at least 2, got 3"),
        (lambda: s4d("lin", 4, least_frequency=-1.0), "zero or more; got -1"),
        (lambda: hippo_n_blocks(10, 3), "must divide the state size, got 3 blocks for a size of 10"),
        (lambda: hippo_n_blocks(6, 2), "blocks of 3.*conj_sym=False"),
    ],
)
def test_wrong_sizes_are_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_nothing_depends_on_the_default_device_or_type() -> None:
    with torch.device("meta"):
        found = [*hippo("legs", 4), low_rank("legt", 4), *s4d("lin", 4), *hippo_n_blocks(4, 1), nplr("lagt", 4).V]
    assert {x.device.type for x in found} == {"cpu"}
    assert {x.dtype for x in found} == {torch.float64, torch.complex128}


def test_what_was_given_is_the_callers_own() -> None:
    """Eigenvectors are computed once and kept; changing what was returned changes nothing that comes later."""
    first = nplr("legs", 6)
    kept = [x.clone() for x in (first.Lambda, first.V, first.B, first.P)]
    for x in (first.Lambda, first.V, first.B, first.P):
        x.zero_()
    again = nplr("legs", 6)
    assert all(torch.equal(x, y) for x, y in zip(kept, (again.Lambda, again.V, again.B, again.P), strict=True))
