"""HiPPO: state matrices whose states are the coefficients of the input's history, and the spectra derived from them.

Everything is computed in float64 on the CPU, without randomness, and returned as tensors. Where a system is real, of
the state size N, its complex form stores N/2 modes; the other half are their conjugates.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from transferfn.core.checks import check_choice, check_whole

Measure = Literal["legs", "legt", "lagt", "fourier"]
S4DInit = Literal["lin", "inv", "legs", "real"]

OFFICIAL_CLIP = 2.0
"""Bound on the imaginary part of B in the official S4 and S4D code."""

_SIGNIFICANT = 1e-6  # of an entry of a unit eigenvector: rounding leaves 1e-13, entries that are not zero exceed 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class NPLR:
    """A real system (A, B) of size N in normal plus low rank form, one of each pair of conjugate modes stored.

    With ``Vf`` = [V, conj(V)], which is unitary, and so on for the others,

        A = Vf (diag(Lambda_f) - sum_r P_rf P_rf^*) Vf^*,    B = Vf B_f = 2 Re(V B).

    Attributes:
        Lambda: Eigenvalues of the normal part, complex128, (N/2), ascending imaginary parts, none positive.
        P: Low rank factors in the basis of the eigenvectors, complex128, (R, N/2); R = 2 for ``"legt"``, otherwise 1.
        B: Input vector in that basis, complex128, (N/2); its imaginary part possibly clipped.
        V: Unit eigenvectors in columns, complex128, (N, N/2). Their first entry that is not zero is real and positive.
    """

    Lambda: Tensor
    P: Tensor
    B: Tensor
    V: Tensor


def hippo(measure: Measure, N: int) -> tuple[Tensor, Tensor]:
    r"""State matrices of dx/dt = A x + B u for a measure on the past, n, k = 0..N-1.

    - ``"legs"``, exponentially decaying Legendre polynomials (the LTI form of scaled Legendre):
      A_nk = -sqrt((2n+1)(2k+1)) for n > k, -(n+1) for n = k, 0 above; B_n = sqrt(2n+1). Its impulse responses are
      sqrt(2n+1) e^-t P_n(2 e^-t - 1).
    - ``"legt"``, Legendre polynomials on a sliding window of 2 units of time: with r_n = sqrt(2n+1),
      A_nk = -r_n r_k / 2 times 1 for n >= k and (-1)^(n-k) for n < k; B_n = r_n / 2.
    - ``"lagt"``, Laguerre functions: A_nk = -1 for n > k, -1/2 for n = k, 0 above; B_n = 1. Its impulse responses are
      e^(-t/2) L_n(t).
    - ``"fourier"``, truncated Fourier series on a sliding window of 2 units of time: states 2k and 2k+1 turn at the
      angular frequency pi k, B = (1, 0, sqrt 2, 0, sqrt 2, 0, ...), and B B^T is subtracted, which takes out what
      leaves the window. State 1 is always zero. N must be even.

    Args:
        measure: Which family.
        N: State size.

    Returns:
        A (N, N) and B (N), float64.

    Raises:
        ValueError: if the measure is another, or the state size does not fit.

    Source:
        Gu et al. 2020, arXiv:2008.07669, Theorems 1 and 2, appendix D (legt, lagt, legs); Gu et al. 2022,
        arXiv:2206.12037, section 3 (legs as an LTI system, fourier). Time scales and signs are
        those of the function ``transition`` of the official S4 code (state-spaces/s4, e757cef).

    Example:
        >>> A, B = hippo("legs", 2)
        >>> A
        tensor([[-1.0000,  0.0000],
                [-1.7321, -2.0000]], dtype=torch.float64)
    """
    A, B, _ = _system(measure, N)
    return torch.from_numpy(A), torch.from_numpy(B)


def low_rank(measure: Measure, N: int) -> Tensor:
    """Real factors p_r that make A + sum_r p_r p_r^T normal: a skew-symmetric matrix, and -I/2 more for ``"legs"``.

    Args:
        measure: Which family, see :func:`hippo`.
        N: State size.

    Returns:
        p, float64, (R, N); R = 2 for ``"legt"``, otherwise 1.

    Source:
        Gu et al. 2022, arXiv:2111.00396, Theorem 1 and appendix C.1.

    Example:
        >>> low_rank("lagt", 2)
        tensor([[0.7071, 0.7071]], dtype=torch.float64)
    """
    return torch.from_numpy(_system(measure, N)[2])


def nplr(measure: Measure, N: int, *, b_clip: float | None = OFFICIAL_CLIP) -> NPLR:
    """Normal plus low rank form of a HiPPO system: what S4 starts from.

    The phase of an eigenvector is arbitrary. Here the first entry that is not zero is real and positive, as it is in
    the official code up to the sign.

    Clipping: the official code bounds the imaginary part of B, in its basis of eigenvectors, by 2 in magnitude. Since
    |B| grows like N, that changes some modes (for ``"legs"`` 3 of 8 at N = 16, 11 of 32 at N = 64): the system is then
    no longer the HiPPO system, and which one it is depends on the phases. It is the default because published results
    have it; ``b_clip=None`` gives the exact system.

    Args:
        measure: Which family, see :func:`hippo`.
        N: State size, even.
        b_clip: Bound on the magnitude of the imaginary part of B; None means that B is exact.

    Returns:
        The system, one of each pair of conjugate modes.

    Raises:
        ValueError: if the measure is another, the state size is odd, or the bound is not positive.

    Source:
        Gu et al. 2022, arXiv:2111.00396, Theorem 1; the official S4 code's ``nplr``.

    Example:
        >>> nplr("legs", 4).Lambda.real
        tensor([-0.5000, -0.5000], dtype=torch.float64)
        >>> exact, (A, B) = nplr("legs", 4, b_clip=None), hippo("legs", 4)
        >>> bool(torch.allclose(2 * (exact.V @ exact.B).real, B))
        True
    """
    if b_clip is not None and not b_clip > 0:
        raise ValueError(f"b_clip is a positive bound, or None for the exact system; got {b_clip}")
    _, B, p = _system(measure, N)
    _check_even(N)
    if measure == "fourier":
        Lambda, V = _fourier_modes(N)
    else:
        Lambda, V = _normal_modes(measure, N)
        Lambda, V = Lambda[: N // 2], V[:, : N // 2]
    to_modes = V.conj().T
    B, P = to_modes @ B, p @ V.conj()
    if b_clip is not None:
        B = np.real(B) + 1j * np.imag(B).clip(-b_clip, b_clip)
    return NPLR(Lambda=_tensor(Lambda), P=_tensor(P), B=_tensor(B), V=_tensor(V))


def hippo_n_blocks(N: int, blocks: int, *, conj_sym: bool = True) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of a block diagonal matrix with the normal part of HiPPO-LegS in each block.

    What S5 starts from: A + p p^T of :func:`hippo` ``("legs", N / blocks)``, repeated.

    Args:
        N: Size of the whole matrix; ``blocks`` must divide it.
        blocks: Number of equal blocks.
        conj_sym: Keep one of each pair of conjugate modes, that with the negative imaginary part. The size of a block
            must then be even.

    Returns:
        Lambda (P), ascending imaginary parts within each block, and V (N, P), unit eigenvectors in columns, complex128,
        with P = N / 2 if ``conj_sym``, otherwise N. The phases are those of :func:`nplr`.

    Raises:
        ValueError: if the sizes do not fit.

    Source:
        Smith et al. 2023, arXiv:2208.04933, section 3.3 and appendix B.1; the official S5 code's ``make_DPLR_HiPPO``.

    Example:
        >>> Lambda, V = hippo_n_blocks(8, 2)
        >>> tuple(Lambda.shape), tuple(V.shape), bool(Lambda[0] == Lambda[2])
        ((4,), (8, 4), True)
    """
    check_whole("N", N)
    check_whole("blocks", blocks)
    if blocks < 1 or N < 1 or N % blocks:
        raise ValueError(f"the number of blocks must divide the state size, got {blocks} blocks for a size of {N}")
    m = N // blocks
    if conj_sym and m % 2:
        raise ValueError(
            f"conjugate symmetry pairs the modes of a block, which needs blocks of even size; {N} states in {blocks} "
            f"blocks make blocks of {m}. Use another size, or conj_sym=False."
        )
    Lambda, V = _normal_modes("legs", m)
    kept = m // 2 if conj_sym else m
    return _tensor(np.tile(Lambda[:kept], blocks)), _tensor(np.kron(np.eye(blocks), V[:, :kept]))


def s4d(
    init: S4DInit,
    N: int,
    *,
    b_clip: float | None = OFFICIAL_CLIP,
    halve_b: bool = False,
    least_frequency: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Diagonal systems that S4D starts from, one of each pair of conjugate modes, k = 0..N/2-1.

    - ``"lin"``: Lambda_k = -1/2 - i pi k, B = 1.
    - ``"inv"``: Lambda_k = -1/2 - i (N / pi) (N / (2k+1) - 1), B = 1.
    - ``"legs"``: the normal part of HiPPO-LegS, -1/2 - i mu_k, with B in its basis (see :func:`nplr` on clipping).
    - ``"real"``: Lambda_k = -(k+1), B = 1.

    All imaginary parts are at most zero, as in the official full kernel; its minimal S4D layer uses the opposite sign,
    which gives the same kernel for a conjugate C. The official code passes ``"legs"`` through float32 (an error of
    3e-8); this one is exact to float64.

    Args:
        init: Which family.
        N: State size, even.
        b_clip: Bound on the magnitude of the imaginary part of B for ``"legs"``; None means that B is exact. The others
            have a real B.
        halve_b: Halve B for ``"legs"``: the S4D paper's theorem asks for B / 2 with the normal part alone to come
            near HiPPO-LegS as N grows. The official code does not.
        least_frequency: Lower bound on the magnitudes of imaginary parts. The official full kernel trains their
            logarithms and has 1e-4; only the zero of ``"lin"`` and the zeros of ``"real"`` are affected.

    Returns:
        Lambda (N/2) and B (N/2), complex128.

    Raises:
        ValueError: if the family is another, or the state size is odd.

    Source:
        Gu et al. 2022, arXiv:2206.11893, section 4; the official S4 code's ``dplr``.

    Example:
        >>> s4d("lin", 4)[0]
        tensor([-0.5000-0.0000j, -0.5000-3.1416j], dtype=torch.complex128)
    """
    check_choice("init", init, get_args(S4DInit))
    check_whole("N", N)
    _check_even(N)
    if not least_frequency >= 0:
        raise ValueError(f"least_frequency is a bound on magnitudes, zero or more; got {least_frequency}")
    k = np.arange(N // 2, dtype=np.float64)
    B = torch.ones(N // 2, dtype=torch.complex128, device="cpu")
    if init == "legs":
        modes = nplr("legs", N, b_clip=b_clip)
        real, frequency = np.full_like(k, -0.5), -modes.Lambda.imag.numpy()
        B = modes.B / 2 if halve_b else modes.B
    elif init == "lin":
        real, frequency = np.full_like(k, -0.5), math.pi * k
    elif init == "inv":
        real, frequency = np.full_like(k, -0.5), N / math.pi * (N / (2 * k + 1) - 1)
    else:
        real, frequency = -(k + 1), np.zeros_like(k)
    return _tensor(real - 1j * np.maximum(frequency, least_frequency)), B


def _system(measure: Measure, N: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A (N, N), B (N) and p (R, N)."""
    check_choice("measure", measure, get_args(Measure))
    check_whole("N", N)
    if N < 1:
        raise ValueError(f"the state size must be at least 1, got {N}")
    n = np.arange(N, dtype=np.float64)
    r = np.sqrt(2 * n + 1)
    ones = np.ones((N, N))
    if measure == "legs":
        return -np.tril(np.outer(r, r), -1) - np.diag(n + 1), r, np.sqrt(n + 0.5)[None]
    if measure == "lagt":
        return -np.tril(ones) + np.eye(N) / 2, np.ones(N), np.full((1, N), math.sqrt(0.5))
    is_even = n % 2 == 0
    if measure == "legt":
        sign = np.tril(ones) + np.triu(np.where(is_even[:, None] == is_even, 1.0, -1.0), 1)
        factors = np.stack((np.where(is_even, 0, r), np.where(is_even, r, 0)))
        return -np.outer(r, r) * sign / 2, r / 2, factors * math.sqrt(0.5)
    _check_even(N)
    turn = np.zeros(N - 1)
    turn[::2] = math.pi * np.arange(N // 2)
    B = np.where(is_even, math.sqrt(2), 0.0)
    B[0] = 1
    return np.diag(turn, -1) - np.diag(turn, 1) - np.outer(B, B), B, B[None].copy()


@functools.lru_cache(maxsize=8)  # all layers of a model start from the same
def _normal_modes(measure: Measure, N: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, ascending imaginary parts, and eigenvectors of A + p^T p, a multiple of I plus a skew matrix."""
    A, _, p = _system(measure, N)
    normal = A + p.T @ p
    skew = (normal - normal.T) / 2
    frequency, V = np.linalg.eigh(-1j * skew)
    # Rounding breaks the symmetry of a spectrum that is conjugate in exact arithmetic.
    frequency = (frequency - frequency[::-1]) / 2
    first = (np.abs(V) > _SIGNIFICANT).argmax(0)
    pivot = V[first, np.arange(len(V))]
    V = V * (pivot.conj() / np.abs(pivot))
    return np.trace(normal) / len(normal) + 1j * frequency, V


def _fourier_modes(N: int) -> tuple[np.ndarray, np.ndarray]:
    """The same for Fourier, where it is known in closed form and the eigenvalue 0 is double."""
    k = np.arange(N // 2)[::-1]
    V = np.zeros((N, N // 2), dtype=np.complex128)
    V[2 * k, np.arange(N // 2)] = math.sqrt(0.5)
    V[2 * k + 1, np.arange(N // 2)] = 1j * math.sqrt(0.5)
    return -1j * math.pi * k, V


def _check_even(N: int) -> None:
    if N < 2 or N % 2:
        raise ValueError(f"modes come in conjugate pairs, so the state size must be even and at least 2, got {N}")


def _tensor(x: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(x, dtype=np.complex128, order="C"))  # a copy: what is kept must not change
