"""How long the filters of a model remember while it learns: the largest pole radius of each filter."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from transferfn.core import stability
from transferfn.core.lattice_system import SMALL
from transferfn.nn import RTF

QUANTILES = {"radius_min": 0.0, "radius_low": 0.1, "radius_median": 0.5, "radius_high": 0.9, "radius_max": 1.0}
"""Columns of the log, and which quantile of the radii each holds."""


@torch.no_grad()
def pole_radii(model: nn.Module) -> Tensor:
    """Return the largest pole radius of each denominator of a model, of both directions, (filters,), float64.

    Args:
        model: The model; one without such layers has none.

    Example:
        >>> pole_radii(nn.Sequential(RTF(2, 4, horizon=16), RTF(3, 4, horizon=16))).shape
        torch.Size([5])
    """
    layers = [layer for layer in model.modules() if isinstance(layer, RTF)]
    return torch.cat([torch.zeros(0, dtype=torch.float64), *(_radii(layer).flatten() for layer in layers)])


def _radii(layer: RTF) -> Tensor:
    if layer.numerator_kind == "lattice" and layer.order <= SMALL:  # whose coefficients may not hold the poles
        return layer.poles().cpu().abs().amax(-1)
    return stability(layer.system().a.cpu()).radius


def radius_row(model: nn.Module) -> dict[str, float]:
    """Return quantiles of the pole radii as a row of the log; an empty one if there are no filters.

    Args:
        model: The model.
    """
    radii = pole_radii(model)
    if not len(radii):
        return {}
    values = torch.quantile(radii, torch.tensor(list(QUANTILES.values()), dtype=radii.dtype))
    return dict(zip(QUANTILES, values.tolist(), strict=True))
