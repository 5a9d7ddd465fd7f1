"""The parameters of the official implementation, read and written, github.com/ruke1ire/RTF at 1d9e1e5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from transferfn.nn.rtf import RTF


def load_state_dict(
    state_dict: Mapping[str, Tensor],
    *,
    channels: int,
    order: int,
    horizon: int,
    denominator_groups: int | None = None,
    bidirectional: bool = False,
    constraint: Literal["l1"] | None = None,
) -> RTF:
    """Build a layer that computes what an official ``RTF`` with these parameters computes.

    The official period is the horizon rounded up to an even number; ours becomes exactly that. (For odd input lengths
    the official bidirectional layer is wrong, ours is not.)

    Args:
        state_dict: Official parameters: ``ab`` (rows a, then b~, for both directions each if bidirectional), ``h_0``,
            and ``scalar`` if constrained. Their type becomes that of the layer.
        channels: Official ``d_model``.
        order: Official ``state_size``.
        horizon: Official ``trunc_len``.
        denominator_groups: Official ``num_a``; None means one a channel.
        bidirectional: Whether the official layer was bidirectional.
        constraint: ``"l1"`` for the official l1 Montel constraint.

    Returns:
        The layer, in training mode like any new module.

    Raises:
        ValueError: if the constraint is another one, a key is missing or left over, or a shape does not fit the sizes
            given.

    Example:
        >>> parameters = {"ab": torch.zeros(1 + 4, 2), "h_0": torch.ones(4)}
        >>> load_state_dict(parameters, channels=4, order=2, horizon=7, denominator_groups=1).horizon
        8
    """
    if constraint not in (None, "l1"):
        raise ValueError(f"the official constraints are None or 'l1' (l1_montel there), got {constraint!r}")
    groups = channels if denominator_groups is None else denominator_groups
    directions = 2 if bidirectional else 1
    expected: dict[str, tuple[int, ...]] = {
        "ab": (directions * (groups + channels), order),
        "h_0": (directions * channels,),
    }
    if constraint == "l1":
        expected["scalar"] = (groups,)
    _check(state_dict, expected)
    ab, h0 = state_dict["ab"], state_dict["h_0"]
    a, b = ab[: directions * groups], ab[directions * groups :]
    lead = (2,) if bidirectional else ()
    values = {
        "truncated_numerator": b.reshape(*lead, channels, order),
        "truncated_feedthrough": h0.reshape(*lead, channels),
        "denominator": a.reshape(*lead, groups, order),
    }
    if constraint == "l1":
        values["slack"] = state_dict["scalar"].reshape(-1).expand(*lead, groups)  # both directions share the scalars
    layer = RTF(
        channels,
        order,
        horizon=horizon + horizon % 2,
        denominator_groups=groups,
        bidirectional=bidirectional,
        init="zeros",
        constraint=constraint,
        dtype=ab.dtype,
    )
    layer.load_state_dict(layer.state_dict() | values)
    return layer


def state_dict(layer: RTF) -> dict[str, Tensor]:
    """Official parameters of a layer, the inverse of :func:`load_state_dict`: renaming only, exact.

    Args:
        layer: A layer as the official code has them: truncated numerators, no constraint or ``"l1"``, an even horizon.

    Returns:
        Copies without derivatives: ``ab``, ``h_0``, and ``scalar`` if constrained. The official ``d_model``,
        ``state_size``, ``trunc_len`` and ``num_a`` are the layer's channels, order, horizon and denominator groups.

    Raises:
        ValueError: if the official code has no such layer; the message says what to change.

    Example:
        >>> parameters = state_dict(RTF(4, 2, horizon=8, denominator_groups=1))
        >>> {name: tuple(x.shape) for name, x in parameters.items()}
        {'ab': (5, 2), 'h_0': (4,)}
    """
    if layer.numerator_kind != "truncated":
        raise ValueError(
            f"official layers have truncated numerators, this one has numerator={layer.numerator_kind!r}: make one by "
            f"RTF.from_transfer_function(layer.transfer_function(), horizon=...)"
        )
    if layer.constraint not in (None, "l1"):
        raise ValueError(
            f"the official constraints are None or 'l1', this layer has {layer.constraint!r}: make one without by "
            f"RTF.from_transfer_function(layer.transfer_function(), horizon=...)"
        )
    if layer.horizon % 2:
        raise ValueError(
            f"the official period is even, this layer has horizon={layer.horizon}: take layer.with_horizon("
            f"{layer.horizon + 1})"
        )
    x = {name: value.detach().clone() for name, value in layer.state_dict().items()}
    rows = [x[name].reshape(-1, layer.order) for name in ("denominator", "truncated_numerator")]
    found = {"ab": torch.cat(rows), "h_0": x["truncated_feedthrough"].flatten()}
    if layer.constraint == "l1":
        slack = x["slack"].reshape(-1, layer.denominator_groups)
        if bool((slack != slack[0]).any()):
            raise ValueError(
                "both directions of an official layer share 'scalar', those of this layer differ: set the rows of "
                "layer.slack to one value"
            )
        found["scalar"] = slack[0].clone()
    return found


def _check(state_dict: Mapping[str, Tensor], expected: dict[str, tuple[int, ...]]) -> None:
    if set(state_dict) != set(expected):
        raise ValueError(
            f"expected the official keys {sorted(expected)} for these options, got {sorted(state_dict)}. "
            f"'scalar' belongs to constraint='l1'."
        )
    for name, shape in expected.items():
        found = tuple(state_dict[name].shape)
        same = found == shape or (name == "scalar" and torch.Size(found).numel() == shape[0])
        if not same:
            raise ValueError(
                f"{name!r} should have shape {shape} for the sizes given, got {found}. "
                f"Rows of 'ab' are: denominators, then numerators, each for both directions if bidirectional."
            )
