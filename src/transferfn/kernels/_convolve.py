"""Convolution of signals with one kernel a channel, and its backward pass, as Numba loops. Imported on first use.

A job takes the ``W`` lanes of a tile: ``W`` channels of one batch row after the other or, of few channels, several rows
at once. Signals come as their storage with the strides of batch, time and channel, so that every layout is read as
it lies.
"""

from __future__ import annotations

from typing import no_type_check

from transferfn.kernels._compile import native
from transferfn.kernels._fft import transform, transform_back
from transferfn.kernels._simd import load, splat, store

BLOCK = 16  # samples for which a tile is read channel by channel


@native
@no_type_check
def _read(x, layout, row, rows, c0, width, length, weights, re, im, W):
    """Weighted samples of a tile into M rows of lanes, zero past ``length``."""
    batch_step, step, lane_step = layout
    base = row * batch_step + c0 * lane_step
    if lane_step == 1 and width == W:
        for t in range(length):
            value = load(x, base + t * step)
            store(re, t * W, value * splat(weights[2 * t])), store(im, t * W, value * splat(weights[2 * t + 1]))
        re[length * W :], im[length * W :] = 0, 0
        return
    re[:], im[:] = 0, 0
    for t0 in range(0, length, BLOCK):
        for i in range(rows):
            for c in range(width):
                at = base + i * batch_step + c * lane_step
                for t in range(t0, min(t0 + BLOCK, length)):
                    value = x[at + t * step]
                    re[t * W + i * width + c] = value * weights[2 * t]
                    im[t * W + i * width + c] = value * weights[2 * t + 1]


@native
@no_type_check
def _write(y, layout, row, rows, c0, width, length, weights, re, im, W):
    """The real parts of M rows of lanes, their weights taken off, as samples of a tile."""
    batch_step, step, lane_step = layout
    base = row * batch_step + c0 * lane_step
    scale = y.dtype.type(W / re.size)
    if lane_step == 1 and width == W:
        for t in range(length):
            value = load(re, t * W) * splat(scale * weights[2 * t]) + load(im, t * W) * splat(
                scale * weights[2 * t + 1]
            )
            store(y, base + t * step, value)
        return
    for t0 in range(0, length, BLOCK):
        for i in range(rows):
            for c in range(width):
                at = base + i * batch_step + c * lane_step
                for t in range(t0, min(t0 + BLOCK, length)):
                    lane = t * W + i * width + c
                    y[at + t * step] = scale * (re[lane] * weights[2 * t] + im[lane] * weights[2 * t + 1])


@native
@no_type_check
def _read_kernel(k, ahead, rows, c0, width, length, weights, re, im, W):
    """Weighted taps of a tile's channels: those ahead are imaginary, from the end backwards."""
    points = re.size // W
    causal, further = min(k.shape[1], length), min(ahead.shape[1], length - 1)
    re[:], im[:] = 0, 0
    for t0 in range(0, causal, BLOCK):
        for c in range(width):
            for t in range(t0, min(t0 + BLOCK, causal)):
                tap = re.dtype.type(k[c0 + c, t])
                for i in range(rows):
                    re[t * W + i * width + c] = tap * weights[2 * t]
                    im[t * W + i * width + c] = tap * weights[2 * t + 1]
    for t0 in range(0, further, BLOCK):
        for c in range(width):
            for s in range(t0, min(t0 + BLOCK, further)):
                tap = re.dtype.type(ahead[c0 + c, s])
                t = points - 1 - s
                for i in range(rows):
                    re[t * W + i * width + c] += tap * weights[2 * t + 1]
                    im[t * W + i * width + c] -= tap * weights[2 * t]


@native
@no_type_check
def _write_kernel(k, ahead, rows, c0, width, length, weights, re, im, W):
    """Gradients of a tile's taps, summed over the rows it holds side by side."""
    points = re.size // W
    causal, further = min(k.shape[1], length), min(ahead.shape[1], length - 1)
    scale = W / re.size
    for t0 in range(0, causal, BLOCK):
        for c in range(width):
            for t in range(t0, min(t0 + BLOCK, causal)):
                total = 0.0
                for i in range(rows):
                    lane = t * W + i * width + c
                    total += re[lane] * weights[2 * t] + im[lane] * weights[2 * t + 1]
                k[c0 + c, t] = scale * total
    for t0 in range(0, further, BLOCK):
        for c in range(width):
            for s in range(t0, min(t0 + BLOCK, further)):
                total = 0.0
                t = points - 1 - s
                for i in range(rows):
                    lane = t * W + i * width + c
                    total += re[lane] * weights[2 * t + 1] - im[lane] * weights[2 * t]
                ahead[c0 + c, s] = scale * total


@native
@no_type_check
def _multiply(xr, xi, kr, ki, W):
    """X <- x k."""
    for i in range(0, xr.size, W):
        ar, ai, br, bi = load(xr, i), load(xi, i), load(kr, i), load(ki, i)
        store(xr, i, ar * br - ai * bi), store(xi, i, ar * bi + ai * br)


@native
@no_type_check
def _multiply_conjugate(xr, xi, kr, ki, W):
    """X <- x conj(k)."""
    for i in range(0, xr.size, W):
        ar, ai, br, bi = load(xr, i), load(xi, i), load(kr, i), load(ki, i)
        store(xr, i, ar * br + ai * bi), store(xi, i, ai * br - ar * bi)


@native
@no_type_check
def _accumulate_conjugate(sr, si, xr, xi, kr, ki, W):
    """S <- s + x conj(k)."""
    for i in range(0, xr.size, W):
        ar, ai, br, bi = load(xr, i), load(xi, i), load(kr, i), load(ki, i)
        store(sr, i, load(sr, i) + ar * br + ai * bi), store(si, i, load(si, i) + ai * br - ar * bi)


@native
@no_type_check
def _tile(job, parts, batch, channels, W):
    """A job's first channel and number of channels, rows side by side, and first and last row."""
    rows = max(W // channels, 1)
    c0 = job // parts * W
    groups = (batch + rows - 1) // rows
    part = job % parts
    return (
        c0,
        min(W, channels - c0),
        rows,
        groups * part // parts * rows,
        min(groups * (part + 1) // parts * rows, batch),
    )


@native
@no_type_check
def convolve(u, u_layout, k, ahead, y, y_layout, sizes, plan, work, first, last):
    """y_t = sum_s k_s u_(t-s) + sum_s ahead_s u_(t+1+s)."""
    batch, length, channels, parts, W = sizes
    weights, factors, passes = plan
    size = work.size // 4
    re, im, kr, ki = work[:size], work[size : 2 * size], work[2 * size : 3 * size], work[3 * size :]
    for job in range(first, last):
        c0, width, rows, row, end = _tile(job, parts, batch, channels, W)
        _read_kernel(k, ahead, rows, c0, width, length, weights, kr, ki, W)
        transform(kr, ki, passes, factors, W)
        while row < end:
            side = min(rows, end - row)
            _read(u, u_layout, row, side, c0, width, length, weights, re, im, W)
            transform(re, im, passes, factors, W)
            _multiply(re, im, kr, ki, W)
            transform_back(re, im, passes, factors, W)
            _write(y, y_layout, row, side, c0, width, length, weights, re, im, W)
            row += side


@native
@no_type_check
def backward(gy, gy_layout, u, u_layout, k, ahead, gu, gu_layout, gk, ga, sizes, plan, work, first, last):
    """The adjoint of ``convolve`` in u, and of its kernels: gu, and for each part of the batch gk and ga."""
    batch, length, channels, parts, W = sizes
    weights, factors, passes = plan
    size = work.size // 8
    re, im, kr, ki = work[:size], work[size : 2 * size], work[2 * size : 3 * size], work[3 * size : 4 * size]
    ur, ui, sr, si = work[4 * size : 5 * size], work[5 * size : 6 * size], work[6 * size : 7 * size], work[7 * size :]
    for job in range(first, last):
        c0, width, rows, row, end = _tile(job, parts, batch, channels, W)
        _read_kernel(k, ahead, rows, c0, width, length, weights, kr, ki, W)
        transform(kr, ki, passes, factors, W)
        sr[:], si[:] = 0, 0
        while row < end:
            side = min(rows, end - row)
            _read(gy, gy_layout, row, side, c0, width, length, weights, re, im, W)
            transform(re, im, passes, factors, W)
            _read(u, u_layout, row, side, c0, width, length, weights, ur, ui, W)
            transform(ur, ui, passes, factors, W)
            _accumulate_conjugate(sr, si, re, im, ur, ui, W)
            _multiply_conjugate(re, im, kr, ki, W)
            transform_back(re, im, passes, factors, W)
            _write(gu, gu_layout, row, side, c0, width, length, weights, re, im, W)
            row += side
        transform_back(sr, si, passes, factors, W)
        part = job % parts
        _write_kernel(gk[part], ga[part], rows, c0, width, length, weights, sr, si, W)
