"""Convolution by FFTs over SIMD lanes, as Numba loops. Imported on first use.

Lanes are channels side by side (and batch rows, where there are few channels), so that no element of a transform ever
moves between lanes. An element is a row of the work space: a register of real and one of imaginary parts.

Two real signals of L <= M samples are multiplied as polynomials modulo z^M - i: the samples are weighted by w^j, with
w^M = i, and transformed by a complex FFT of M points. The product of degree 2 M - 2 comes back with its first M
coefficients as real and the others as imaginary parts, so that nothing is padded to twice the length. A kernel that
looks ahead has coefficients at negative powers, z^-s = -i z^(M-s), which land in the imaginary part, too.

The forward transform decimates in frequency and the inverse in time, so that spectra stay in permuted order and nothing
is ever reordered. M is a product of 2, 3, 5 and 7.

The M elements are a matrix of ``groups`` times ``near``, element g * near + j in row g * pitch + j: an odd pitch keeps
the elements of a column out of each other's way in the cache. The far passes mix the groups and run over a few columns
at once, the near passes over one group at a time: both stay in the nearest cache, and so does what comes before and
after them there, so that a convolution goes through its work space three times in all. It pays to call
``far_down``, ``near_down``, ``near_up`` and ``far_up`` in that manner; the whole transforms are for where it does not.
"""

from __future__ import annotations

from functools import cache
from math import prod
from typing import Any, no_type_check

import numpy as np

from transferfn.kernels._compile import inline, part
from transferfn.kernels._entry import array, invoke, subroutine
from transferfn.kernels._simd import load, splat, spread, store, width

NEAREST = 384  # rows that fit the nearest cache
RUN = 8  # columns at once, at least: short runs through memory cost more than a cache that is less near


HEADER = 8  # entries of a table before its passes


def tables(points: int, dtype: type) -> tuple[np.ndarray, np.ndarray, tuple[int, int, int, int, int]]:
    """Weights, a table that the transforms go by, and the layout.

    The layout is the number of groups, of elements near in each, of rows from one group to the next, of columns that
    fit the nearest cache, and of far passes. The table, of 64-bit integers, is the address of the passes' code, their
    number, the layout, a free entry, the radix, size and offset of each, and their twiddle factors.

    Args:
        points: M.
        dtype: float32 or float64.
    """
    j = np.arange(points)
    weights = np.exp(0.5j * np.pi * j / points)
    radices = _radices(points)
    far = next(p for p in range(len(radices) + 1) if prod(radices[p:]) <= NEAREST)
    near = prod(radices[far:])
    factors, passes, offset, size = [], [], 0, points
    for radix in radices:
        powers = np.exp(-2j * np.pi * np.outer(np.arange(size // radix), np.arange(1, radix)) / size)
        passes += [radix, size, offset]
        factors.append(powers)
        offset += 2 * powers.size
        size //= radix
    flat = _interleaved(np.concatenate([p.ravel() for p in factors]) if factors else np.empty(0, complex), dtype)
    groups = points // near
    columns = min(max(NEAREST // groups, RUN), near) if far else near
    layout = groups, near, near + 1 - near % 2 if far else near, columns, far
    head = (_address(dtype, max(radices, default=1) > 4 or None), len(radices), *layout, 0, *passes)
    bytes_of_factors = flat.tobytes() + bytes(-flat.nbytes % 8)
    table = np.concatenate([np.array(head, np.int64), np.frombuffer(bytes_of_factors, np.int64)])
    return _interleaved(weights, dtype), table, layout


def _radices(points: int) -> list[int]:
    """Passes with a single radix 2 or 4 first: the last one needs no twiddle factors, best in the largest."""
    odd = []
    for radix in (3, 5, 7):
        while points % radix == 0:
            odd.append(radix)
            points //= radix
    twos = points.bit_length() - 1
    return odd + [2] * (twos % 2) + [4] * (twos // 2)


def _interleaved(z: np.ndarray, dtype: type) -> np.ndarray:
    return np.ascontiguousarray(z, np.complex128).view(np.float64).astype(dtype)


@inline
@no_type_check
def _get(z, row):
    i = 2 * row * width(z)
    return load(z, i), load(z, i + width(z))


@inline
@no_type_check
def _put(z, row, re, im):
    i = 2 * row * width(z)
    store(z, i, re), store(z, i + width(z), im)


@inline
@no_type_check
def _turned(z, row):
    """Imaginary and real part, of which a transform is the inverse transform of the real and the imaginary part."""
    i = 2 * row * width(z)
    return load(z, i + width(z)), load(z, i)


@inline
@no_type_check
def _put_turned(z, row, im, re):
    i = 2 * row * width(z)
    store(z, i, re), store(z, i + width(z), im)


@inline
@no_type_check
def _times(x, factors, k):
    """The product with a twiddle factor."""
    xr, xi = x
    wr, wi = spread(factors, k), spread(factors, k + 1)
    return xr * wr - xi * wi, xr * wi + xi * wr


@inline
@no_type_check
def _dft2(a, b):
    return (a[0] + b[0], a[1] + b[1]), (a[0] - b[0], a[1] - b[1])


@inline
@no_type_check
def _dft3(a, b, c, half, sine):
    (ar, ai), (br, bi), (cr, ci) = a, b, c
    tr, ti = br + cr, bi + ci
    mr, mi = ar - half * tr, ai - half * ti
    sr, si = sine * (br - cr), sine * (bi - ci)
    return (ar + tr, ai + ti), (mr + si, mi - sr), (mr - si, mi + sr)


@inline
@no_type_check
def _dft4(a, b, c, d):
    (ar, ai), (br, bi), (cr, ci), (dr, di) = a, b, c, d
    er, ei, fr, fi = ar + cr, ai + ci, br + dr, bi + di
    gr, gi, hr, hi = ar - cr, ai - ci, br - dr, bi - di
    return (er + fr, ei + fi), (gr + hi, gi - hr), (er - fr, ei - fi), (gr - hi, gi + hr)


@inline
@no_type_check
def _dft5(a, b, c, d, e, c1, c2, s1, s2):
    (ar, ai), (br, bi), (cr, ci), (dr, di), (er, ei) = a, b, c, d, e
    pr, pi, qr, qi = br + er, bi + ei, cr + dr, ci + di
    mr, mi, nr, ni = br - er, bi - ei, cr - dr, ci - di
    fr, fi = ar + c1 * pr + c2 * qr, ai + c1 * pi + c2 * qi
    gr, gi = ar + c2 * pr + c1 * qr, ai + c2 * pi + c1 * qi
    hr, hi = s1 * mr + s2 * nr, s1 * mi + s2 * ni
    kr, ki = s2 * mr - s1 * nr, s2 * mi - s1 * ni
    return (ar + pr + qr, ai + pi + qi), (fr + hi, fi - hr), (gr + ki, gi - kr), (gr - ki, gi + kr), (fr - hi, fi + hr)


@inline
@no_type_check
def _dft7(a, b, c, d, e, f, g, c1, c2, c3, s1, s2, s3):
    (ar, ai), (br, bi), (cr, ci), (dr, di), (er, ei), (fr, fi), (gr, gi) = a, b, c, d, e, f, g
    pr, pi, qr, qi, rr, ri = br + gr, bi + gi, cr + fr, ci + fi, dr + er, di + ei
    lr, li, mr, mi, nr, ni = br - gr, bi - gi, cr - fr, ci - fi, dr - er, di - ei
    xr, xi = ar + c1 * pr + c2 * qr + c3 * rr, ai + c1 * pi + c2 * qi + c3 * ri
    yr, yi = ar + c2 * pr + c3 * qr + c1 * rr, ai + c2 * pi + c3 * qi + c1 * ri
    zr, zi = ar + c3 * pr + c1 * qr + c2 * rr, ai + c3 * pi + c1 * qi + c2 * ri
    ur, ui = s1 * lr + s2 * mr + s3 * nr, s1 * li + s2 * mi + s3 * ni
    vr, vi = s2 * lr - s3 * mr - s1 * nr, s2 * li - s3 * mi - s1 * ni
    wr, wi = s3 * lr - s1 * mr + s2 * nr, s3 * li - s1 * mi + s2 * ni
    return (
        (ar + pr + qr + rr, ai + pi + qi + ri),
        (xr + ui, xi - ur),
        (yr + vi, yi - vr),
        (zr + wi, zi - wr),
        (zr - wi, zi + wr),
        (yr - vi, yi + vr),
        (xr - ui, xi + ur),
    )


@inline
@no_type_check
def _thirds(z):
    kind = z.dtype.type
    return splat(kind(0.5)), splat(kind(np.sqrt(0.75)))


@inline
@no_type_check
def _fifths(z):
    kind = z.dtype.type
    return (
        splat(kind(np.cos(0.4 * np.pi))), splat(kind(np.cos(0.8 * np.pi))),
        splat(kind(np.sin(0.4 * np.pi))), splat(kind(np.sin(0.8 * np.pi))),
    )  # fmt: skip


@inline
@no_type_check
def _sevenths(z):
    kind = z.dtype.type
    return (
        splat(kind(np.cos(2 * np.pi / 7))), splat(kind(np.cos(4 * np.pi / 7))), splat(kind(np.cos(6 * np.pi / 7))),
        splat(kind(np.sin(2 * np.pi / 7))), splat(kind(np.sin(4 * np.pi / 7))), splat(kind(np.sin(6 * np.pi / 7))),
    )  # fmt: skip


@part
@no_type_check
def _down_further(z, begin, count, step, radix, factors, at):
    """Radices 5 and 7 of ``_down``."""
    if radix == 5:
        c1, c2, s1, s2 = _fifths(z)
        for j in range(count):
            i0 = begin + j
            i1, i2, i3, i4 = i0 + step, i0 + 2 * step, i0 + 3 * step, i0 + 4 * step
            k = at + 8 * j
            a, b, c, d, e = _dft5(_get(z, i0), _get(z, i1), _get(z, i2), _get(z, i3), _get(z, i4), c1, c2, s1, s2)
            _put(z, i0, *a), _put(z, i1, *_times(b, factors, k)), _put(z, i2, *_times(c, factors, k + 2))
            _put(z, i3, *_times(d, factors, k + 4)), _put(z, i4, *_times(e, factors, k + 6))
    else:
        c1, c2, c3, s1, s2, s3 = _sevenths(z)
        for j in range(count):
            i0 = begin + j
            i1, i2, i3 = i0 + step, i0 + 2 * step, i0 + 3 * step
            i4, i5, i6 = i3 + step, i3 + 2 * step, i3 + 3 * step
            k = at + 12 * j
            a, b, c, d, e, f, g = _dft7(
                _get(z, i0), _get(z, i1), _get(z, i2), _get(z, i3), _get(z, i4), _get(z, i5), _get(z, i6),
                c1, c2, c3, s1, s2, s3,
            )  # fmt: skip
            _put(z, i0, *a), _put(z, i1, *_times(b, factors, k)), _put(z, i2, *_times(c, factors, k + 2))
            _put(z, i3, *_times(d, factors, k + 4)), _put(z, i4, *_times(e, factors, k + 6))
            _put(z, i5, *_times(f, factors, k + 8)), _put(z, i6, *_times(g, factors, k + 10))


@part
@no_type_check
def _down(z, row, blocks, hop, count, step, radix, factors, at, further):
    """Decimate in frequency, small transforms of rows ``step`` apart and then twiddle factors.

    The rows are ``count`` consecutive ones, whose factors begin at ``at``, in each of ``blocks``, ``hop`` rows apart.
    Radices 5 and 7 are compiled unless ``further`` is None: few lengths have them, and they take as long as all others.
    """
    for block in range(blocks):
        begin = row + block * hop
        if radix == 4 and step == 1:
            a, b, c, d = _dft4(_get(z, begin), _get(z, begin + 1), _get(z, begin + 2), _get(z, begin + 3))
            _put(z, begin, *a), _put(z, begin + 1, *b), _put(z, begin + 2, *c), _put(z, begin + 3, *d)
        elif radix == 4:
            for j in range(count):
                i0 = begin + j
                i1, i2, i3 = i0 + step, i0 + 2 * step, i0 + 3 * step
                k = at + 6 * j
                a, b, c, d = _dft4(_get(z, i0), _get(z, i1), _get(z, i2), _get(z, i3))
                _put(z, i0, *a), _put(z, i1, *_times(b, factors, k))
                _put(z, i2, *_times(c, factors, k + 2)), _put(z, i3, *_times(d, factors, k + 4))
        elif radix == 2:
            for j in range(count):
                i0, i1 = begin + j, begin + j + step
                a, b = _dft2(_get(z, i0), _get(z, i1))
                _put(z, i0, *a), _put(z, i1, *_times(b, factors, at + 2 * j))
        elif radix == 3:
            half, sine = _thirds(z)
            for j in range(count):
                i0 = begin + j
                i1, i2 = i0 + step, i0 + 2 * step
                k = at + 4 * j
                a, b, c = _dft3(_get(z, i0), _get(z, i1), _get(z, i2), half, sine)
                _put(z, i0, *a), _put(z, i1, *_times(b, factors, k)), _put(z, i2, *_times(c, factors, k + 2))
        elif further is not None:
            _down_further(z, begin, count, step, radix, factors, at)


@part
@no_type_check
def _up_further(z, begin, count, step, radix, factors, at):
    """Radices 5 and 7 of ``_up``."""
    if radix == 5:
        c1, c2, s1, s2 = _fifths(z)
        for j in range(count):
            i0 = begin + j
            i1, i2, i3, i4 = i0 + step, i0 + 2 * step, i0 + 3 * step, i0 + 4 * step
            k = at + 8 * j
            a, b, c, d, e = _dft5(
                _turned(z, i0), _times(_turned(z, i1), factors, k), _times(_turned(z, i2), factors, k + 2),
                _times(_turned(z, i3), factors, k + 4), _times(_turned(z, i4), factors, k + 6), c1, c2, s1, s2,
            )  # fmt: skip
            _put_turned(z, i0, *a), _put_turned(z, i1, *b), _put_turned(z, i2, *c)
            _put_turned(z, i3, *d), _put_turned(z, i4, *e)
    else:
        c1, c2, c3, s1, s2, s3 = _sevenths(z)
        for j in range(count):
            i0 = begin + j
            i1, i2, i3 = i0 + step, i0 + 2 * step, i0 + 3 * step
            i4, i5, i6 = i3 + step, i3 + 2 * step, i3 + 3 * step
            k = at + 12 * j
            a, b, c, d, e, f, g = _dft7(
                _turned(z, i0), _times(_turned(z, i1), factors, k), _times(_turned(z, i2), factors, k + 2),
                _times(_turned(z, i3), factors, k + 4), _times(_turned(z, i4), factors, k + 6),
                _times(_turned(z, i5), factors, k + 8), _times(_turned(z, i6), factors, k + 10),
                c1, c2, c3, s1, s2, s3,
            )  # fmt: skip
            _put_turned(z, i0, *a), _put_turned(z, i1, *b), _put_turned(z, i2, *c), _put_turned(z, i3, *d)
            _put_turned(z, i4, *e), _put_turned(z, i5, *f), _put_turned(z, i6, *g)


@part
@no_type_check
def _up(z, row, blocks, hop, count, step, radix, factors, at, further):
    """Decimate in time, inversely: twiddle factors and then small transforms, of the rows of ``_down``."""
    for block in range(blocks):
        begin = row + block * hop
        if radix == 4 and step == 1:
            a, b, c, d = _dft4(_turned(z, begin), _turned(z, begin + 1), _turned(z, begin + 2), _turned(z, begin + 3))
            _put_turned(z, begin, *a), _put_turned(z, begin + 1, *b)
            _put_turned(z, begin + 2, *c), _put_turned(z, begin + 3, *d)
        elif radix == 4:
            for j in range(count):
                i0 = begin + j
                i1, i2, i3 = i0 + step, i0 + 2 * step, i0 + 3 * step
                k = at + 6 * j
                a, b, c, d = _dft4(
                    _turned(z, i0), _times(_turned(z, i1), factors, k),
                    _times(_turned(z, i2), factors, k + 2), _times(_turned(z, i3), factors, k + 4),
                )  # fmt: skip
                _put_turned(z, i0, *a), _put_turned(z, i1, *b), _put_turned(z, i2, *c), _put_turned(z, i3, *d)
        elif radix == 2:
            for j in range(count):
                i0, i1 = begin + j, begin + j + step
                a, b = _dft2(_turned(z, i0), _times(_turned(z, i1), factors, at + 2 * j))
                _put_turned(z, i0, *a), _put_turned(z, i1, *b)
        elif radix == 3:
            half, sine = _thirds(z)
            for j in range(count):
                i0 = begin + j
                i1, i2 = i0 + step, i0 + 2 * step
                k = at + 4 * j
                a, b, c = _dft3(
                    _turned(z, i0), _times(_turned(z, i1), factors, k), _times(_turned(z, i2), factors, k + 2),
                    half, sine,
                )  # fmt: skip
                _put_turned(z, i0, *a), _put_turned(z, i1, *b), _put_turned(z, i2, *c)
        elif further is not None:
            _up_further(z, begin, count, step, radix, factors, at)


@part
@no_type_check
def _far_down(z, column, columns, factors, passes, layout, further):
    """The first passes of a transform, on a few columns of all groups."""
    groups, near, pitch, _, far = layout
    size = groups
    for p in range(far):
        radix, _, at = passes[p]
        step = size // radix
        for q in range(step):
            k = at + 2 * (radix - 1) * (q * near + column)
            _down(
                z, q * pitch + column, groups // size, size * pitch, columns, step * pitch, radix, factors, k, further
            )
        size = step


@part
@no_type_check
def _near_down(z, group, factors, passes, layout, further):
    """The last passes of a transform, on one group, into permuted order."""
    _, near, pitch, _, far = layout
    for p in range(far, len(passes)):
        radix, size, at = passes[p]
        step = size // radix
        _down(z, group * pitch, near // size, size, step, step, radix, factors, at, further)


@part
@no_type_check
def _near_up(z, group, factors, passes, layout, further):
    """The first passes of an inverse transform, times M, on one group."""
    _, near, pitch, _, far = layout
    for p in range(len(passes) - 1, far - 1, -1):
        radix, size, at = passes[p]
        step = size // radix
        _up(z, group * pitch, near // size, size, step, step, radix, factors, at, further)


@part
@no_type_check
def _far_up(z, column, columns, factors, passes, layout, further):
    """The last passes of an inverse transform, on a few columns of all groups."""
    groups, near, pitch, _, far = layout
    step = 1
    for p in range(far - 1, -1, -1):
        radix, _, at = passes[p]
        size = step * radix
        for q in range(step):
            k = at + 2 * (radix - 1) * (q * near + column)
            _up(z, q * pitch + column, groups // size, size * pitch, columns, step * pitch, radix, factors, k, further)
        step = size


@no_type_check
def _passes_of(kind, further):
    """All passes of a transform for one type: compiled once, and called by all loops that transform."""

    @no_type_check
    def run(z_at, which, first, count, table_at):
        head = array(table_at, HEADER, np.int64)
        groups, near, columns = head[2], head[3], head[5]
        layout = groups, near, head[4], columns, head[6]
        passes = array(table_at + 8 * HEADER, 3 * head[1], np.int64).reshape(head[1], 3)
        z, factors = array(z_at, 1, kind), array(table_at + 8 * (HEADER + 3 * head[1]), 1, kind)
        if which in (FAR_DOWN, DOWN):
            many, end = (columns, near) if which == DOWN else (count, first + count)
            for column in range(first, end, many):
                _far_down(z, column, min(many, end - column), factors, passes, layout, further)
        if which in (NEAR_DOWN, DOWN):
            for group in range(first, groups if which == DOWN else first + 1):
                _near_down(z, group, factors, passes, layout, further)
        if which in (NEAR_UP, UP):
            for group in range(first, groups if which == UP else first + 1):
                _near_up(z, group, factors, passes, layout, further)
        if which in (FAR_UP, UP):
            many, end = (columns, near) if which == UP else (count, first + count)
            for column in range(first, end, many):
                _far_up(z, column, min(many, end - column), factors, passes, layout, further)

    return run


FAR_DOWN, NEAR_DOWN, NEAR_UP, FAR_UP, DOWN, UP = range(6)


@cache
def _address(dtype: type, further: bool | None = None) -> int:
    return _subroutine(dtype, further).address


@cache
def _subroutine(dtype: type, further: bool | None) -> Any:
    return subroutine(_passes_of(dtype, further))


@inline
@no_type_check
def far_down(z, column, columns, table):
    """The first passes of a transform, on a few columns of all groups."""
    invoke(table, z, FAR_DOWN, column, columns)


@inline
@no_type_check
def near_down(z, group, table):
    """The last passes of a transform, on one group, into permuted order."""
    invoke(table, z, NEAR_DOWN, group, 1)


@inline
@no_type_check
def near_up(z, group, table):
    """The first passes of an inverse transform, times M, on one group."""
    invoke(table, z, NEAR_UP, group, 1)


@inline
@no_type_check
def far_up(z, column, columns, table):
    """The last passes of an inverse transform, on a few columns of all groups."""
    invoke(table, z, FAR_UP, column, columns)


@inline
@no_type_check
def transform(z, table):
    """The transform, in place, into permuted order."""
    invoke(table, z, DOWN, 0, 0)


@inline
@no_type_check
def transform_back(z, table):
    """The inverse times M, in place, from permuted order."""
    invoke(table, z, UP, 0, 0)
