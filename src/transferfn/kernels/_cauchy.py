"""Sums over conjugate pairs of poles and their gradients, as Numba loops in float64. Imported on first use.

    S_k(phi) = sum_n (cos phi b_kn + i sin phi a_kn) q_n(phi),     q_n = 1 / (cos^2 phi |p_n|^2 - sin^2 phi + i t_n),
    t_n = -2 sin phi cos phi Re p_n

Lanes are angles side by side, padded to whole registers by the caller.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from transferfn.kernels._compile import inline, native
from transferfn.kernels._simd import load, splat, store, total, width

KEPT = 4  # sums whose accumulators stay in registers


@inline
@no_type_check
def _pair(sin, cos, size, decay):
    """The value q for a pair of poles, real and imaginary part."""
    along = cos * splat(size)
    wide, tall = (along - sin) * (along + sin), sin * cos * splat(-2 * decay)
    scale = splat(1.0) / (wide * wide + tall * tall)
    return wide * scale, splat(0.0) - tall * scale


@native
@no_type_check
def sums(a, b, size, decay, sin, cos, re, im, first, last):
    """S of a, b (D, K, N), size and decay (D, N), into re and im (D, K, F); jobs are channels."""
    _, count, modes = a.shape
    points = len(sin)
    W = width(sin)
    for d in range(first, last):
        for k0 in range(0, count, KEPT):
            k1, k2, k3 = min(k0 + 1, count - 1), min(k0 + 2, count - 1), min(k0 + 3, count - 1)
            to_re, to_im = re[d].ravel(), im[d].ravel()
            for f in range(0, points, W):
                s, c, zero = load(sin, f), load(cos, f), splat(0.0)
                r0, i0, r1, i1, r2, i2, r3, i3 = zero, zero, zero, zero, zero, zero, zero, zero
                for n in range(modes):
                    qr, qi = _pair(s, c, size[d, n], decay[d, n])
                    cr, ci, sr, si = c * qr, c * qi, s * qr, s * qi
                    al, be = splat(a[d, k0, n]), splat(b[d, k0, n])
                    r0, i0 = r0 + be * cr - al * si, i0 + be * ci + al * sr
                    al, be = splat(a[d, k1, n]), splat(b[d, k1, n])
                    r1, i1 = r1 + be * cr - al * si, i1 + be * ci + al * sr
                    al, be = splat(a[d, k2, n]), splat(b[d, k2, n])
                    r2, i2 = r2 + be * cr - al * si, i2 + be * ci + al * sr
                    al, be = splat(a[d, k3, n]), splat(b[d, k3, n])
                    r3, i3 = r3 + be * cr - al * si, i3 + be * ci + al * sr
                # From the last to the first: where there are fewer, they share a place.
                store(to_re, k3 * points + f, r3), store(to_im, k3 * points + f, i3)
                store(to_re, k2 * points + f, r2), store(to_im, k2 * points + f, i2)
                store(to_re, k1 * points + f, r1), store(to_im, k1 * points + f, i1)
                store(to_re, k0 * points + f, r0), store(to_im, k0 * points + f, i0)


@native
@no_type_check
def gradients(gre, gim, a, b, size, decay, sin, cos, ga, gb, gsize, gdecay, first, last):
    """Gradients of ``sums`` at a, b, size and decay, from those at re and im."""
    _, count, modes = a.shape
    points = len(sin)
    W = width(sin)
    of_a, of_b = np.empty(count * W), np.empty(count * W)
    for d in range(first, last):
        from_re, from_im = gre[d].ravel(), gim[d].ravel()
        for n in range(modes):
            of_a[:] = 0
            of_b[:] = 0
            along, across = splat(0.0), splat(0.0)
            for f in range(0, points, W):
                s, c = load(sin, f), load(cos, f)
                qr, qi = _pair(s, c, size[d, n], decay[d, n])
                cr, ci, sr, si = c * qr, c * qi, s * qr, s * qi
                hr, hi = splat(0.0), splat(0.0)  # sum_k conj(G_k) (cos b + i sin a)
                for k in range(count):
                    gr, gi = load(from_re, k * points + f), load(from_im, k * points + f)
                    store(of_b, k * W, load(of_b, k * W) + (gr * cr + gi * ci))
                    store(of_a, k * W, load(of_a, k * W) + (gi * sr - gr * si))
                    be, al = c * splat(b[d, k, n]), s * splat(a[d, k, n])
                    hr, hi = hr + gr * be + gi * al, hi + gr * al - gi * be
                # dL = Re(H dq), dq = -q^2 (d wide + i d tall)
                q2r, q2i = qr * qr - qi * qi, splat(2.0) * qr * qi
                mr, mi = hr * q2r - hi * q2i, hr * q2i + hi * q2r
                along = along - mr * c * c
                across = across - mi * s * c
            for k in range(count):
                ga[d, k, n], gb[d, k, n] = total(load(of_a, k * W)), total(load(of_b, k * W))
            gsize[d, n] = 2 * size[d, n] * total(along)
            gdecay[d, n] = 2 * total(across)
