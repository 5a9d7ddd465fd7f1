"""Filtering forward and backward, without delay, in the convention of ``scipy.signal``; differentiable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from transferfn.ops.boundaries import check_tensor
from transferfn.ops.lfilter import check_signal, lfilter, lfilter_zi, sosfilt, sosfilt_zi

Padding = Literal["odd", "even", "constant"]


def filtfilt(
    b: Tensor,
    a: Tensor,
    x: Tensor,
    axis: int = -1,
    padtype: Padding | None = "odd",
    padlen: int | None = None,
) -> Tensor:
    """Filter forward and backward, as ``scipy.signal.filtfilt`` does by its default method: no phase, |H|^2.

    Args:
        b: Numerator, b[0] first, (nb).
        a: Denominator, a[0] first, (na).
        x: Input, real or complex; the axes other than ``axis`` are batches.
        axis: Axis of ``x`` that is time.
        padtype: How the signal goes on beyond its ends: mirrored at the last sample and its value (odd), mirrored in
            time (even), or constant; None means not at all.
        padlen: By how many samples, less than there are; None means 3 max(na, nb).

    Returns:
        y of the shape and type of ``x``.

    Raises:
        TypeError: if coefficients are not real floating-point tensors, or the signal is none of floating-point numbers.
        ValueError: if the signal is no longer than the padding, coefficients come in batches, or the filter has a pole
            at z = 1.

    Example:
        >>> filtfilt(torch.tensor([0.5, 0.5]), torch.tensor([1.0]), torch.arange(8.0))
        tensor([0., 1., 2., 3., 4., 5., 6., 7.])
    """
    check_tensor("b", b)
    check_tensor("a", a)
    if b.dim() != 1 or a.dim() != 1:
        raise ValueError(f"filtfilt takes one filter, b (nb) and a (na), got {tuple(b.shape)} and {tuple(a.shape)}")
    taps = max(b.shape[-1], a.shape[-1])
    zi = lfilter_zi(b, a)

    def once(x: Tensor) -> Tensor:
        return lfilter(b, a, x, -1, zi * x[..., :1])[0]

    return _both_ways(once, x, axis, padtype, 3 * taps if padlen is None else padlen)


def sosfiltfilt(
    sos: Tensor, x: Tensor, axis: int = -1, padtype: Padding | None = "odd", padlen: int | None = None
) -> Tensor:
    """Filter forward and backward by second-order sections, as ``scipy.signal.sosfiltfilt`` does.

    Args:
        sos: Sections, each b0, b1, b2, a0, a1, a2, (sections, 6).
        x: Input, real or complex; the axes other than ``axis`` are batches.
        axis: Axis of ``x`` that is time.
        padtype: As for :func:`filtfilt`.
        padlen: By how many samples, less than there are; None means scipy's 3 (2 sections + 1 - k), where k sections
            are of first order.

    Returns:
        y of the shape and type of ``x``.

    Raises:
        TypeError: if sections are not real floating-point tensors, or the signal is none of floating-point numbers.
        ValueError: if the signal is no longer than the padding, ``sos`` is not (sections, 6), or a section has a pole
            at z = 1.

    Example:
        >>> sosfiltfilt(torch.tensor([[0.5, 0.5, 0.0, 1.0, 0.0, 0.0]]), torch.arange(8.0))
        tensor([0., 1., 2., 3., 4., 5., 6., 7.])
    """
    zi = sosfilt_zi(sos)
    if sos.dim() != 2:
        raise ValueError(f"sosfiltfilt takes one filter, sos (sections, 6), got {tuple(sos.shape)}")
    if padlen is None:
        of_first_order = min(int((sos[:, 2] == 0).sum()), int((sos[:, 5] == 0).sum()))
        padlen = 3 * (2 * len(sos) + 1 - of_first_order)

    def once(x: Tensor) -> Tensor:
        start = zi.view(len(zi), *[1] * (x.dim() - 1), 2) * x[..., :1]
        return sosfilt(sos, x, -1, start)[0]

    return _both_ways(once, x, axis, padtype, padlen)


def _both_ways(once: Callable[[Tensor], Tensor], x: Tensor, axis: int, padtype: Padding | None, padlen: int) -> Tensor:
    check_signal("x", x)
    edge = 0 if padtype is None else padlen
    x = x.movedim(axis, -1)
    length = x.shape[-1]
    if padtype not in ("odd", "even", "constant", None) or not 0 <= edge < length:
        raise ValueError(
            f"padtype is 'odd', 'even', 'constant' or None, and the signal must be longer than its padding: "
            f"got padtype={padtype!r} and {length} samples for padlen={padlen}"
        )
    y = once(_extended(x, padtype, edge))
    y = once(y.flip(-1)).flip(-1)
    return y[..., edge : edge + length].movedim(-1, axis)


def _extended(x: Tensor, padtype: Padding | None, edge: int) -> Tensor:
    if padtype is None or edge == 0:
        return x
    first, last = x[..., :1], x[..., -1:]
    if padtype == "constant":
        before, after = (end.expand(*x.shape[:-1], edge) for end in (first, last))
    else:
        before, after = x[..., 1 : edge + 1].flip(-1), x[..., -edge - 1 : -1].flip(-1)
        if padtype == "odd":
            before, after = 2 * first - before, 2 * last - after
    return torch.cat((before, x, after), -1)
