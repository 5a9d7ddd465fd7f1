"""What transformers tells by masks and positions, told to layers with a state: where rows begin, end, begin anew."""

from __future__ import annotations

import torch
from torch import Tensor

from transferfn.nn.mixer import values_are_hidden


def boundaries(mask: Tensor | None, length: int) -> tuple[Tensor | None, Tensor | None]:
    """What an attention mask means to layers with a state: where rows end, and where they begin anew.

    Args:
        mask: 1 for tokens, 0 for padding at the left or right of each row, (B, L') with L' at least L; the last L
            columns are those of the tokens at hand. None means no padding.
        length: Number of tokens L.

    Returns:
        Lengths (B,), or None if no row has padding at its right; and resets (B, L), or None if none has at its left.

    Raises:
        ValueError: if the mask has another shape, or padding between tokens.

    Example:
        >>> boundaries(torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]]), 4)
        (tensor([4, 3]), tensor([[False, False,  True, False],
                [False, False, False, False]]))
    """
    if mask is None:
        return None, None
    if mask.dim() != 2 or mask.shape[1] < length:
        raise ValueError(
            f"expected an attention mask of shape (batch, length), at least {length} long, got {tuple(mask.shape)}"
        )
    real = mask[:, mask.shape[1] - length :] != 0
    if not length or (not values_are_hidden() and bool(real.all())):
        return None, None
    begins = real & ~torch.cat((torch.ones_like(real[:, :1]), real[:, :-1]), 1)
    place = torch.arange(1, length + 1, device=real.device)
    lengths = torch.where(real, place, 0).amax(1)
    first = torch.where(real, place, length + 1).amin(1)
    if not values_are_hidden() and bool((real.sum(1) < lengths - first + 1).any()):
        raise ValueError(
            "the attention mask has padding between tokens, which has no meaning for a state: pad at the left or right"
        )
    ends = None if not values_are_hidden() and bool((lengths == length).all()) else lengths
    return ends, begins if values_are_hidden() or bool(begins.any()) else None


def restarts(positions: Tensor | None, rows: int, length: int, mask: Tensor | None = None) -> Tensor | None:
    """Where the texts begin that are packed into a row, as positions tell it: they count on, or begin again at 0.

    The first position of a row may be any number, since it may follow a state; those of padding are not looked at.

    Args:
        positions: Place of each token in its text, (B, L), or (1, L) for all rows. None means that nothing is packed.
        rows: Number of rows B.
        length: Number of tokens L.
        mask: As for :func:`boundaries`.

    Returns:
        Resets (B, L), or None if no text begins.

    Raises:
        ValueError: if the positions have another shape, or neither count on nor begin again.

    Example:
        >>> restarts(torch.tensor([[0, 1, 2, 0, 1]]), 1, 5)
        tensor([[ True, False, False,  True, False]])
    """
    if positions is None:
        return None
    if positions.dim() != 2 or positions.shape[0] not in (1, rows) or positions.shape[1] != length:
        raise ValueError(f"expected position_ids of shape ({rows}, {length}), got {tuple(positions.shape)}")
    positions = positions.expand(rows, length)
    begins = positions == 0
    counted = begins[:, 1:] | (positions[:, 1:] == positions[:, :-1] + 1)
    if mask is not None:
        real = mask[:, mask.shape[1] - length :] != 0
        begins = begins & real
        counted = counted | ~(real[:, 1:] & real[:, :-1])
    if values_are_hidden():
        return begins
    if not bool(counted.all()):
        raise ValueError(
            "position_ids must count on by 1 or begin again at 0, where the next text of a packed row begins: other "
            "positions have no meaning for a state"
        )
    return begins if bool(begins.any()) else None
