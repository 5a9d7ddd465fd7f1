"""One behaviour where numbers are no longer finite: filters raise, what remembers samples keeps them as they are."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from nn.layers import untyped
from nn.test_siblings import LAYERS
from transferfn.core.dplr import DPLR
from transferfn.core.modal import ModalSystem
from transferfn.core.stability import UnstableFilterWarning
from transferfn.nn import LRU, S4, S4D, S5, Attention, ShortConvolution, StateOverflowError
from transferfn.nn.state_space_realization import DPLRRealization, ModalRealization

F64 = torch.float64
FILTERS = ["rtf", "s4", "s4d", "s5", "lru", "hyena"]
MEMORIES = ["short", "implicit", "attention"]
L = 8


def make(name: str) -> Any:
    torch.manual_seed(0)
    return LAYERS[name]().double().eval()


def spoiled(value: float = torch.nan) -> Tensor:
    u = torch.randn(2, L, 4, dtype=F64, generator=torch.Generator().manual_seed(1))
    u[0, 3, 1] = value
    return u


def test_every_layer_is_one_or_the_other() -> None:
    assert {*FILTERS, *MEMORIES} == set(LAYERS)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("kind", ["layer", "realization"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_filter_says_that_the_input_was_to_blame(name: str, kind: str, value: float) -> None:
    layer = make(name)
    if kind == "realization" and not hasattr(layer, "realize"):
        return
    layer, u = layer if kind == "layer" else layer.realize(), spoiled(value)
    with pytest.raises(StateOverflowError, match=r"after 8 more samples: the input holds values that are not finite"):
        layer.extend(u)
    state = layer.init_state(2)
    with pytest.raises(StateOverflowError, match=r"after 1 more sample: the input holds values that are not finite"):
        layer.step(u[:, 3], state)
    layer.extend(u, lengths=torch.tensor([3, L]))  # not if it lies in the padding
    resets = torch.zeros(2, L, dtype=torch.bool)
    resets[0, 4] = True
    y, _ = layer.extend(u, resets=resets)  # nor before a reset
    fresh, _ = layer.extend(u[:, 4:])
    assert torch.allclose(y[0, 4:], fresh[0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["s4", "s4d", "s5", "lru"])
def test_a_state_that_is_too_large_names_the_radius(name: str) -> None:
    layer = make(name).float()
    state = torch.full_like(layer.init_state(1), torch.finfo(torch.float32).max)
    u = torch.full((1, 4), torch.finfo(torch.float32).max)

    def meet_every_phase() -> None:
        x = state
        for _ in range(20):
            layer.step(u, x)
            x = x.flip(-1) * torch.tensor([1.0, -1.0])

    with pytest.raises(StateOverflowError, match=r"after 1 more sample: the largest pole radius is 0\.\d"):
        meet_every_phase()


@pytest.mark.parametrize("name", MEMORIES)
def test_what_remembers_samples_keeps_them_as_they_are(name: str) -> None:
    """No error: NaN comes out as long as it is remembered, and no longer."""
    layer, u = make(name), spoiled()
    y, state = layer.extend(u)
    assert y[0, 3].isnan().any()
    assert y[1].isfinite().all()
    forgets = isinstance(layer, ShortConvolution)
    assert bool(y[0, 6].isfinite().all()) == forgets
    z, _ = layer.step(u[:, 0], state)
    assert bool(z.isfinite().all()) == forgets
    at_once = torch.ones(2, 1, dtype=torch.bool)
    again, _ = layer.extend(u[:, :1], state, resets=at_once)
    assert torch.allclose(again, layer(u[:, :1]))


def unstable_s5(**options: Any) -> S5:
    torch.manual_seed(0)
    layer = S5(4, 6, **options)
    with torch.no_grad():
        layer.eigenvalue_real.fill_(200.0)
    return layer


@pytest.mark.parametrize("bidirectional", [False, True])
def test_an_unstable_s5_says_so_in_forward(bidirectional: bool) -> None:
    """As RTF does: where the output is no longer finite, though the input is, and not before."""
    layer = unstable_s5(bidirectional=bidirectional)
    u = torch.ones(2, 400, 4)
    told = r"output is no longer finite after 400 samples: the largest pole radius is .*clip_eigenvalues=True"
    with pytest.warns(UnstableFilterWarning, match=told):
        layer(u)
    with pytest.warns(UnstableFilterWarning, match=told):
        layer(u, dt=torch.full((2, 400), 2.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(u[:, :2])
        layer(u, lengths=torch.tensor([2, 0]))
        layer(u * torch.nan)


@untyped  # the hook's frames would count
def test_an_unstable_modal_realization_says_so() -> None:
    one = torch.ones(1, 2, dtype=torch.complex64)
    system = ModalSystem(1.5 * one, one, one, torch.zeros(1))
    layer, u = ModalRealization(system, dtype=torch.float32), torch.ones(1, 300, 1)
    with pytest.warns(UnstableFilterWarning, match=r"grows by a factor of up to 1\.5 a sample") as caught:
        state = layer.init_state(1)
    with pytest.warns(UnstableFilterWarning) as caught_too:
        layer.extend(u[:, :3])
    assert [one.filename for one in (*caught, *caught_too)] == [__file__] * 2
    with pytest.warns(UnstableFilterWarning, match=r"output is no longer finite after 300 samples: .* is 1\.5"):
        layer(u)
    with pytest.raises(StateOverflowError, match=r"after 300 more samples: the largest pole radius is 1\.5"):
        layer.extend(u, state)


def test_an_unstable_dplr_realization_names_its_radius() -> None:
    """Layers are never unstable: the real parts of A are negative whatever they learn."""
    one = torch.ones(1, 1, dtype=torch.complex128)
    system = DPLR(one, 0 * one[None], one, torch.ones(1, dtype=F64)).bilinear(one, torch.zeros(1, dtype=F64))
    layer = DPLRRealization(system, dtype=F64)
    with pytest.raises(StateOverflowError, match=r"the largest pole radius is 3\. "):
        layer.extend(torch.ones(1, 1000, 1, dtype=F64))


@pytest.mark.parametrize("make", [lambda: S4(4, 6, horizon=L), lambda: S4D(4, 6), lambda: LRU(4, 3)])
def test_states_of_stable_layers_are_made_in_silence(make: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make().extend(torch.ones(1, L, 4), make().init_state(1))
        make().extend(torch.ones(1, L, 4))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_attention_is_differentiable_after_a_reset_from_nan(bidirectional: bool, value: float) -> None:
    """Values and gradients are those of a fresh start, whatever came before."""
    torch.manual_seed(0)
    layer = Attention(4, 2, bidirectional=bidirectional, dtype=F64)
    u = spoiled(value).requires_grad_()
    resets = torch.zeros(2, L, dtype=torch.bool)
    resets[:, 4] = True

    def gradients(loss: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(loss, (u, *layer.parameters()))

    y = layer(u, resets=resets)
    assert y[0, 3].isnan().all()
    found = gradients(y[:, 4:].square().sum())
    expected = gradients(layer(u[:, 4:]).square().sum())
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)


def test_attention_is_differentiable_when_the_chunk_before_held_nan() -> None:
    torch.manual_seed(0)
    layer, u = Attention(4, 2, dtype=F64), spoiled()
    begins = torch.zeros(2, L, dtype=torch.bool)
    begins[:, 0] = True
    _, state = layer.extend(u, resets=begins)
    assert state[0][0].isnan().any()
    later = torch.randn(2, L, 4, dtype=F64)
    seen, _ = layer.extend(later, state)
    assert seen[0].isnan().all()
    y, _ = layer.extend(later, state, resets=begins)
    found = torch.autograd.grad(y.square().sum(), list(layer.parameters()))
    expected = torch.autograd.grad(layer(later).square().sum(), list(layer.parameters()))
    assert all(torch.allclose(*pair, rtol=1e-9, atol=1e-12) for pair in zip(found, expected, strict=True))
