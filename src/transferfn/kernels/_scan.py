"""The recurrence and all its gradients as Numba loops. Imported on first use: Numba takes its time.

A job takes the W lanes of a tile and a part of the batch, one group of rows after the other.

Rows are cut into pieces, at multiples of CHUNK and at resets. The backward pass takes them in reverse: it runs each
piece again from the state before it, which the forward pass has kept at multiples of CHUNK, so that w as a whole is
never in memory.
"""

from __future__ import annotations

from typing import Any, no_type_check

import numpy as np
from numba.np.numpy_support import carray

from transferfn.kernels._compile import clear, once, part
from transferfn.kernels._entry import HEAD, array, entry, share
from transferfn.kernels._pieces import (
    CHUNK,
    adjoint_piece,
    filter_piece,
    into_the_past,
    products_of_piece,
    recur_piece,
)
from transferfn.kernels._simd import load, store
from transferfn.kernels._tiles import clear_signal, directed, is_cut, move, read, read_lag, read_lags, write, write_lags


@part
@no_type_check
def _coefficients(c, groups, order, sign, job, sizes, to):
    """Rows of ``c`` (groups, order) as lanes, each for the channels of its group, zero from the order on."""
    _, _, channels, _, _, lags, side, parts, W = sizes
    c0 = job // parts * W
    width = min(W, channels - c0)
    clear(to, 0, lags, W)
    for lane in range(width):
        group = (c0 + lane) * groups // channels
        for i in range(side):
            for lag in range(order):
                to[lag * W + i * width + lane] = sign * c[group * order + lag]


@part
@no_type_check
def _rows_of(job, sizes):
    """First and last row of a job's part of the batch."""
    batch, _, _, _, _, _, side, parts, _ = sizes
    groups = (batch + side - 1) // side
    part = job % parts
    return groups * part // parts * side, min(groups * (part + 1) // parts * side, batch)


@part
@no_type_check
def _slot(row, job, sizes, slots):
    """The first of the places where a tile keeps its states."""
    batch, _, _, _, _, _, side, parts, _ = sizes
    return (job // parts * ((batch + side - 1) // side) + row // side) * slots


@part
@no_type_check
def _total(sums, totals, count):
    """Sums over a piece are in the working precision, their totals in float64: long signals stay accurate."""
    for i in range(count):
        totals[i] += sums[i]
        sums[i] = 0


@part
@no_type_check
def _put_totals(totals, at, lags, job, sizes, sign, sums):
    """Totals of a tile's lanes, those of one channel together, to ``sums`` (parts, D, lags)."""
    _, _, channels, _, _, _, side, parts, W = sizes
    c0, part = job // parts * W, job % parts
    width = min(W, channels - c0)
    for c in range(width):
        for lag in range(lags):
            total = 0.0
            for i in range(side):
                total += totals[(at + lag) * W + i * width + c]
            sums[(part * channels + c0 + c) * lags + lag] = sign * total


@once
@no_type_check
def scan(u, u_layout, b, a, h0, state, resets, lengths, y, y_layout, after, kept, reverse, work, sizes, first, last):
    """w_t = u_t - sum_i a_i w_(t-i) and y_t = h0 u_t + sum_i b_i w_(t-i), the state after, and those kept.

    u and y (B, L, D), b (D, n), a (G, n), h0 (D), state and after (B, D, n), resets (B, L), lengths (B); state, resets,
    lengths, after and kept may be empty. ``reverse`` starts at the end of each row.
    """
    _, length, channels, groups, order, lags, side, parts, W = sizes
    slots = (length - 1) // CHUNK
    back, out, through = work, work[lags * W :], work[2 * lags * W :]
    window, signal = work[(2 * lags + 1) * W :], work[(3 * lags + CHUNK + 5) * W :]
    for job in range(first, last):
        if job == first or job % parts == 0:
            _coefficients(a, groups, order, -1, job, sizes, back)
            _coefficients(b, channels, order, 1, job, sizes, out)
            _coefficients(h0, channels, 1, 1, job, sizes, signal), store(through, 0, load(signal, 0))
        c0 = job // parts * W
        width, h = min(W, channels - c0), load(through, 0)
        begin_row, stop = _rows_of(job, sizes)
        for row in range(begin_row, stop, side):
            tile = row, min(side, stop - row), c0, width
            slot = _slot(row, job, sizes, slots)
            clear(window, 0, lags, W)
            if state.size:
                read_lags(state, order, channels, tile, window, lags - 1, -1, W)
            end = length
            if lengths.size:
                end = min(max(lengths[row], 0), length)
            from_u, to_y = directed(u_layout, end, reverse), directed(y_layout, end, reverse)
            t = 0
            while t < end:
                ahead = min(end, (t // CHUNK + 1) * CHUNK)
                if kept.size and t % CHUNK == 0 and t:
                    for i in range(0, lags * W, W):
                        store(kept, (slot + t // CHUNK - 1) * lags * W + i, load(window, i))
                if resets.size:
                    if is_cut(resets, row, length, end, t, reverse):
                        clear(window, 0, lags, W)
                    cut = t + 1
                    while cut < ahead and not is_cut(resets, row, length, end, cut, reverse):
                        cut += 1
                    ahead = cut
                size = ahead - t
                if tile[1] < side:  # lanes of rows that do not exist must not spoil sums in the backward pass
                    clear(signal, 0, size, W)
                read(u, from_u, tile, t, size, signal, 0, W)
                clear(signal, size, size + 3, W)
                filter_piece(signal, window, back, out, h, lags, size, W)
                write(y, to_y, tile, t, size, signal, 0, W)
                move(window, size, 0, lags, W)
                t = ahead
            if end < length:
                clear_signal(y, y_layout, tile, end, length)
            if after.size:
                write_lags(after, order, channels, tile, window, lags - 1, -1, W)


@once
@no_type_check
def gradients(
    gy, gy_layout, gafter, u, u_layout, b, a, h0, state, resets, lengths, kept,
    gu, gu_layout, gb, ga, gh, gstate, reverse, work, totals, sizes, first, last,
):  # fmt: skip
    """All gradients of ``scan``: gu like u, those of the coefficients for each part of the batch, (parts, D, n).

    gafter, state, resets, lengths and gstate may be empty.
    """
    _, length, channels, groups, order, lags, side, parts, W = sizes
    slots = (length - 1) // CHUNK
    back, out, through = work, work[lags * W :], work[2 * lags * W :]
    at = 2 * lags + 1
    window = work[at * W :]
    at += lags + CHUNK + 8
    given, lam = work[at * W :], work[(at + lags + CHUNK) * W :]
    at += 2 * (lags + CHUNK)
    signal, sums = work[at * W :], work[(at + max(CHUNK, lags) + 4) * W :]
    start = lags + 4  # the window's first row behind the past, before which there are four more, of zeros
    clear(window, 0, 4, W), clear(sums, 0, 2 * lags + 1, W)
    for job in range(first, last):
        if job == first or job % parts == 0:
            _coefficients(a, groups, order, -1, job, sizes, back)
            _coefficients(b, channels, order, 1, job, sizes, out)
            _coefficients(h0, channels, 1, 1, job, sizes, signal), store(through, 0, load(signal, 0))
        c0 = job // parts * W
        width, h = min(W, channels - c0), load(through, 0)
        clear(totals, 0, 2 * lags + 1, W)
        begin_row, stop = _rows_of(job, sizes)
        for row in range(begin_row, stop, side):
            tile = row, min(side, stop - row), c0, width
            slot = _slot(row, job, sizes, slots)
            clear(given, CHUNK, CHUNK + lags, W), clear(lam, CHUNK, CHUNK + lags, W)
            end = length
            if lengths.size:
                end = min(max(lengths[row], 0), length)
            from_gy, from_u = directed(gy_layout, end, reverse), directed(u_layout, end, reverse)
            to_gu = directed(gu_layout, end, reverse)
            # What the state after the signal gives to its last n samples; a reset hides those before it.
            reaches = gafter.size > 0
            ahead = end
            while ahead > 0:
                begin = (ahead - 1) // CHUNK * CHUNK
                t = begin
                cut = False
                if resets.size:
                    t = ahead - 1
                    while t > begin and not is_cut(resets, row, length, end, t, reverse):
                        t -= 1
                    cut = is_cut(resets, row, length, end, t, reverse)
                size = ahead - t
                piece = CHUNK - size
                whole = piece // 4 * 4
                clear(window, 4, start, W)
                if not cut:
                    if t:
                        for i in range(0, lags * W, W):
                            store(window, 4 * W + i, load(kept, (slot + t // CHUNK - 1) * lags * W + i))
                    elif state.size:
                        read_lags(state, order, channels, tile, window, start - 1, -1, W)
                if tile[1] < side:  # lanes of rows that do not exist
                    clear(signal, 0, size, W), clear(given, piece, CHUNK, W)
                read(u, from_u, tile, t, size, signal, 0, W)
                clear(signal, size, size + 3, W)
                read(gy, from_gy, tile, t, size, given, piece, W)
                clear(given, whole, piece, W)
                dot = load(sums, 2 * lags * W)
                for r in range(size):
                    dot = dot + load(signal, r * W) * load(given, (piece + r) * W)
                store(sums, 2 * lags * W, dot)
                recur_piece(signal, window, start, back, lags, size, W)

                clear(signal, whole, CHUNK, W)
                if reaches and end - order < ahead:
                    for lag in range(max(end - ahead, 0), min(end - t, order)):
                        at = CHUNK - (ahead - (end - 1 - lag))
                        read_lag(gafter, order, channels, tile, lag, signal, at, W)
                adjoint_piece(signal, given, lam, back, out, h, lags, whole, W)
                clear(lam, whole, piece, W)
                write(gu, to_gu, tile, t, size, signal, piece, W)
                products_of_piece(given, lam, window, whole, start - piece + whole, sums, lags, W)
                _total(sums, totals, (2 * lags + 1) * W)
                if cut:
                    reaches = False
                    clear(given, CHUNK, CHUNK + lags, W), clear(lam, CHUNK, CHUNK + lags, W)
                else:
                    move(given, piece, CHUNK, lags, W)
                    move(lam, piece, CHUNK, lags, W)
                ahead = t
            if end < length:
                clear_signal(gu, gu_layout, tile, end, length)
            if gstate.size:
                clear(signal, 0, lags, W)
                if reaches:
                    for k in range(order - end):
                        read_lag(gafter, order, channels, tile, end + k, signal, k, W)
                into_the_past(signal, given, lam, back, out, lags, order, W)
                write_lags(gstate, order, channels, tile, signal, 0, 1, W)
        _put_totals(totals, 0, order, job, sizes, 1, gb)
        _put_totals(totals, lags, order, job, sizes, -1, ga)
        _put_totals(totals, 2 * lags, 1, job, sizes, 1, gh)


def rows_of_work(lags: int) -> tuple[int, int]:
    """How many rows of lanes ``scan`` and ``gradients`` work in.

    Args:
        lags: Number of lags, padded.
    """
    signal = max(CHUNK, lags) + 4
    return 3 * lags + CHUNK + 5 + signal, 7 * lags + 3 * CHUNK + 10 + signal


def scan_entry(kind: type) -> Any:
    """``scan`` as C threads enter it.

    Args:
        kind: float32 or float64, of signals and states; coefficients are in float64.
    """
    item = np.dtype(kind).itemsize

    @no_type_check
    def run(block):
        p = carray(block, (64,))[HEAD:]
        first, last, thread = share(carray(block, (HEAD,)))
        size = p[17]
        work = array(p[16] + thread * size * item, size, kind)
        scan(
            array(p[0], 1, kind), (p[1], p[2], p[3]),
            array(p[4], 1, np.float64), array(p[5], 1, np.float64), array(p[6], 1, np.float64),
            array(p[7], 1, kind), array(p[8], 1, np.bool_), array(p[9], 1, np.int64),
            array(p[10], 1, kind), (p[11], p[12], p[13]), array(p[14], 1, kind), array(p[15], 1, kind),
            p[27] != 0, work, (p[18], p[19], p[20], p[21], p[22], p[23], p[24], p[25], p[26]), first, last,
        )  # fmt: skip

    return entry(run)


def gradients_entry(kind: type) -> Any:
    """``gradients`` as C threads enter it.

    Args:
        kind: float32 or float64, of signals and states; coefficients and their gradients are in float64.
    """
    item = np.dtype(kind).itemsize

    @no_type_check
    def run(block):
        p = carray(block, (64,))[HEAD:]
        first, last, thread = share(carray(block, (HEAD,)))
        size, sums = p[25], p[27]
        work = array(p[24] + thread * size * item, size, kind)
        totals = array(p[26] + thread * sums * 8, sums, np.float64)
        gradients(
            array(p[0], 1, kind), (p[1], p[2], p[3]), array(p[4], 1, kind), array(p[5], 1, kind), (p[6], p[7], p[8]),
            array(p[9], 1, np.float64), array(p[10], 1, np.float64), array(p[11], 1, np.float64),
            array(p[12], 1, kind), array(p[13], 1, np.bool_), array(p[14], 1, np.int64), array(p[15], 1, kind),
            array(p[16], 1, kind), (p[17], p[18], p[19]),
            array(p[20], 1, np.float64), array(p[21], 1, np.float64), array(p[22], 1, np.float64),
            array(p[23], 1, kind), p[37] != 0, work, totals,
            (p[28], p[29], p[30], p[31], p[32], p[33], p[34], p[35], p[36]), first, last,
        )  # fmt: skip

    return entry(run)
