"""Layers under torch.func: vmap over a batch, and gradients of each sample by themselves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from laws.tolerance import relative_error
from transferfn.nn import LRU, RTF, S4, S4D, S5, Attention, Hyena, ImplicitFilter

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "rtf": lambda: RTF(4, 3, horizon=32),
    "rtf-exact": lambda: RTF(4, 3, horizon=32, numerator="exact", constraint="reflection"),
    "s4": lambda: S4(4, 4, horizon=32),
    "s4d": lambda: S4D(4, 4),
    "s5": lambda: S5(4, 4),
    "lru": lambda: LRU(4, 4),
    "hyena": lambda: Hyena(4, filter=lambda: ImplicitFilter(4, horizon=32)),
    "hyena-rtf": lambda: Hyena(4, filter=lambda: RTF(4, 3, horizon=32)),
    "attention": lambda: Attention(4, 2),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.filterwarnings("ignore:There is a performance drop")  # PyTorch's own attention
def test_each_sample_by_itself(name: str, generator: torch.Generator) -> None:
    torch.manual_seed(0)
    layer = LAYERS[name]().double()
    u = torch.randn(3, 2, 20, 4, dtype=torch.float64, generator=generator)
    assert relative_error(vmap(layer)(u), torch.stack([layer(x) for x in u])) < 1e-13

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(layer, parameters, (x,)).square().sum()

    parameters = dict(layer.named_parameters())
    found = vmap(grad(loss), (None, 0))(parameters, u)
    for i, x in enumerate(u):
        layer.zero_grad()
        loss(parameters, x).backward()
        for key, parameter in parameters.items():
            assert parameter.grad is not None
            assert relative_error(found[key][i], parameter.grad) < 1e-10, key
