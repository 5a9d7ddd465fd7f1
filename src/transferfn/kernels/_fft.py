"""Convolution by FFTs over SIMD lanes, as Numba loops. Imported on first use.

Lanes are channels side by side (and batch rows, where there are few channels), so that no element of a transform ever
moves between lanes: the arrays of a job are ``M`` rows of ``W`` lanes, real and imaginary parts apart.

Two real signals of L <= M samples are multiplied as polynomials modulo z^M - i: the samples are weighted by w^j, with
w^M = i, and transformed by a complex FFT of M points. The product of degree 2 M - 2 comes back with its first M
coefficients as real and the others as imaginary parts, so that nothing is padded to twice the length. A kernel that
looks ahead has coefficients at negative powers, z^-s = -i z^(M-s), which land in the imaginary part, too.

The forward transform decimates in frequency and the inverse in time, so that spectra stay in permuted order and nothing
is ever reordered. M is 2^k, 3 * 2^k or 5 * 2^k.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from transferfn.kernels._compile import native
from transferfn.kernels._simd import load, splat, store

LEAF = 256  # rows of a block whose remaining passes run in the nearest cache


def tables(points: int, dtype: type) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, twiddle factors of every pass one after the other, and each pass' radix, size and offset.

    Args:
        points: M.
        dtype: float32 or float64.
    """
    j = np.arange(points)
    weights = np.exp(0.5j * np.pi * j / points)
    factors, passes, offset, size = [], [], 0, points
    while size > 1:
        radix = next(r for r in (3, 5, 4, 2) if size % r == 0)
        powers = np.exp(-2j * np.pi * np.outer(np.arange(size // radix), np.arange(1, radix)) / size)
        passes.append((radix, size, offset))
        factors.append(powers)
        offset += 2 * powers.size
        size //= radix
    flat = np.concatenate([p.ravel() for p in factors]) if factors else np.empty(0, complex)
    return _interleaved(weights, dtype), _interleaved(flat, dtype), np.array(passes, np.int64).reshape(-1, 3)


def _interleaved(z: np.ndarray, dtype: type) -> np.ndarray:
    return np.ascontiguousarray(z, np.complex128).view(np.float64).astype(dtype)


@native
@no_type_check
def _product(xr, xi, wr, wi):
    return xr * wr - xi * wi, xr * wi + xi * wr


@native
@no_type_check
def _dft3(ar, ai, br, bi, cr, ci, half, sine):
    tr, ti = br + cr, bi + ci
    mr, mi = ar - half * tr, ai - half * ti
    sr, si = sine * (br - cr), sine * (bi - ci)
    return ar + tr, ai + ti, mr + si, mi - sr, mr - si, mi + sr


@native
@no_type_check
def _dft4(ar, ai, br, bi, cr, ci, dr, di):
    er, ei, fr, fi = ar + cr, ai + ci, br + dr, bi + di
    gr, gi, hr, hi = ar - cr, ai - ci, br - dr, bi - di
    return er + fr, ei + fi, gr + hi, gi - hr, er - fr, ei - fi, gr - hi, gi + hr


@native
@no_type_check
def _dft5(ar, ai, br, bi, cr, ci, dr, di, er, ei, c1, c2, s1, s2):
    pr, pi, qr, qi = br + er, bi + ei, cr + dr, ci + di
    mr, mi, nr, ni = br - er, bi - ei, cr - dr, ci - di
    fr, fi = ar + c1 * pr + c2 * qr, ai + c1 * pi + c2 * qi
    gr, gi = ar + c2 * pr + c1 * qr, ai + c2 * pi + c1 * qi
    hr, hi = s1 * mr + s2 * nr, s1 * mi + s2 * ni
    kr, ki = s2 * mr - s1 * nr, s2 * mi - s1 * ni
    return ar + pr + qr, ai + pi + qi, fr + hi, fi - hr, gr + ki, gi - kr, gr - ki, gi + kr, fr - hi, fi + hr


@native
@no_type_check
def _down(re, im, begin, radix, size, at, factors, W):
    """A pass that decimates in frequency: small transforms, then twiddle factors."""
    step = size // radix
    far = step * W
    if radix == 4:
        for j in range(step):
            i0 = (begin + j) * W
            i1, i2, i3 = i0 + far, i0 + 2 * far, i0 + 3 * far
            k = at + 6 * j
            ar, ai, br, bi, cr, ci, dr, di = _dft4(
                load(re, i0), load(im, i0), load(re, i1), load(im, i1),
                load(re, i2), load(im, i2), load(re, i3), load(im, i3),
            )  # fmt: skip
            br, bi = _product(br, bi, splat(factors[k]), splat(factors[k + 1]))
            cr, ci = _product(cr, ci, splat(factors[k + 2]), splat(factors[k + 3]))
            dr, di = _product(dr, di, splat(factors[k + 4]), splat(factors[k + 5]))
            store(re, i0, ar), store(im, i0, ai), store(re, i1, br), store(im, i1, bi)
            store(re, i2, cr), store(im, i2, ci), store(re, i3, dr), store(im, i3, di)
    elif radix == 2:
        for j in range(step):
            i0 = (begin + j) * W
            i1 = i0 + far
            k = at + 2 * j
            ar, ai, br, bi = load(re, i0), load(im, i0), load(re, i1), load(im, i1)
            store(re, i0, ar + br), store(im, i0, ai + bi)
            br, bi = _product(ar - br, ai - bi, splat(factors[k]), splat(factors[k + 1]))
            store(re, i1, br), store(im, i1, bi)
    elif radix == 3:
        half, sine = splat(re.dtype.type(0.5)), splat(re.dtype.type(np.sqrt(0.75)))
        for j in range(step):
            i0 = (begin + j) * W
            i1, i2 = i0 + far, i0 + 2 * far
            k = at + 4 * j
            ar, ai, br, bi, cr, ci = _dft3(
                load(re, i0), load(im, i0), load(re, i1), load(im, i1), load(re, i2), load(im, i2), half, sine
            )
            br, bi = _product(br, bi, splat(factors[k]), splat(factors[k + 1]))
            cr, ci = _product(cr, ci, splat(factors[k + 2]), splat(factors[k + 3]))
            store(re, i0, ar), store(im, i0, ai), store(re, i1, br), store(im, i1, bi)
            store(re, i2, cr), store(im, i2, ci)
    else:
        c1, c2, s1, s2 = _fifths(re)
        for j in range(step):
            i0 = (begin + j) * W
            i1, i2, i3, i4 = i0 + far, i0 + 2 * far, i0 + 3 * far, i0 + 4 * far
            k = at + 8 * j
            ar, ai, br, bi, cr, ci, dr, di, er, ei = _dft5(
                load(re, i0), load(im, i0), load(re, i1), load(im, i1), load(re, i2), load(im, i2),
                load(re, i3), load(im, i3), load(re, i4), load(im, i4), c1, c2, s1, s2,
            )  # fmt: skip
            br, bi = _product(br, bi, splat(factors[k]), splat(factors[k + 1]))
            cr, ci = _product(cr, ci, splat(factors[k + 2]), splat(factors[k + 3]))
            dr, di = _product(dr, di, splat(factors[k + 4]), splat(factors[k + 5]))
            er, ei = _product(er, ei, splat(factors[k + 6]), splat(factors[k + 7]))
            store(re, i0, ar), store(im, i0, ai), store(re, i1, br), store(im, i1, bi)
            store(re, i2, cr), store(im, i2, ci), store(re, i3, dr), store(im, i3, di)
            store(re, i4, er), store(im, i4, ei)


@native
@no_type_check
def _up(re, im, begin, radix, size, at, factors, W):
    """A pass that decimates in time: twiddle factors, then small transforms."""
    step = size // radix
    far = step * W
    if radix == 4:
        for j in range(step):
            i0 = (begin + j) * W
            i1, i2, i3 = i0 + far, i0 + 2 * far, i0 + 3 * far
            k = at + 6 * j
            br, bi = _product(load(re, i1), load(im, i1), splat(factors[k]), splat(factors[k + 1]))
            cr, ci = _product(load(re, i2), load(im, i2), splat(factors[k + 2]), splat(factors[k + 3]))
            dr, di = _product(load(re, i3), load(im, i3), splat(factors[k + 4]), splat(factors[k + 5]))
            ar, ai, br, bi, cr, ci, dr, di = _dft4(load(re, i0), load(im, i0), br, bi, cr, ci, dr, di)
            store(re, i0, ar), store(im, i0, ai), store(re, i1, br), store(im, i1, bi)
            store(re, i2, cr), store(im, i2, ci), store(re, i3, dr), store(im, i3, di)
    elif radix == 2:
        for j in range(step):
            i0 = (begin + j) * W
            i1 = i0 + far
            k = at + 2 * j
            ar, ai = load(re, i0), load(im, i0)
            br, bi = _product(load(re, i1), load(im, i1), splat(factors[k]), splat(factors[k + 1]))
            store(re, i0, ar + br), store(im, i0, ai + bi), store(re, i1, ar - br), store(im, i1, ai - bi)
    elif radix == 3:
        half, sine = splat(re.dtype.type(0.5)), splat(re.dtype.type(np.sqrt(0.75)))
        for j in range(step):
            i0 = (begin + j) * W
            i1, i2 = i0 + far, i0 + 2 * far
            k = at + 4 * j
            br, bi = _product(load(re, i1), load(im, i1), splat(factors[k]), splat(factors[k + 1]))
            cr, ci = _product(load(re, i2), load(im, i2), splat(factors[k + 2]), splat(factors[k + 3]))
            ar, ai, br, bi, cr, ci = _dft3(load(re, i0), load(im, i0), br, bi, cr, ci, half, sine)
            store(re, i0, ar), store(im, i0, ai), store(re, i1, br), store(im, i1, bi)
            store(re, i2, cr), store(im, i2, ci)
    else:
        c1, c2, s1, s2 = _fifths(re)
        for j in range(step):
            i0 = (begin + j) * W
            i1, i2, i3, i4 = i0 + far, i0 + 2 * far, i0 + 3 * far, i0 + 4 * far
            k = at + 8 * j
            br, bi = _product(load(re, i1), load(im, i1), splat(factors[k]), splat(factors[k + 1]))
            cr, ci = _product(load(re, i2), load(im, i2), splat(factors[k + 2]), splat(factors[k + 3]))
            dr, di = _product(load(re, i3), load(im, i3), splat(factors[k + 4]), splat(factors[k + 5]))
            er, ei = _product(load(re, i4), load(im, i4), splat(factors[k + 6]), splat(factors[k + 7]))
            ar, ai, br, bi, cr, ci, dr, di, er, ei = _dft5(
                load(re, i0), load(im, i0), br, bi, cr, ci, dr, di, er, ei, c1, c2, s1, s2
            )
            store(re, i0, ar), store(im, i0, ai), store(re, i1, br), store(im, i1, bi)
            store(re, i2, cr), store(im, i2, ci), store(re, i3, dr), store(im, i3, di)
            store(re, i4, er), store(im, i4, ei)


@native
@no_type_check
def _fifths(re):
    kind = re.dtype.type
    return (
        splat(kind(np.cos(0.4 * np.pi))), splat(kind(np.cos(0.8 * np.pi))),
        splat(kind(np.sin(0.4 * np.pi))), splat(kind(np.sin(0.8 * np.pi))),
    )  # fmt: skip


@native
@no_type_check
def _near(passes):
    """The first pass whose blocks fit a leaf, and the size of a leaf."""
    for p in range(len(passes)):
        if passes[p, 1] <= LEAF:
            return p, passes[p, 1]
    return len(passes), 1


@native
@no_type_check
def _leaf_down(re, im, begin, leaf, first, last, passes, factors, W):
    for p in range(first, last):
        radix, size, at = passes[p]
        for block in range(begin, begin + leaf, size):
            _down(re, im, block, radix, size, at, factors, W)


@native
@no_type_check
def transform(re, im, passes, factors, W):
    """The transform of M rows, in place, into permuted order. Depth first: a block is finished while it is near."""
    points = re.size // W
    near, leaf = _near(passes)
    for begin in range(0, points, leaf):
        for p in range(near):
            radix, size, at = passes[p]
            if begin % size == 0:
                _down(re, im, begin, radix, size, at, factors, W)
        _leaf_down(re, im, begin, leaf, near, len(passes), passes, factors, W)


@native
@no_type_check
def transform_back(re, im, passes, factors, W):
    """The inverse times M, in place, from permuted order: the passes upwards, real and imaginary parts swapped."""
    points = re.size // W
    near, leaf = _near(passes)
    for begin in range(0, points, leaf):
        for p in range(len(passes) - 1, near - 1, -1):
            radix, size, at = passes[p]
            for block in range(begin, begin + leaf, size):
                _up(im, re, block, radix, size, at, factors, W)
        for p in range(near - 1, -1, -1):
            radix, size, at = passes[p]
            if (begin + leaf) % size == 0:
                _up(im, re, begin + leaf - size, radix, size, at, factors, W)
