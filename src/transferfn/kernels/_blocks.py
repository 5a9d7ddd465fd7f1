"""Filtering block by block, a state handed over from one to the next, as Numba loops. Imported on first use.

A block of N samples, with w_(-n), ..., w_(-1) the samples of u/A before it, is filtered by transforms:

    c_t = -sum_(i>t) a_i w_(t-i),  d_t = sum_(i>t) b_i w_(t-i)  (t < n),     w = g * (u + c),     y = h * (u + c) + d

with g and h the first N samples of the responses of 1/A and of (b_0 + b_1 z^-1 + ...)/A. Both sums are products of two
polynomials of n coefficients, from degree n - 1 on, so that transforms of n points hold them: the first is the last of
the real parts, the others are the first imaginary ones, see :mod:`transferfn.kernels._fft`.

Backwards in time the same is done with cotangents. Spectra of the gradients of g, h, a and b are summed over blocks and
rows, and transformed back once.
"""

from __future__ import annotations

from typing import no_type_check

from transferfn.kernels._compile import clear, inline, native, part
from transferfn.kernels._convolve import (
    BLOCK,
    far_read,
    far_write,
    put,
    read_kernel,
    read_samples,
    real_part,
    tile_of,
    write_kernel,
)
from transferfn.kernels._fft import far_down, far_up, near_down, near_up, transform, transform_back
from transferfn.kernels._simd import load, splat, spread, store, width
from transferfn.kernels._tiles import read, read_lags, write, write_lags

# Rows of lanes that follow each other in time: of states the oldest sample comes first.


@inline
@no_type_check
def _row(t, layout):
    return t // layout[1] * layout[2] + t % layout[1]


@part
@no_type_check
def _far_put_rows(x, first, last, begin, z, plan):
    """Rows first..last of ``x`` as the samples begin, begin + 1, ..., weighted, and their far passes."""
    weights, table, layout = plan
    _, near, _, columns, _ = layout
    W = width(z)
    clear(z, 0, z.size // W, W)
    for j in range(first, last):
        t = begin + j - first
        put(z, 2 * W * _row(t, layout), load(x, j * W), weights, t)
    for column in range(0, near, columns):
        far_down(z, column, min(columns, near - column), table)


@part
@no_type_check
def _put_rows(x, first, last, begin, z, plan):
    """The same, and the whole transform."""
    _, table, layout = plan
    _far_put_rows(x, first, last, begin, z, plan)
    for group in range(layout[0]):
        near_down(z, group, table)


@part
@no_type_check
def _put_sums(x, count, z, plan):
    """The adjoint of ``_take_sums``, but for its sign and scale, and the transform."""
    weights, table, layout = plan
    W = width(z)
    points = layout[0] * layout[1]
    clear(z, 0, z.size // W, W)
    zero = splat(z.dtype.type(0))
    put(z, 2 * W * _row(points - 1, layout), load(x, 0), weights, points - 1)
    for t in range(1, count):
        at, value = 2 * W * _row(t - 1, layout), load(x, t * W)
        re, im = zero - value * spread(weights, 2 * t - 1), value * spread(weights, 2 * t - 2)
        store(z, at, load(z, at) + re), store(z, at + W, load(z, at + W) + im)
    transform(z, table)


@part
@no_type_check
def _take_sums(p, k, q, x, count, sign, plan):
    """Transform p k back in q, and put what is due at the first samples of a block into rows of ``x``."""
    weights, table, layout = plan
    W = width(q)
    points = layout[0] * layout[1]
    _product(p, k, q)
    transform_back(q, table)
    scale = splat(q.dtype.type(sign / points))
    for t in range(count):
        if t == 0:
            store(x, 0, scale * real_part(q, 2 * W * _row(points - 1, layout), weights, points - 1))
        else:
            at = 2 * W * _row(t - 1, layout)
            re, im = spread(weights, 2 * t - 2), spread(weights, 2 * t - 1)
            store(x, t * W, scale * (load(q, at + W) * re - load(q, at) * im))


@inline
@no_type_check
def _product(x, k, y):
    """Y <- x k."""
    W = width(x)
    for i in range(0, x.size, 2 * W):
        ar, ai, br, bi = load(x, i), load(x, i + W), load(k, i), load(k, i + W)
        store(y, i, ar * br - ai * bi), store(y, i + W, ar * bi + ai * br)


@part
@no_type_check
def _far_read_driven(u, strides, tile, size, c, driven, z, plan, block):
    """The samples of a block, to the first of which c is added, and the far passes of their transform."""
    weights, table, layout = plan
    groups, near, pitch, columns, _ = layout
    W = width(z)
    for column in range(0, near, columns):
        some = min(columns, near - column)
        read_samples(u, strides, tile, size, column, some, weights, z, layout, block)
        for g in range(groups):
            t0 = g * near + column
            for t in range(t0, min(t0 + some, driven)):
                at, value = 2 * W * (g * pitch + t - g * near), load(c, t * W)
                store(z, at, load(z, at) + value * spread(weights, 2 * t))
                store(z, at + W, load(z, at + W) + value * spread(weights, 2 * t + 1))
        far_down(z, column, some, table)


@part
@no_type_check
def _filter_groups(z, v, h, g, plan):
    """The near passes of z, those of z g back in v, and those of z h back in z."""
    _, table, layout = plan
    groups, near, pitch, _, _ = layout
    W = width(z)
    for group in range(groups):
        near_down(z, group, table)
        for i in range(2 * W * group * pitch, 2 * W * (group * pitch + near), 2 * W):
            ar, ai = load(z, i), load(z, i + W)
            gr, gi, hr, hi = load(g, i), load(g, i + W), load(h, i), load(h, i + W)
            store(v, i, ar * gr - ai * gi), store(v, i + W, ar * gi + ai * gr)
            store(z, i, ar * hr - ai * hi), store(z, i + W, ar * hi + ai * hr)
        near_up(z, group, table)
        near_up(v, group, table)


@part
@no_type_check
def _correlate_groups(z, x, v, h, g, sh, sg, plan):
    """S_h <- s_h + z conj(x), s_g <- s_g + v conj(x), and z <- z conj(h) + v conj(g), near passes on both sides."""
    _, table, layout = plan
    groups, near, pitch, _, _ = layout
    W = width(z)
    for group in range(groups):
        near_down(z, group, table)
        near_down(x, group, table)
        near_down(v, group, table)
        _correlate(z, x, v, h, g, sh, sg, 2 * W * group * pitch, 2 * W * (group * pitch + near))
        near_up(z, group, table)


@part
@no_type_check
def _correlate(z, x, v, h, g, sh, sg, begin, end):
    """S_h <- s_h + z conj(x), s_g <- s_g + v conj(x), and z <- z conj(h) + v conj(g), of elements begin..end."""
    W = width(z)
    for i in range(begin, end, 2 * W):
        zr, zi, xr, xi, vr, vi = load(z, i), load(z, i + W), load(x, i), load(x, i + W), load(v, i), load(v, i + W)
        gr, gi, hr, hi = load(g, i), load(g, i + W), load(h, i), load(h, i + W)
        store(sh, i, load(sh, i) + zr * xr + zi * xi), store(sh, i + W, load(sh, i + W) + zi * xr - zr * xi)
        store(sg, i, load(sg, i) + vr * xr + vi * xi), store(sg, i + W, load(sg, i + W) + vi * xr - vr * xi)
        store(z, i, zr * hr + zi * hi + vr * gr + vi * gi)
        store(z, i + W, zi * hr - zr * hi + vi * gr - vr * gi)


@part
@no_type_check
def _hand_over(v, past, size, order, plan):
    """The last samples of w, whose near passes are done, take the place of those before the block."""
    weights, table, layout = plan
    groups, near, _, columns, _ = layout
    W = width(v)
    scale = splat(v.dtype.type(1 / (groups * near)))
    for column in range(0, near, columns):
        far_up(v, column, min(columns, near - column), table)
    fresh = min(size, order)
    for j in range(order - fresh):
        store(past, j * W, load(past, (j + fresh) * W))
    for j in range(fresh):
        t = size - fresh + j
        store(past, (order - fresh + j) * W, scale * real_part(v, 2 * W * _row(t, layout), weights, t))


@part
@no_type_check
def _add_rows(y, strides, tile, c, count, block):
    """Add rows of ``c`` to the first samples."""
    W = width(y)
    for t0 in range(0, count, BLOCK):
        some = min(BLOCK, count - t0)
        read(y, (*strides, 0), tile, t0, some, block, 0, W)
        for j in range(some):
            store(block, j * W, load(block, j * W) + load(c, (t0 + j) * W))
        write(y, (*strides, 0), tile, t0, some, block, 0, W)


@part
@no_type_check
def _read_driven(x, strides, tile, c, count, order, sign):
    """The first samples, times a sign, into rows of ``c``."""
    W = width(c)
    clear(c, 0, order, W)  # lanes of no channel are not read
    read(x, (*strides, 0), tile, 0, count, c, 0, W)
    factor = splat(c.dtype.type(sign))
    for i in range(0, count * W, W):
        store(c, i, factor * load(c, i))


@part
@no_type_check
def _hand_back(q, gpast, room, driven, order, begin, plan):
    """Gradients of the state after a block become those of the state before it, whose spectrum is q."""
    weights, table, layout = plan
    W = width(q)
    transform_back(q, table)
    scale = splat(q.dtype.type(1 / (layout[0] * layout[1])))
    for j in range(order):
        value = scale * real_part(q, 2 * W * _row(begin + j, layout), weights, begin + j)
        if j >= driven:  # a sample that is still among the last ones after the block
            value = value + load(gpast, (j - driven) * W)
        store(room, j * W, value)
    _copy(room, 0, gpast, 0, order)


@part
@no_type_check
def _copy(x, at, y, to, count):
    W = width(x)
    for j in range(0, count * W, W):
        store(y, to + j, load(x, at + j))


@inline
@no_type_check
def _spectrum(k, none, tile, length, z, plan, block):
    weights, table, layout = plan
    read_kernel(k, none, tile, length, weights, z, layout, block)
    transform(z, table)


@inline
@no_type_check
def _gradient(k, none, tile, length, z, plan, block):
    weights, table, layout = plan
    transform_back(z, table)
    write_kernel(k, none, tile, length, weights, z, layout, block)


@inline
@no_type_check
def _slot(tile, batch, blocks, order, W):
    """Where the states that are kept of a tile's rows begin."""
    row, rows, c0, _ = tile
    return (c0 // W * -(-batch // rows) + row // rows) * blocks * order * W


@inline
@no_type_check
def _rooms(work, plan, small_plan, order, transforms):
    """Work space for some transforms of either size, for three states, and for some samples of a tile."""
    large, small = 2 * plan[2][0] * plan[2][2] * width(work), 2 * small_plan[2][0] * small_plan[2][2] * width(work)
    ends = transforms * large, transforms * (large + small), transforms * (large + small) + 3 * order * width(work)
    return (
        work[: ends[0]].reshape(transforms, large),
        work[ends[0] : ends[1]].reshape(transforms, small),
        work[ends[1] : ends[2]].reshape(3, order * width(work)),
        work[ends[2] :],
    )


@native
@no_type_check
def filter_blocks(
    u, u_strides, h, g, b, a, none, state, y, y_strides, after, kept, sizes, plan, small_plan, work, first, last
):
    """Filter rows from a state; ``kept`` gets the state before each block, unless it is empty."""
    batch, length, channels, order, size, parts = sizes
    W = width(work)
    large, small, states, block = _rooms(work, plan, small_plan, order, 4)
    z, v, hs, gs = large[0], large[1], large[2], large[3]
    p, q, bs, as_ = small[0], small[1], small[2], small[3]
    past, c, d = states[0], states[1], states[2]
    blocks, begin = -(-length // size), small_plan[2][0] * small_plan[2][1] - order
    for job in range(first, last):
        tile, end = tile_of(job, parts, batch, channels, W)
        row, rows, c0, count = tile
        _spectrum(h, none, tile, size, hs, plan, block)
        _spectrum(g, none, tile, size, gs, plan, block)
        _spectrum(b, none, tile, order, bs, small_plan, block)
        _spectrum(a, none, tile, order, as_, small_plan, block)
        while row < end:
            slot = _slot((row, rows, c0, count), batch, blocks, order, W)
            some = row, min(rows, end - row), c0, count
            clear(past, 0, order, W)
            read_lags(state, order, channels, some, past, order - 1, -1, W)
            for k in range(blocks):
                if kept.size:
                    _copy(past, 0, kept, slot + k * order * W, order)
                samples = min(size, length - k * size)
                driven = min(order, samples)
                _put_rows(past, 0, order, begin, p, small_plan)
                _take_sums(p, as_, q, c, driven, -1.0, small_plan)
                _take_sums(p, bs, q, d, driven, 1.0, small_plan)
                u_here, y_here = u[k * size * u_strides[1] :], y[k * size * y_strides[1] :]
                _far_read_driven(u_here, u_strides, some, samples, c, driven, z, plan, block)
                _filter_groups(z, v, hs, gs, plan)
                far_write(y_here, y_strides, some, samples, z, plan, block)
                _add_rows(y_here, y_strides, some, d, driven, block)
                _hand_over(v, past, samples, order, plan)
            write_lags(after, order, channels, some, past, order - 1, -1, W)
            row += rows


@native
@no_type_check
def backward(
    gy, gy_strides, gafter, u, u_strides, h, g, b, a, none, kept, gu, gu_strides, gh, gg, gb, ga, gstate, sizes, plan,
    small_plan, work, first, last,
):  # fmt: skip
    """The adjoint of ``filter_blocks``: gu, gstate and, for each part of the batch, gh, gg, gb and ga."""
    batch, length, channels, order, size, parts = sizes
    W = width(work)
    large, small, states, block = _rooms(work, plan, small_plan, order, 7)
    z, x, v, hs, gs, sh, sg = large[0], large[1], large[2], large[3], large[4], large[5], large[6]
    q, p, r, bs, as_, sb, sa = small[0], small[1], small[2], small[3], small[4], small[5], small[6]
    past, c, gpast = states[0], states[1], states[2]
    blocks, begin = -(-length // size), small_plan[2][0] * small_plan[2][1] - order
    for job in range(first, last):
        tile, end = tile_of(job, parts, batch, channels, W)
        part = job % parts
        row, rows, c0, count = tile
        _spectrum(h, none, tile, size, hs, plan, block)
        _spectrum(g, none, tile, size, gs, plan, block)
        _spectrum(b, none, tile, order, bs, small_plan, block)
        _spectrum(a, none, tile, order, as_, small_plan, block)
        clear(sh, 0, sh.size // W, W), clear(sg, 0, sg.size // W, W)
        clear(sb, 0, sb.size // W, W), clear(sa, 0, sa.size // W, W)
        while row < end:
            slot = _slot((row, rows, c0, count), batch, blocks, order, W)
            some = row, min(rows, end - row), c0, count
            clear(gpast, 0, order, W)
            read_lags(gafter, order, channels, some, gpast, order - 1, -1, W)
            for k in range(blocks - 1, -1, -1):
                samples = min(size, length - k * size)
                driven = min(order, samples)
                _copy(kept, slot + k * order * W, past, 0, order)
                _put_rows(past, 0, order, begin, p, small_plan)
                _take_sums(p, as_, q, c, driven, -1.0, small_plan)
                u_here = u[k * size * u_strides[1] :]
                gy_here, gu_here = gy[k * size * gy_strides[1] :], gu[k * size * gu_strides[1] :]
                _far_read_driven(u_here, u_strides, some, samples, c, driven, x, plan, block)
                far_read(gy_here, gy_strides, some, samples, z, plan, block)
                _far_put_rows(gpast, order - driven, order, samples - driven, v, plan)
                _correlate_groups(z, x, v, hs, gs, sh, sg, plan)
                far_write(gu_here, gu_strides, some, samples, z, plan, block)
                _read_driven(gu_here, gu_strides, some, c, driven, order, -1.0)
                _put_sums(c, driven, r, small_plan)
                _read_driven(gy_here, gy_strides, some, c, driven, order, 1.0)
                _put_sums(c, driven, q, small_plan)
                _correlate(q, p, r, bs, as_, sb, sa, 0, q.size)
                _hand_back(q, gpast, c, driven, order, begin, small_plan)
            write_lags(gstate, order, channels, some, gpast, order - 1, -1, W)
            row += rows
        _gradient(gh[part], none, tile, size, sh, plan, block)
        _gradient(gg[part], none, tile, size, sg, plan, block)
        _gradient(gb[part], none, tile, order, sb, small_plan, block)
        _gradient(ga[part], none, tile, order, sa, small_plan, block)
