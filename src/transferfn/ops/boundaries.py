"""Where rows begin and end: masks from lengths, the state at a length, rows cut at resets."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from transferfn.kernels.tracing import values_are_hidden as values_are_hidden
from transferfn.typing import FilterState, Lengths, Resets, Signal


def check_tensor(name: str, value: object) -> None:
    """Raise unless a value is a tensor.

    Args:
        name: What the caller calls it.
        value: What the caller passed.

    Raises:
        TypeError: if it is something else.
    """
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} must be a tensor, got {type(value).__name__}; torch.as_tensor converts lists and arrays"
        )


def check_boundaries(u: Tensor, lengths: Tensor | None, resets: Tensor | None) -> None:
    """Raise unless ``lengths`` and ``resets`` fit the signal ``u``.

    Args:
        u: The signal, (B, L, ...).
        lengths: What the caller passed as lengths.
        resets: What the caller passed as resets.

    Raises:
        TypeError: if one of them is no tensor.
        ValueError: if shapes, types or devices do not fit, or lengths on the CPU are outside 0..L.
    """
    batch_size, length = u.shape[:2]
    for name, value in (("lengths", lengths), ("resets", resets)):
        if value is not None:
            check_tensor(name, value)
            if value.device != u.device:
                raise ValueError(f"the signal is on {u.device} and {name} on {value.device}: move one of them")
    if lengths is not None:
        if lengths.shape != (batch_size,) or lengths.dtype not in (torch.int64, torch.int32):
            raise ValueError(
                f"lengths must hold one integer a row, shape ({batch_size},), got shape {tuple(lengths.shape)} of "
                f"{lengths.dtype}. They are int64 or int32: a padding mask converts with mask.sum(-1), other integers "
                f"with lengths.long()."
            )
        if lengths.device.type == "cpu" and not values_are_hidden() and lengths.numel():  # elsewhere looking would wait
            low, high = (int(x) for x in lengths.aminmax())
            if low < 0 or high > length:
                raise ValueError(f"lengths must lie in 0..{length}, the length of the input, got {low}..{high}.")
    if resets is not None and (resets.shape != (batch_size, length) or resets.dtype != torch.bool):
        raise ValueError(
            f"resets must be a bool mask of shape {(batch_size, length)}, one entry a sample, "
            f"got shape {tuple(resets.shape)} of {resets.dtype}."
        )


def valid_samples(lengths: Lengths, length: int) -> Tensor:
    """Mask that is true at the valid samples of each row.

    Args:
        lengths: Number of valid samples of each row, (B,).
        length: Number of samples L.

    Returns:
        Mask, bool, (B, L).
    """
    return torch.arange(length, device=lengths.device) < lengths[:, None]


def cuts(lengths: Lengths | None, resets: Resets | None, length: int) -> Resets | None:
    """Resets, and one more where a row's padding starts: what has grown in its state must not grow on there.

    Args:
        lengths: Number of valid samples of each row, (B,); None means all.
        resets: True where the state is cleared before the sample, (B, L); None means nowhere.
        length: Number of samples L.

    Returns:
        Where to clear the state, (B, L), or None for nowhere.
    """
    if lengths is None:
        return resets
    ends = torch.arange(length, device=lengths.device) == lengths[:, None]
    return ends if resets is None else resets | ends


def state_at(w: Tensor, order: int, lengths: Lengths | None, resets: Resets | None) -> FilterState:
    """The last n samples of w before each row's end, newest first; what a reset has hidden is zero.

    Args:
        w: Input filtered by 1/a, with the n samples before it in front, (B, n + L, D).
        order: Order n.
        lengths: Number of valid samples of each row, (B,); None means L.
        resets: True where the state is cleared before the sample, (B, L).

    Returns:
        State, (B, D, n).
    """
    batch, length = w.shape[0], w.shape[1] - order
    if lengths is None and resets is None:
        return w[:, length:].flip(1).mT
    ends = torch.full((batch,), length, device=w.device) if lengths is None else lengths.to(w.device)
    index = ends[:, None] - 1 - torch.arange(order, device=w.device)  # time of each entry, negative before the chunk
    state = torch.take_along_dim(w, (order + index)[:, :, None], 1)
    if resets is not None:
        time = torch.arange(length, device=w.device)
        seen = resets & (time < ends[:, None])
        start = (
            torch.where(seen, time, -order).amax(1, keepdim=True) if length else torch.full_like(ends, -order)[:, None]
        )
        state = torch.where((index >= start)[:, :, None], state, 0)
    return state.mT


def filter_segments(
    filter_rows: Callable[[Signal, Tensor | None, Lengths], tuple[Signal, Tensor | None]],
    u: Signal,
    state: Tensor | None,
    lengths: Lengths | None,
    resets: Resets,
) -> tuple[Signal, Tensor | None]:
    """Cut rows at their resets, filter the pieces as rows of their own, and put the results back.

    Pieces of similar length go together, so that padding never more than doubles the work.

    Args:
        filter_rows: Filters rows (S, M, D) from states (S, ...) up to lengths (S,); returns outputs and final states.
        u: Input, (B, L, D).
        state: State before the first sample, one tensor, (B, ...); None means rest.
        lengths: Number of valid samples of each row, (B,); None means L.
        resets: True where the state is cleared before the sample, (B, L).

    Returns:
        Output, (B, L, D), zero where no piece reaches, and the final state if ``filter_rows`` returns one.

    Raises:
        RuntimeError: inside a compiled graph. Without ``fullgraph=True`` PyTorch then leaves this to Python.
    """
    if torch.compiler.is_compiling():
        raise RuntimeError(
            "rows are cut at their resets, and a compiled graph cannot know how many there are: take method='scan' or "
            "'auto', or compile without fullgraph=True"
        )
    batch, length, _ = u.shape
    ends = torch.full((batch,), length, device=u.device) if lengths is None else lengths.to(u.device)
    inside = valid_samples(ends, length)
    starts = resets & inside
    starts[:, 0] = inside[:, 0]
    row, begin = starts.nonzero(as_tuple=True)
    row_ends = torch.cat((row[1:] != row[:-1], row.new_ones(1, dtype=torch.bool)))[: len(row)]
    size = torch.where(row_ends, ends[row], begin.roll(-1)) - begin
    carries = (begin == 0) & ~resets[row, 0]

    y = torch.zeros_like(u).flatten(0, 1)
    final = state
    bucket = (size - 1).clamp_min(0).float().log2().floor().long() if len(size) else size
    for one in bucket.unique().tolist():
        chosen = (bucket == one).nonzero()[:, 0]
        r, t0, m = row[chosen], begin[chosen], size[chosen]
        t = torch.arange(int(m.max()), device=u.device)
        within = t < m[:, None]
        at = (r * length + t0)[:, None] + torch.where(within, t, 0)
        piece = torch.where(within[..., None], u.flatten(0, 1)[at], 0)
        before = None
        if state is not None:
            kept = carries[chosen].reshape(-1, *[1] * (state.dim() - 1))
            before = torch.where(kept, state[r], 0)
        out, after = filter_rows(piece, before, m)
        y = y.index_put((at[within],), out[within])
        if after is not None:
            if final is None:
                final = after.new_zeros(batch, *after.shape[1:])
            last = row_ends[chosen]
            final = final.index_put((r[last],), after[last])
    return y.unflatten(0, (batch, length)), final
