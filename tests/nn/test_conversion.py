"""State-space layers as transfer functions: a trained one decodes as an RTF does."""

from __future__ import annotations

import pytest
import torch

from laws.tolerance import relative_error
from transferfn.nn import LRU, S4, S4D, S5, NotCausalError, Realization, Stream
from transferfn.nn.state_space import StateSpaceMixer


def trained(layer: StateSpaceMixer, steps: int = 30) -> StateSpaceMixer:
    """After some steps towards a moving average."""
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(layer.param_groups(lr=1e-3), lr=1e-2)
    u = torch.randn(4, 200, layer.channels)
    target = u.unfold(1, 5, 1).mean(-1)
    losses = []
    for _ in range(steps):
        loss = (layer(u)[:, 4:] - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    return layer.double()


@pytest.mark.parametrize(
    "layer",
    [
        lambda: S4D(4, 16, dt_min=0.1, dt_max=0.3),
        lambda: S4D(4, 8, init="legs", discretization="bilinear", dt_min=0.1, dt_max=0.5),
        lambda: S4D(4, 3, init="real", dt_min=0.1, dt_max=0.5),
        lambda: S4(4, 8, horizon=256, dt_min=0.1, dt_max=0.5),
    ],
    ids=["s4d-lin", "s4d-legs", "s4d-real", "s4"],
)
def test_a_trained_layer_decodes_as_a_transfer_function(layer) -> None:
    torch.manual_seed(0)
    one = trained(layer())
    system, error = one.to_transfer_function(500)
    assert float(error.max()) < 1e-7
    assert system.order == (one.state_space().poles().shape[-1])
    decoder = Realization(system)
    u = torch.randn(2, 300, 4, dtype=torch.float64)
    expected = one(u)
    allowed = 1e-10 + 100 * float(error.max())
    assert relative_error(decoder(u), expected) < allowed
    stream = Stream(decoder, 2)
    found = torch.cat([stream(block) for block in u.split(64, 1)], 1)
    assert relative_error(found, expected) < allowed


@pytest.mark.parametrize(
    "make",
    [
        lambda channels: S5(channels, 8, dt_min=0.1, dt_max=0.5),
        lambda channels: S5(channels, 8, conj_sym=False, dt_min=0.1, dt_max=0.5),
        lambda channels: LRU(channels, 4, r_min=0.3, r_max=0.9),
    ],
    ids=["s5", "s5-full", "lru"],
)
def test_layers_whose_channels_share_their_states(make) -> None:
    torch.manual_seed(0)
    layer = make(1).double()
    system, error = layer.to_transfer_function(400)
    assert float(error) < 1e-7
    u = torch.randn(2, 100, 1, dtype=torch.float64)
    assert relative_error(Realization(system)(u), layer(u)) < 1e-6
    again, _ = layer.realize().to_transfer_function(400)  # which has no parameters
    assert relative_error(again.a, system.a) < 1e-5
    with pytest.raises(ValueError, match=r"3 channels that share their states is 3\^2 filters"):
        make(3).to_transfer_function(400)


def test_what_coefficients_cannot_hold_is_refused() -> None:
    torch.manual_seed(0)
    with pytest.raises(ArithmeticError, match=r"coefficients do not hold 4 of 4 filters.*keep the modal form"):
        S4D(4, 32, dt_min=1e-3, dt_max=2e-3).to_transfer_function(1000)


def test_both_directions_have_no_transfer_function() -> None:
    with pytest.raises(NotCausalError):
        S4D(4, 8, bidirectional=True).to_transfer_function(100)
