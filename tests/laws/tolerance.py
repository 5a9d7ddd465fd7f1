"""How far two ways to compute the same thing may be apart: c * eps * kappa, relative to the largest value."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from transferfn.core import TransferFunction

# Measured over every comparison of this folder (values, states and all gradients; both types; lengths to 4001): the
# worst error was 10 eps kappa, in the gradient of a feedthrough of montel at length 4001, a sum of 8,000 terms of
# random sign at kappa = 1.7. Where kappa exceeds 100 the worst was 3.
C = 20.0

CIRCLE = 4096  # points of the unit circle at which the smallest |A| is looked for


def kappa(module: nn.Module) -> float:
    """How much the worst filter of a module amplifies rounding; layers in series multiply."""
    product = 1.0
    for child in module.modules():
        if hasattr(child, "transfer_function"):
            product *= kappa_of(child.system() if hasattr(child, "system") else child.transfer_function())
        elif hasattr(child, "poles"):
            product *= kappa_of_poles(child.poles())
        elif hasattr(child, "state_space"):
            product *= kappa_of_states(child)
    return product


def kappa_of(system: object) -> float:
    """kappa = max over channels of (1 + sum|a_i|) / min_m |A(w_m)|."""
    a = system.a.detach().to("cpu", torch.float64)
    return float(TransferFunction(torch.zeros_like(a), a, torch.zeros_like(a[..., 0])).conditioning(CIRCLE).max())


def kappa_of_poles(poles: Tensor) -> float:
    """The same for parallel filters of order 1, 1 / (1 - p z^-1), on the whole unit circle: (1 + |p|) / (1 - |p|)."""
    radius = poles.detach().to("cpu").abs().double()
    return float(((1 + radius) / (1 - radius)).max())


@torch.no_grad()
def kappa_of_states(layer: Any) -> float:
    """That of the poles; truncated output vectors are converted by solving with I - A^P, which amplifies, too."""
    A = layer.state_space().A.cpu()  # modes (D, N), or matrices (D, N, N)
    if A.dim() == 2:
        return kappa_of_poles(A)
    rest = torch.eye(A.shape[-1], dtype=A.dtype) - torch.linalg.matrix_power(A, getattr(layer, "horizon", 0))
    conversion = float(torch.linalg.cond(rest).max()) if hasattr(layer, "horizon") else 1.0
    return conversion * kappa_of_poles(torch.linalg.eigvals(A))


def tolerance(module: nn.Module, dtype: torch.dtype) -> float:
    return C * torch.finfo(dtype).eps * kappa(module)


def relative_error(found: Tensor, expected: Tensor, scale: float | None = None) -> float:
    """Largest difference, relative to the largest value or a given scale; infinite where a side is not finite."""
    assert found.shape == expected.shape, f"{tuple(found.shape)} is not {tuple(expected.shape)}"
    if not expected.numel():
        return 0.0
    found, expected = found.detach().double(), expected.detach().double()
    difference = float((found - expected).abs().max().nan_to_num(nan=torch.inf))
    scale = float(expected.abs().max()) if scale is None else scale
    return difference / scale if scale > 0 else (0.0 if difference == 0 else torch.inf)


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], allowed: float) -> None:
    """Compare what runs came to, each value relative to its largest entry.

    A gradient may be zero because its terms cancel. What remains of them is their rounding, so that it is measured on
    the largest of all gradients.
    """
    assert found.keys() == expected.keys()
    steepest = max((float(x.abs().max()) for k, x in expected.items() if "gradient" in k and x.numel()), default=0.0)
    wrong = []
    for name, value in expected.items():
        scale = float(value.abs().max()) if value.numel() else 0.0
        if "gradient" in name:
            scale += C * torch.finfo(found[name].dtype).eps / allowed * steepest
        error = relative_error(found[name], value, scale)
        if not error <= allowed:
            wrong.append(f"{name} is off by {error:.2g}")
    assert not wrong, f"allowed {allowed:.2g}, but " + ", ".join(wrong)
