"""The last samples of the impulse response of 1/A(z)^p, and what is made of them, as Numba loops, all in float64.

With r_k = g_(P-1-k) the newest of P samples of the response of 1/A(z), a truncated numerator b~ and the true one b are
related by

    b~ = b M,    M = I + R U,    R_(m,i) = r_(m+i),    U_(i,j) = a_(i+j+1) or 0      (m, i, j = 0..n-1)

A job takes W denominators side by side for the response, and then solves for one after the other.
"""

from __future__ import annotations

from functools import partial
from typing import Any, no_type_check

import numpy as np
from numba.np.numpy_support import carray

from transferfn.kernels._compile import clear, part
from transferfn.kernels._entry import HEAD, array, entry, share
from transferfn.kernels._pieces import CHUNK, recur_piece
from transferfn.kernels._simd import load, splat, store, total
from transferfn.kernels._tiles import move

LOOSE = frozenset({"contract", "reassoc", "nsz"})  # sums may be taken in any order


@part
@no_type_check
def _newest(a, groups, order, lags, group, length, count, power, samples, work, W):
    """Rows k = 0..count-1 of ``samples``: entry length - 1 - k of the response of 1/A^power, for W denominators."""
    back, signal, windows = work, work[lags * W :], work[(lags + CHUNK + 4) * W :]
    rows = lags + CHUNK + 4
    clear(back, 0, lags, W), clear(windows, 0, power * rows, W), clear(samples, 0, count, W)
    for lane in range(min(W, groups - group)):
        for lag in range(order):
            back[lag * W + lane] = -a[(group + lane) * order + lag]
    for begin in range(0, length, CHUNK):
        size = min(CHUNK, length - begin)
        clear(signal, 0, CHUNK + 4, W)
        if begin == 0:
            for lane in range(W):
                signal[lane] = 1
        for factor in range(power):
            window = windows[factor * rows * W :]
            recur_piece(signal, window, lags, back, lags, size, W)
            for t in range(size):
                store(signal, t * W, load(window, (lags + t) * W))
            move(window, size, 0, lags, W)
        for t in range(max(length - count - begin, 0), size):
            store(samples, (length - 1 - begin - t) * W, load(signal, t * W))


@part
@no_type_check
def _add(x, factor, y):
    """X <- x + factor y, as long as the shorter one."""
    for i in range(min(x.size, y.size)):
        x[i] += factor * y[i]


@partial(part, fastmath=LOOSE)
@no_type_check
def _dot(x, y):
    total = 0.0
    for i in range(x.size):
        total += x[i] * y[i]
    return total


@part
@no_type_check
def _rows(a, r, order, stride, rows, W):
    """R U, a row after the other from the last: as -A^P, whose row m is row m + 1 times the companion matrix.

    Rows are ``stride`` apart, at least W more than the order, and zero from the order on; so is ``a``, (stride).
    """
    rows[: order * stride + W] = 0
    last = (order - 1) * stride
    for i in range(order):
        _add(rows[last : last + order], r[order - 1 + i], a[i:order])
    for at in range(last - stride, -1, -stride):
        factor = splat(-rows[at + stride])
        for j in range(0, order, W):
            store(rows, at + j, load(rows, at + stride + j + 1) + factor * load(a, j))


@part
@no_type_check
def _matrix(rows, order, stride, m, W):
    """M, with one rounding error added to its diagonal.

    A pole on a P-th root of unity, or growth beside which I is rounded away, must give a finite numerator and not a
    singular matrix.
    """
    largest = 1.0
    for i in range(order * stride):
        m[i] = rows[i]
        largest = max(largest, abs(rows[i]))
    one = 1 + np.finfo(np.float64).eps * largest
    for i in range(order):
        m[i * stride + i] += one


@part
@no_type_check
def _factorise(m, order, stride, pivots, W):
    """M P = L U in place, with ones on the diagonal of U: columns are exchanged for the largest pivot."""
    for k in range(order):
        at = k * stride
        p = k
        for j in range(k + 1, order):
            if abs(m[at + j]) > abs(m[at + p]):
                p = j
        pivots[k] = p
        if p != k:
            for i in range(0, order * stride, stride):
                m[i + k], m[i + p] = m[i + p], m[i + k]
        scale = splat(1 / m[at + k])
        for j in range(k + 1, order, W):
            store(m, at + j, load(m, at + j) * scale)
        for i in range(at + stride, order * stride, stride):
            factor = splat(-m[i + k])
            for j in range(k + 1, order, W):
                store(m, i + j, load(m, i + j) + factor * load(m, at + j))


@part
@no_type_check
def _solve(m, order, stride, pivots, x):
    """X <- x M^-1."""
    for k in range(order):
        p = pivots[k]
        x[k], x[p] = x[p], x[k]
    for k in range(order):
        _add(x[k + 1 : order], -x[k], m[k * stride + k + 1 : k * stride + order])
    for k in range(order - 1, -1, -1):
        x[k] /= m[k * stride + k]
        _add(x[:k], -x[k], m[k * stride : k * stride + k])


@part
@no_type_check
def _solve_transposed(m, order, stride, pivots, x):
    """X <- x M^-T."""
    for k in range(order):
        x[k] = (x[k] - _dot(x[:k], m[k * stride : k * stride + k])) / m[k * stride + k]
    for k in range(order - 1, -1, -1):
        x[k] -= _dot(x[k + 1 : order], m[k * stride + k + 1 : k * stride + order])
    for k in range(order - 1, -1, -1):
        p = pivots[k]
        x[k], x[p] = x[p], x[k]


def tail_entry() -> Any:
    """The last ``count`` samples of a response of ``length``, oldest first, to (G, count)."""

    @no_type_check
    def run(block):
        p = carray(block, (64,))[HEAD:]
        first, last, thread = share(carray(block, (HEAD,)))
        a, out = array(p[0], 1, np.float64), array(p[1], 1, np.float64)
        size, groups, order, lags, length, count, power, W = p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10]
        work = array(p[2] + thread * size * 8, size, np.float64)
        samples, rest = work, work[count * W :]
        for job in range(first, last):
            _newest(a, groups, order, lags, job * W, length, count, power, samples, rest, W)
            for lane in range(min(W, groups - job * W)):
                for k in range(count):
                    out[(job * W + lane + 1) * count - 1 - k] = samples[k * W + lane]

    return entry(run)


@part
@no_type_check
def _take_lane(samples, lane, count, to, W):
    for k in range(count):
        to[k] = samples[k * W + lane]


@part
@no_type_check
def _take_denominator(a, group, order, to):
    """Coefficients of one denominator, zero from the order on."""
    to[:] = 0
    for i in range(order):
        to[i] = a[group * order + i]


def untruncate_entry() -> Any:
    """B = b~ M^-1 and h0 = h0~ + sum_i b_i r_(i-1), and the largest |r| of each denominator."""

    @no_type_check
    def run(block):
        p = carray(block, (64,))[HEAD:]
        first, last, thread = share(carray(block, (HEAD,)))
        a, h0_tilde = array(p[1], 1, np.float64), array(p[2], 1, np.float64)
        h0, growth = array(p[4], 1, np.float64), array(p[5], 1, np.float64)
        size, groups, channels, order, lags, length, W = p[7], p[8], p[9], p[10], p[11], p[12], p[13]
        work = array(p[6] + thread * size * 8, size, np.float64)
        count, members, stride = 2 * order - 1, channels // groups, order + W
        square = order * stride + W
        m, rows, own = work, work[square:], work[2 * square : 2 * square + stride]
        r, samples = work[2 * square + stride :], work[2 * square + stride + count :]
        rest, pivots = samples[count * W :], array(p[6] + (thread * size + size - order) * 8, order, np.int64)
        for job in range(first, last):
            _newest(a, groups, order, lags, job * W, length, count, 1, samples, rest, W)
            for lane in range(min(W, groups - job * W)):
                group = job * W + lane
                _take_lane(samples, lane, count, r, W)
                largest = 0.0
                for k in range(count):
                    largest = max(largest, abs(r[k])) if r[k] == r[k] else np.inf
                growth[group] = largest
                _take_denominator(a, group, order, own)
                _rows(own, r, order, stride, rows, W)
                _matrix(rows, order, stride, m, W)
                _factorise(m, order, stride, pivots, W)
                for c in range(group * members, (group + 1) * members):
                    x = array(p[3] + c * order * 8, order, np.float64)
                    given = array(p[0] + c * order * 8, order, np.float64)
                    for i in range(order):
                        x[i] = given[i]
                    _solve(m, order, stride, pivots, x)
                    constant = h0_tilde[c]
                    for i in range(order):
                        constant += x[i] * r[i]
                    h0[c] = constant

    return entry(run)


@part
@no_type_check
def _through_rows(g, rows, a, r, order, stride, gr, ga, W):
    """Gradients at R U to those at r and a: the adjoint of ``_rows``; ``g`` is lost."""
    last = (order - 1) * stride
    for at in range(0, last, stride):
        of_row = splat(rows[at + stride])
        back = splat(0.0)
        for j in range(0, order, W):
            value = load(g, at + j)
            store(ga, j, load(ga, j) - of_row * value)
            store(g, at + stride + j + 1, load(g, at + stride + j + 1) + value)
            back = back + value * load(a, j)
        g[at + stride] -= total(back)
    for i in range(order):
        gr[order - 1 + i] += _dot(g[last : last + order - i], a[i:order])
        _add(ga[i:order], r[order - 1 + i], g[last : last + order])


def untruncate_gradients_entry() -> Any:
    """From gradients at b and h0 to those at b~ and a."""

    @no_type_check
    def run(block):
        p = carray(block, (64,))[HEAD:]
        first, last, thread = share(carray(block, (HEAD,)))
        gb, gh, b = array(p[0], 1, np.float64), array(p[1], 1, np.float64), array(p[2], 1, np.float64)
        a, all_ga = array(p[3], 1, np.float64), array(p[5], 1, np.float64)
        size, groups, channels, order, lags, length, W = p[7], p[8], p[9], p[10], p[11], p[12], p[13]
        work = array(p[6] + thread * size * 8, size, np.float64)
        count, members, stride = 2 * order - 1, channels // groups, order + W
        square = order * stride + W
        m, rows, gm = work, work[square:], work[2 * square :]
        own, ga = work[3 * square : 3 * square + stride], work[3 * square + stride : 3 * square + 2 * stride]
        rest = work[3 * square + 2 * stride :]
        r, gr, again, rest = rest, rest[count:], rest[2 * count :], rest[3 * count + order :]
        samples, twice = rest, rest[count * W :]
        rest, pivots = twice[(count + order) * W :], array(p[6] + (thread * size + size - order) * 8, order, np.int64)
        for job in range(first, last):
            _newest(a, groups, order, lags, job * W, length, count, 1, samples, rest, W)
            _newest(a, groups, order, lags, job * W, length, count + order, 2, twice, rest, W)
            for lane in range(min(W, groups - job * W)):
                group = job * W + lane
                _take_lane(samples, lane, count, r, W)
                _take_lane(twice, lane, count + order, again, W)
                _take_denominator(a, group, order, own)
                _rows(own, r, order, stride, rows, W)
                _matrix(rows, order, stride, m, W)
                _factorise(m, order, stride, pivots, W)
                gm[:square] = 0
                gr[:count] = 0
                ga[:stride] = 0
                for c in range(group * members, (group + 1) * members):
                    x = array(p[4] + c * order * 8, order, np.float64)
                    for i in range(order):
                        x[i] = gb[c * order + i] + gh[c] * r[i]
                        gr[i] += gh[c] * b[c * order + i]
                    _solve_transposed(m, order, stride, pivots, x)
                    for i in range(order):
                        _add(gm[i * stride : i * stride + order], -b[c * order + i], x)
                _through_rows(gm, rows, own, r, order, stride, gr, ga, W)
                for i in range(order):
                    all_ga[group * order + i] = ga[i] - _dot(gr[:count], again[i + 1 : i + 1 + count])

    return entry(run)
