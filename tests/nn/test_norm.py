from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from transferfn.nn.mixer import valid_samples
from transferfn.nn.norm import BatchNorm, LayerNorm, make_norm

TIGHT = {"rtol": 1e-12, "atol": 1e-12}
D = 3


def pair() -> tuple[BatchNorm, nn.BatchNorm1d]:
    """Our norm and torch's, with the same parameters and running averages."""
    torchs = nn.BatchNorm1d(D).double()
    for tensor in (torchs.weight, torchs.bias, torchs.running_mean, torchs.running_var):
        nn.init.uniform_(tensor, 0.5, 1.5)
    ours = BatchNorm(D).double()
    ours.load_state_dict(torchs.state_dict())
    return ours, torchs


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_state_dict_has_the_names_of_torch() -> None:
    assert list(BatchNorm(D).state_dict()) == list(nn.BatchNorm1d(D).state_dict())
    assert list(LayerNorm(D).state_dict()) == list(nn.LayerNorm(D).state_dict())


@pytest.mark.parametrize("shape", [(4, 7, D), (1, 2, D), (5, 1, D), (6, D)], ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_without_padding_is_batch_norm_of_torch(shape: tuple[int, ...], training: bool) -> None:
    ours, torchs = pair()
    ours.train(training), torchs.train(training)
    u = torch.randn(shape, dtype=torch.float64)
    for _ in range(3):
        assert_close(ours(u), torchs(u.reshape(-1, D)).reshape(shape), **TIGHT)
    assert_close(ours.state_dict(), torchs.state_dict(), **TIGHT)


@pytest.mark.parametrize("lengths", [[5, 2, 0], [5, 5, 5], [2, 0, 0], [1, 0, 1]], ids=str)
@pytest.mark.parametrize("padding", [0.0, 1e9, float("nan"), float("inf")])
def test_padding_is_left_out(lengths: list[int], padding: float) -> None:
    """Values, running averages and all gradients are those of torch's norm over the valid samples packed together."""
    ours, torchs = pair()
    u = torch.randn(3, 5, D, dtype=torch.float64)
    valid = valid_samples(torch.tensor(lengths), 5)
    u = torch.where(valid[..., None], u, padding).requires_grad_()
    packed = u.detach()[valid].requires_grad_()
    y, expected = ours(u, valid)[valid], torchs(packed)
    assert_close(y, expected, **TIGHT)
    assert_close(ours.state_dict(), torchs.state_dict(), **TIGHT)

    weights = torch.randn_like(expected)
    (y * weights).sum().backward()
    (expected * weights).sum().backward()
    assert_close(ours.weight.grad, torchs.weight.grad, **TIGHT)
    assert_close(ours.bias.grad, torchs.bias.grad, **TIGHT)
    assert u.grad is not None
    assert_close(u.grad[valid], packed.grad, **TIGHT)
    assert u.grad[~valid].eq(0).all()


@pytest.mark.parametrize("lengths", [[0, 0], [1, 0]], ids=str)
def test_too_few_samples_leave_the_running_averages_alone(lengths: list[int]) -> None:
    norm, _ = pair()
    before = copy.deepcopy(norm.state_dict())
    y = norm(torch.randn(2, 3, D, dtype=torch.float64), valid_samples(torch.tensor(lengths), 3))
    assert y.isfinite().all()
    assert_close(norm.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_empty_input(training: bool) -> None:
    norm = BatchNorm(D).train(training)
    before = copy.deepcopy(norm.state_dict())
    assert norm(torch.randn(2, 0, D)).shape == (2, 0, D)
    assert norm(torch.randn(2, 0, D), torch.ones(2, 0, dtype=torch.bool)).shape == (2, 0, D)
    assert_close(norm.state_dict(), before, rtol=0, atol=0)


def test_a_single_training_sample_is_refused() -> None:
    with pytest.raises(ValueError, match=r"more than one sample.*\(1, 1, 3\).*eval"):
        BatchNorm(D)(torch.randn(1, 1, D))
    assert BatchNorm(D).eval()(torch.randn(1, 1, D)).shape == (1, 1, D)


def test_gradients_of_masked_statistics() -> None:
    norm, _ = pair()
    valid = valid_samples(torch.tensor([4, 2]), 4)
    u = torch.randn(2, 4, D, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda u: norm(u, valid)[valid], u)
    assert torch.autograd.gradgradcheck(lambda u: norm(u, valid)[valid], u)


@pytest.mark.parametrize("kind", ["batch", "layer"])
@pytest.mark.parametrize("masked", [True, False])
def test_bfloat16_goes_in_and_out(kind: str, masked: bool) -> None:
    norm = make_norm(kind, D)
    assert norm is not None
    u = torch.randn(4, 9, D)
    valid = torch.ones(4, 9, dtype=torch.bool) if masked else None
    narrow = norm(u.bfloat16(), valid)
    assert narrow.dtype == torch.bfloat16
    assert_close(narrow.float(), norm(u, valid), rtol=2e-2, atol=2e-2)


def test_large_offsets_do_not_cancel() -> None:
    u = 1e4 + torch.randn(8, 50, D)
    valid = torch.ones(8, 50, dtype=torch.bool)
    truth = BatchNorm(D).double()(u.double(), valid)
    assert_close(BatchNorm(D)(u, valid).double(), truth, rtol=1e-3, atol=2e-3)


def test_meta_device_then_materialise() -> None:
    with torch.device("meta"):
        norm = BatchNorm(D)
    norm.to_empty(device="cpu").reset_parameters()
    assert_close(norm.state_dict(), nn.BatchNorm1d(D).state_dict(), rtol=0, atol=0)


def test_layer_norm_is_that_of_torch() -> None:
    norm, u = LayerNorm(D), torch.randn(2, 5, D)
    assert_close(norm(u, torch.ones(2, 5, dtype=torch.bool)), nn.LayerNorm(D)(u))


def test_make_norm() -> None:
    assert isinstance(make_norm("batch", D), BatchNorm)
    assert isinstance(make_norm("layer", D), LayerNorm)
    assert make_norm(None, D) is None
