"""Distillation of the filters of a whole model."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

from transferfn.analysis.distill import Distillation, check_order, distill_layer, replaced
from transferfn.nn import RTF, S4, S4D
from transferfn.nn.long_conv import LongConvolution

Distillable = LongConvolution | S4 | S4D | RTF


def distill_model(
    model: nn.Module,
    order: int,
    *,
    length: int | None = None,
    steps: int = 20,
    progress: Callable[[str], object] | None = None,
) -> tuple[nn.Module, dict[str, Distillation]]:
    """Replace the filters of a model by ones of a chosen order that decode recurrently.

    These are all long convolutions, such as Hyena's implicit filters, and those of S4, S4D and RTF that are of a higher
    order. Filters that look ahead are left as they are.

    Args:
        model: Any module; it is left as it is.
        order: Order n of the new filters.
        length: Number of samples of the kernels that count, for layers without a horizon; None refuses them.
        steps: As for :func:`~transferfn.analysis.distill.distill`.
        progress: Called with the name of each layer that is done.

    Returns:
        A copy of the model with :func:`~transferfn.analysis.distill.distill_layer` of each of them in its place; and
        what each cost, by its name.

    Raises:
        ValueError: if there is nothing to distil in the model, the order does not fit a kernel, or a layer has no
            horizon and no length is given.

    Example:
        >>> from transferfn.nn import Hyena, ImplicitFilter
        >>> layer = Hyena(4, filter=lambda: ImplicitFilter(4, horizon=32))
        >>> distilled, found = distill_model(layer, order=8)
        >>> list(found), type(distilled.filters[0]).__name__
        (['filters.0'], 'RTF')
    """
    layers = check_distillable(model, order, length=length)
    found: dict[str, Distillation] = {}
    fresh: dict[str, nn.Module] = {}
    for name, layer in layers.items():
        own = length if getattr(layer, "horizon", None) is None else None
        fresh[name], found[name] = distill_layer(layer, order, length=own, steps=steps)
        if progress is not None:
            progress(name)
    return replaced(model, fresh), found


def check_distillable(model: nn.Module, order: int, *, length: int | None = None) -> dict[str, Distillable]:
    """The layers that :func:`distill_model` replaces, if it can: what it refuses is refused before any work.

    Args:
        model: Any module.
        order: Order n of the new filters.
        length: As for :func:`distill_model`.

    Raises:
        ValueError: if there is nothing to distil in the model, or the order does not fit a kernel.

    Example:
        >>> list(check_distillable(nn.Sequential(RTF(4, 8, horizon=32)), 4))
        ['0']
    """
    layers = distillable(model, order)
    if not layers:
        raise ValueError(
            f"this {type(model).__name__} has nothing to distil: no long convolution, and no causal S4, S4D or RTF of "
            f"an order above {order}"
        )
    for layer in layers.values():
        samples = length if (horizon := getattr(layer, "horizon", None)) is None else horizon
        if samples is not None:
            check_order(order, samples)
    return layers


def distillable(model: nn.Module, order: int) -> dict[str, Distillable]:
    """The layers of a model that :func:`distill_model` replaces, by name.

    Args:
        model: Any module.
        order: Order n of the new filters.

    Example:
        >>> list(distillable(nn.Sequential(RTF(4, 8, horizon=32), S4D(4, 2)), 4))
        ['0']
    """
    found: dict[str, Distillable] = {}
    for name, layer in model.named_modules():
        if not isinstance(layer, (LongConvolution, S4, S4D, RTF)) or not layer.is_causal:
            continue
        within = any(not outer or name.startswith(f"{outer}.") for outer in found)  # a bank's own filters
        size = math.inf if isinstance(layer, LongConvolution) else _order(layer)
        if not within and size > order:
            found[name] = layer
    return found


def _order(layer: S4 | S4D | RTF) -> int:
    return layer.order if isinstance(layer, RTF) else layer.state_size
