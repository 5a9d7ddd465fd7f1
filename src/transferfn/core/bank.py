"""Banks put together from filters of any order, and filters taken out of banks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import pad

from transferfn.core.checks import common_interval, what_instead
from transferfn.core.kernel import spread
from transferfn.core.system import TransferFunction


def check_filters(h: object) -> None:
    """Raise unless what is given are filters.

    Args:
        h: What the caller passed.

    Raises:
        TypeError: if it is another object; those of scipy and python-control are told what makes filters of them.

    Example:
        >>> check_filters(TransferFunction(torch.ones(1, 1), torch.zeros(1, 1), torch.zeros(1)))
    """
    if not isinstance(h, TransferFunction):
        raise TypeError(f"expected a transferfn.TransferFunction, got {what_instead(h)}")


def check_one_bank(h: object) -> None:
    """Raise unless what is given is one bank of filters.

    Args:
        h: What the caller passed.

    Raises:
        TypeError: if it is another object.
        ValueError: if it is more than one bank.

    Example:
        >>> check_one_bank(TransferFunction(torch.ones(1, 1), torch.zeros(1, 1), torch.zeros(1)))
    """
    check_filters(h)
    assert isinstance(h, TransferFunction)
    if h.b.dim() != 2:
        raise ValueError(f"expected one bank of filters, numerator (D, n), got {tuple(h.b.shape)}: take one of them")


def stack(filters: Sequence[TransferFunction]) -> TransferFunction:
    """One bank of the channels of several, one denominator a channel; lower orders are filled up with zeros.

    Args:
        filters: Banks, numerator (D_i, n_i); at least one.

    Returns:
        A bank of sum(D_i) channels and order max(n_i), one denominator a channel.

    Raises:
        TypeError: if one is another object.
        ValueError: if there is none, or sampling intervals differ; None goes with any.

    Example:
        >>> decay = TransferFunction(torch.tensor([[0.5]]), torch.tensor([[-0.5]]), torch.tensor([1.0]))
        >>> bank = stack([decay, decay * decay])
        >>> bank.channels, bank.order
        (2, 2)
    """
    if not filters:
        raise ValueError("a bank needs at least one filter, got none")
    for h in filters:
        check_one_bank(h)
    dt = common_interval(h.dt for h in filters)
    order = max(h.order for h in filters)
    b = torch.cat([pad(h.b, (0, order - h.order)) for h in filters])
    a = torch.cat([pad(spread(h.a, h.channels), (0, order - h.order)) for h in filters])
    return TransferFunction(b, a, torch.cat([h.h0 for h in filters]), dt)


def select(h: TransferFunction, channels: Sequence[int]) -> TransferFunction:
    """A bank of some channels of another, one denominator a channel.

    Args:
        h: The bank, numerator (D, n).
        channels: Which, each in 0..D-1.

    Returns:
        Their bank, in the order given.

    Raises:
        TypeError: if h is another object.
        ValueError: if h is more than one bank, or a channel is not there.

    Example:
        >>> h = TransferFunction(torch.tensor([[0.5], [0.25]]), torch.tensor([[-0.5]]), torch.ones(2))
        >>> select(h, [1]).b
        tensor([[0.2500]])
    """
    check_one_bank(h)
    rows = [int(channel) for channel in channels]
    if not rows or any(not 0 <= row < h.channels for row in rows):
        raise ValueError(f"channels lie in 0..{h.channels - 1}, at least one of them, got {rows}")
    return TransferFunction(h.b[rows], spread(h.a, h.channels)[rows], h.h0[rows], h.dt)
