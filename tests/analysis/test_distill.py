from __future__ import annotations

import numpy as np
import pytest
import torch

from transferfn.analysis.distill import distill, distill_layer, kernel_of, layer_of
from transferfn.analysis.distill_model import distill_model
from transferfn.bench import filters
from transferfn.core.kernel import impulse_response
from transferfn.models import Backbone
from transferfn.nn import RTF, S4D, Hyena, ImplicitFilter, Realization
from transferfn.nn.long_conv import FixedConvolution


def kernels(length: int = 256) -> torch.Tensor:
    """A filter of order 4, a sum of decays as many as no filter has, and noise that decays."""
    t = torch.arange(length, dtype=torch.float64)
    noise = torch.randn(length, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * torch.exp(-t / 40)
    return torch.stack((filters.STABLE["butterworth-n4-0.2"]().impulse_response(length)[0], 1 / (1 + t), noise))


def test_a_filter_of_that_order_is_found_again() -> None:
    h = filters.STABLE["reflections-n16"]()
    found = distill(h.impulse_response(400), 16)
    torch.testing.assert_close(found.system.a, h.a, rtol=0, atol=1e-6)
    assert float(found.error) < 1e-6


def test_errors_are_measured_and_refinement_lowers_them() -> None:
    h = kernels()
    found, closed = distill(h, 8), distill(h, 8, steps=0)
    response = impulse_response(found.system.b, found.system.a, found.system.h0, length=256)
    torch.testing.assert_close(found.error, (response - h).norm(dim=-1) / h.norm(dim=-1))
    torch.testing.assert_close(found.start_error, closed.error)
    assert closed.steps.tolist() == [0, 0, 0]
    assert float(found.error[2]) < 0.97 * float(closed.error[2])
    assert float(found.error[0]) < 1e-5
    assert bool(found.system.stability().stable.all())
    assert "3 filters of order 8" in repr(found)


def test_the_closed_form_is_no_worse_than_balanced_truncation() -> None:
    """The numerator is fitted anew to the same poles, so that the error can only fall."""
    from transferfn.analysis.balanced import response_of
    from transferfn.analysis.hankel import truncate_response

    h = kernels()
    found = distill(h, 8, steps=0, dtype=torch.float64)
    for row, error in zip(h, found.error.tolist(), strict=True):
        theirs = (response_of(truncate_response(row, 8)[1], 256) - row).norm() / row.norm()
        assert error <= float(theirs) * (1 + 1e-9)


def test_a_higher_order_is_nearer() -> None:
    errors = torch.stack([distill(kernels(), order).error for order in (2, 4, 8, 16)])
    assert bool((errors[1:, 1:] < errors[:-1, 1:]).all())


def test_what_rounding_costs_counts() -> None:
    """1 / (1 + t) needs poles that crowd at 1. In float32 fewer of them serve better than what float64 holds."""
    h = kernels()[1:2]
    narrow, wide = distill(h, 16), distill(h, 16, dtype=torch.float64)
    assert float(wide.error) < float(narrow.error)
    assert float(narrow.rounding) < 0.1
    rounded = narrow.system.to(dtype=torch.float32)
    response = impulse_response(rounded.b, rounded.a, rounded.h0, length=256).double()
    assert float((response - h).norm() / h.norm()) < float(narrow.error) + float(narrow.rounding)


def test_zeros_and_gains_stay_what_they_are() -> None:
    h = torch.zeros(2, 32, dtype=torch.float64)
    h[1, 0] = 2.0
    found = distill(h, 4)
    torch.testing.assert_close(found.system.impulse_response(32), h)


@torch.no_grad()
def test_a_model_with_implicit_filters_decodes_by_a_recurrence() -> None:
    torch.manual_seed(0)
    model = Backbone(4, 2, lambda: Hyena(4, filter=lambda: ImplicitFilter(4, horizon=128)), inputs=1).eval()
    names = {f"blocks.{i}.mixer.filters.0" for i in (0, 1)}
    new, found = distill_model(model, 8)
    assert set(found) == names
    assert all(isinstance(new.get_submodule(name), RTF) for name in names)
    assert all(isinstance(model.get_submodule(name), ImplicitFilter) for name in names)
    u = torch.randn(2, 128, 1)
    worst = max(float((one.error + one.rounding).max()) for one in found.values())
    difference = (new(u) - model(u)).norm() / model(u).norm()
    assert float(difference) < 10 * worst
    decoder = new.decoder()
    state = decoder.init_state(2)
    for t in range(40):
        y, state = decoder.step(u[:, t], state)
    torch.testing.assert_close(y, new(u[:, :40])[:, -1], rtol=0, atol=1e-5)


@torch.no_grad()
def test_shared_filters_of_a_hyena_of_higher_order() -> None:
    torch.manual_seed(0)
    layer = Hyena(4, filter=ImplicitFilter(8, horizon=64).split(2), order=3).eval()
    new, found = distill_model(layer, 6)
    assert set(found) == {"filters.0", "filters.1"}
    u = torch.randn(1, 64, 4)
    torch.testing.assert_close(new(u), layer(u), rtol=0, atol=1e-3)


def test_layers_of_every_kind() -> None:
    torch.manual_seed(0)
    h = kernels(64).float()
    layers = {
        "fixed": FixedConvolution(h),
        "rtf": RTF(3, 4, horizon=64),
        "s4d": S4D(3, 8),
        "realization": Realization(RTF(3, 4, horizon=64).transfer_function()),
    }
    for name, layer in layers.items():
        u = torch.zeros(1, 64, 3, dtype=torch.float32)
        u[:, 0] = 1
        kernel = kernel_of(layer, 64)
        torch.testing.assert_close(kernel.mT.float(), layer(u)[0].detach(), rtol=0, atol=1e-5, msg=name)
        new, found = distill_layer(layer, 8, length=64)
        wanted = found.system.impulse_response(64)
        torch.testing.assert_close(new(u)[0].detach().mT.double(), wanted, rtol=0, atol=1e-3)
    with pytest.raises(ValueError, match="S4D has no horizon"):
        distill_layer(layers["s4d"], 4)


def test_filters_that_reflections_do_not_hold_keep_their_coefficients() -> None:
    h = filters.STABLE["butterworth-n8-0.02"]()
    layer = layer_of(h, 100, torch.zeros(()))
    assert isinstance(layer, Realization)
    assert layer.b.dtype == torch.float64
    easy = layer_of(filters.STABLE["montel-n4"](), 100, torch.zeros(()))
    assert isinstance(easy, RTF)
    assert easy.constraint == "reflection"


def test_what_cannot_be_distilled_is_named() -> None:
    h = kernels()
    with pytest.raises(ValueError, match="less than half the 256 samples"):
        distill(h, 128)
    with pytest.raises(ValueError, match=r"shape \(channels, length\)"):
        distill(h[None], 4)
    with pytest.raises(ValueError, match="not finite"):
        distill(torch.where(h > 0.1, torch.nan, h), 4)
    with pytest.raises(ValueError, match=r"nothing to distil: .* no causal S4, S4D or RTF of an order above 2"):
        distill_model(RTF(2, 2, horizon=8), 2)
    with pytest.raises(ValueError, match="looks ahead"):
        kernel_of(RTF(2, 2, horizon=8, bidirectional=True), 8)
    with pytest.raises(TypeError, match="got Linear"):
        kernel_of(torch.nn.Linear(2, 2), 8)
    assert np.isfinite(float(distill(h, 127).error.max()))
