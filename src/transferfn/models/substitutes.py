"""Filters that stand where the configuration of a model builds other layers, described so that they can be built again.

Distillation and reduction leave a model that its configuration no longer describes; what they put into it is an
:class:`~transferfn.RTF` or a :class:`~transferfn.Realization`, which a few plain values describe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from transferfn.core import TransferFunction
from transferfn.models.language_config import ConstraintOption
from transferfn.nn import RTF, Realization
from transferfn.nn.options import NumeratorKind
from transferfn.ops.choice import Method


@dataclass(frozen=True, kw_only=True, slots=True)
class Substitute:
    """A bank of filters, all but its coefficients."""

    kind: Literal["rtf", "realization"]
    """Filters that are learned, or fixed ones; these have the fields up to `method` and `dt` only."""

    channels: int
    """Number of channels D."""

    order: int
    """Order n."""

    denominator_groups: int
    """Number of distinct denominators."""

    dtype: Literal["float32", "float64"]
    """Type of the coefficients."""

    method: Method
    """How whole sequences are filtered."""

    horizon: int = 1
    """Samples that RTF refers to."""

    numerator: NumeratorKind = "exact"
    """Which numerator RTF learns."""

    constraint: ConstraintOption = "none"
    """What keeps RTF stable."""

    bidirectional: bool = False
    """Whether there is a second bank, for the future."""

    kernel_dropout: float = 0.0
    """Probability of dropping a tap in training."""

    dt: float | None = None
    """Sampling interval in seconds; None means per sample."""

    def build(self) -> RTF | Realization:
        """Build the layer; its coefficients are for a state dict to fill in."""
        dtype = getattr(torch, self.dtype)
        if self.kind == "realization":
            b, a, h0 = (
                torch.zeros(*shape, dtype=dtype)
                for shape in ((self.channels, self.order), (self.denominator_groups, self.order), (self.channels,))
            )
            return Realization(TransferFunction(b, a, h0, self.dt), method=self.method)
        return RTF(
            self.channels,
            self.order,
            horizon=self.horizon,
            denominator_groups=self.denominator_groups,
            bidirectional=self.bidirectional,
            numerator=self.numerator,
            init="zeros",
            constraint=None if self.constraint == "none" else self.constraint,
            method=self.method,
            kernel_dropout=self.kernel_dropout,
            dt=self.dt,
            dtype=dtype,
        )


def described(layer: RTF | Realization) -> Substitute:
    """Describe a bank of filters.

    Args:
        layer: The filters.

    Example:
        >>> layer = RTF(4, 2, horizon=8, constraint="reflection")
        >>> described(described(layer).build()) == described(layer)
        True
    """
    like = next(iter((*layer.parameters(), *layer.buffers())))
    dtype: Literal["float32", "float64"] = "float64" if like.dtype == torch.float64 else "float32"
    if isinstance(layer, Realization):
        return Substitute(
            kind="realization",
            channels=layer.channels,
            order=layer.order,
            denominator_groups=layer.a.shape[0],
            dtype=dtype,
            method=layer.method,
            dt=layer.dt,
        )
    return Substitute(
        kind="rtf",
        channels=layer.channels,
        order=layer.order,
        denominator_groups=layer.denominator_groups,
        dtype=dtype,
        method=layer.method,
        horizon=layer.horizon,
        numerator=layer.numerator_kind,
        constraint=layer.constraint or "none",
        bidirectional=layer.bidirectional,
        kernel_dropout=layer.kernel_dropout,
        dt=layer.dt,
    )


def substitutes_in(model: nn.Module, original: nn.Module) -> dict[str, Substitute]:
    """Find the filters of a model that are not those another model has in their place.

    Args:
        model: A model.
        original: One that it was made from, or one as its configuration builds it.

    Returns:
        Their descriptions by name; empty if the state dict of the one fits the other.

    Example:
        >>> models = [nn.Sequential(RTF(2, order, horizon=8)) for order in (2, 4)]
        >>> {name: filters.order for name, filters in substitutes_in(*models).items()}
        {'0': 2}
    """
    others = dict(original.named_modules())
    found: dict[str, Substitute] = {}
    for name, layer in model.named_modules():
        if not isinstance(layer, (RTF, Realization)):
            continue
        other = others.get(name)
        if not isinstance(other, (RTF, Realization)) or described(other) != described(layer):
            found[name] = described(layer)
    return found


def put_substitutes(model: nn.Module, substitutes: dict[str, Substitute]) -> None:
    """Put filters in their places, in which the model has others.

    Args:
        model: The model as its configuration builds it; changed.
        substitutes: What :func:`substitutes_in` returned.
    """
    for name, substitute in substitutes.items():
        model.set_submodule(name, substitute.build().train(model.training))
