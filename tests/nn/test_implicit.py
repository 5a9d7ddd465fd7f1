"""The implicit filter against the official numbers, and convolutions that end at a horizon. The laws hold the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from laws.runs import outcome, reset_mask, signal
from laws.tolerance import C, assert_same, relative_error
from nn.layers import F64, untyped
from nn.test_hyena import GOLDEN, golden, official_filter
from transferfn.models import Backbone
from transferfn.nn import FixedConvolution, Hyena, ImplicitFilter
from transferfn.nn.implicit import positional_features
from transferfn.nn.long_conv import FilterBank

FILTERS = [str(name) for name in GOLDEN["cases"]]
D, M = 4, 16
EPS = torch.finfo(F64).eps


def allowed(case: str, dtype: torch.dtype) -> float:
    return 1e-11 if dtype == F64 else 1e-3 if case == "filter_emb5_w10" else 1e-4


@pytest.mark.parametrize("dtype", [F64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("case", FILTERS)
def test_official_numbers(case: str, dtype: torch.dtype) -> None:
    """Of filters alone and inside of operators."""
    numbers = golden(case)
    layer = official_filter(numbers, len(numbers["k"])).to(dtype)
    assert relative_error(layer.kernel_without_skip(numbers["L"]), numbers["k"]) <= allowed(case, dtype)
    if numbers["modulate"]:
        assert relative_error(layer.decay_rates(), numbers["deltas"].abs()) <= 1e-15
    if numbers["z_is_initial"]:
        z = positional_features(numbers["seq_len"], numbers["emb_dim"])
        assert relative_error(z, numbers["z"]) <= 1e-14
    if "x" in numbers:
        assert relative_error(layer(numbers["x"].mT.to(dtype)).mT, numbers["y_filter"]) <= allowed(case, dtype)


def test_there_are_official_numbers() -> None:
    assert len(FILTERS) == 12
    assert {bool(golden(case)["normalized"]) for case in FILTERS} == {False, True}


# -------------------------------------------------------------------------------------------------- convolutions


def make(**options: Any) -> ImplicitFilter:
    torch.manual_seed(0)
    return ImplicitFilter(D, horizon=M, width=8, dtype=F64, **options)


def by_loops(layer: ImplicitFilter, u: Tensor, lengths: list[int], cuts: list[list[int]], past: Any) -> Tensor:
    """Sums over what came before in the same sequence, the samples of a state included."""
    h = layer.kernel(M)
    rows = []
    for row, (length, begins) in enumerate(zip(lengths, cuts, strict=True)):
        before = list(past[0][row, past[0].shape[1] - int(past[1][row]) :]) if past is not None else []
        samples = []
        for t in range(u.shape[1]):
            before = [*([] if t in begins else before), u[row, t]]
            y = sum(h[:, lag] * sample for lag, sample in enumerate(reversed(before))) if t < length else 0 * u[row, t]
            samples.append(y)
        rows.append(torch.stack(samples))
    return torch.stack(rows)


@pytest.mark.parametrize("length", [1, 2, 9])
@pytest.mark.parametrize("start", ["rest", "state"])
@pytest.mark.parametrize("bounded", [False, True])
def test_is_the_sum_it_says(length: int, start: str, bounded: bool) -> None:
    layer, u = make(), signal(3, length, D)
    state = None
    if start == "state":
        state = layer.extend(signal(3, 7, D, seed=1), lengths=torch.tensor([7, 0, 3]))[1]
        state = (state[0].detach(), state[1])
    lengths, cuts = [length] * 3, [[], [], []]
    bounds = {}
    if bounded:
        lengths, cuts = [length, length - 1, 0], [[length - 1], [0], []]
        bounds = {"lengths": torch.tensor(lengths), "resets": reset_mask(cuts, length)}
    expected = outcome(layer, lambda layer, u, state: (by_loops(layer, u, lengths, cuts, state), None), u, state)
    found = outcome(layer, lambda layer, u, state: (layer.extend(u, state, **bounds)[0], None), u, state)
    assert_same(found, expected, C * EPS)


def test_skip_is_part_of_the_response() -> None:
    layer = make()
    assert layer.skip is not None
    k, h = layer.kernel_without_skip(), layer.kernel(M)
    assert torch.equal(h[:, 0], k[:, 0] + layer.skip)
    assert torch.equal(h[:, 1:], k[:, 1:])
    plain = make(skip=False)
    assert plain.skip is None
    assert torch.equal(plain.kernel(5), plain.kernel_without_skip(5))
    assert not any("skip" in name for name, _ in plain.named_parameters())


def test_a_shorter_kernel_is_the_beginning_of_a_longer_one() -> None:
    layer = make()
    assert relative_error(layer.kernel_without_skip(5), layer.kernel_without_skip()[:, :5]) <= C * EPS
    assert layer.kernel_without_skip(0).shape == (D, 0)
    assert ImplicitFilter(2, horizon=1).kernel_without_skip().isfinite().all()
    with pytest.raises(ValueError, match=r"length must lie in 0..16, the horizon, got 17"):
        layer.kernel_without_skip(M + 1)


def test_the_horizon_is_that_of_sequences() -> None:
    """Not of the signal: after a reset there is a new one, and rows that are shorter do not count."""
    layer, u = make(), signal(2, 2 * M, D)
    message = rf"a sequence has {M + 1} samples, but the kernel of this ImplicitFilter is known for horizon={M} samples"
    with pytest.raises(ValueError, match=message):
        layer(u[:, : M + 1])
    with pytest.raises(ValueError, match=message):
        layer(u, resets=reset_mask([[M - 1], [M]], 2 * M))
    y = layer(u, resets=reset_mask([[M], [M]], 2 * M))
    assert relative_error(y[:, M:], layer(u[:, M:])) <= C * EPS
    y = layer(u, lengths=torch.tensor([M, 3]))
    assert relative_error(y[:, :M], layer(u[:, :M], lengths=torch.tensor([M, 3]))) <= C * EPS
    with pytest.raises(ValueError, match=message):
        layer(u, lengths=torch.tensor([M + 1, 3]))

    _, state = layer.extend(u[:, :M])
    with pytest.raises(ValueError, match=message):
        layer.step(u[:, 0], state)
    _, state = layer.extend(u[:, :M], lengths=torch.tensor([M, 4]))
    y, _ = layer.extend(u[:, :5], state, lengths=torch.tensor([0, 5]))
    expected, _ = layer.extend(torch.cat((u[1:, :4], u[1:, :5]), 1))
    assert relative_error(y[1:], expected[:, 4:]) <= C * EPS


def test_a_stream_goes_on_for_ever_with_resets() -> None:
    layer, u = make().realize(), signal(1, 5 * M, D)
    resets = reset_mask([[t for t in range(5 * M) if t % 7 == 0]], 5 * M)
    state, sizes = None, set()
    for t in range(0, 5 * M, 4):
        y, state = layer.extend(u[:, t : t + 4], state, resets=resets[:, t : t + 4])
        sizes.add(state[0].shape[1])
    assert max(sizes) <= 7
    assert relative_error(y, layer(u, resets=resets)[:, -4:]) <= C * EPS


def test_realized_it_has_no_parameters() -> None:
    layer, u = make(), signal(2, M, D)
    fixed = layer.realize()
    assert isinstance(fixed, FixedConvolution)
    assert not list(fixed.parameters())
    assert relative_error(fixed(u), layer(u)) <= C * EPS
    assert layer.realize(torch.float32).response.dtype == torch.float32
    assert layer.realize(torch.bfloat16).response.dtype == torch.float32
    assert repr(fixed) == "FixedConvolution(channels=4, horizon=16, dtype=torch.float64)"


# -------------------------------------------------------------------------------------------------------- shares


def test_shares_are_channels_of_the_whole() -> None:
    whole = make()
    banks = whole.split(2)
    h = whole.kernel(M)
    for index, bank in enumerate(banks):
        assert torch.equal(bank.kernel(M), h[index::2])
        assert (bank.channels, bank.horizon) == (2, M)
        assert relative_error(bank.realize()(signal(1, 9, 2)), bank(signal(1, 9, 2))) <= C * EPS
    model = torch.nn.Sequential(*banks)
    assert len(list(model.parameters())) == len(list(whole.parameters()))
    assert len(model.state_dict()) == len(list(whole.parameters())) + 1  # and the horizon
    assert banks[1].init_state(3)[0].dtype == F64
    assert banks[1].extra_repr() == "channels=2, index=1, banks=2"
    for index, number in ((2, 2), (-1, 2), (0, 3), (0, 0)):
        with pytest.raises(ValueError, match=rf"got banks={number}, index={index}"):
            FilterBank(whole, index, banks=number)


# ------------------------------------------------------------------------------------------------------- options


@untyped
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"channels": 0}, ValueError, "channels must be at least 1, got 0"),
        ({"horizon": 0}, ValueError, "horizon must be at least 1, got 0"),
        ({"width": 0}, ValueError, "width must be at least 1, got 0"),
        ({"hidden": 0}, ValueError, "hidden must be at least 1, got 0"),
        ({"horizon": 9.5}, TypeError, "horizon is a whole number, got 9.5"),
        ({"features": 4}, ValueError, "features must be odd.*got features=4"),
        ({"decay": (0.3, 0.0)}, ValueError, r"positive fractions of the horizon.*, got \(0.3, 0.0\)"),
        ({"decay": (0.3,)}, ValueError, r"got \(0.3,\)"),
        ({"decay_target": 1.0}, ValueError, "decay_target must lie between 0 and 1, got 1.0"),
        ({"decay": None, "shift": 0.1}, ValueError, "decay=None means none; got shift=0.1"),
    ],
    ids=lambda x: str(x) if isinstance(x, dict) else "",
)
def test_wrong_options_are_named(options: dict[str, Any], error: type[Exception], message: str) -> None:
    sizes: dict[str, Any] = {"channels": D, "horizon": M}
    with pytest.raises(error, match=message):
        ImplicitFilter(**(sizes | options))


def test_no_modulation_has_no_rates() -> None:
    with pytest.raises(ValueError, match="decay=None"):
        make(decay=None).decay_rates()


def test_modulation_falls_to_its_target() -> None:
    """The first channel after a fraction of 2/3 of the horizon, the last after 1/3."""
    horizon = 31
    layer = ImplicitFilter(2, horizon=horizon, decay=(2 / 3, 1 / 3), decay_target=0.1, dtype=F64)
    plain = ImplicitFilter(2, horizon=horizon, decay=None, dtype=F64)
    plain.load_state_dict(layer.state_dict())
    modulation = layer.kernel_without_skip() / plain.kernel_without_skip()
    assert modulation[0, 20].item() == pytest.approx(0.1)
    assert modulation[1, 10].item() == pytest.approx(0.1)


def test_only_time_is_a_feature_of_one() -> None:
    assert positional_features(5, 1)[:, 0].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert make(features=1).kernel_without_skip().isfinite().all()


def test_draws_come_from_a_generator() -> None:
    layer, other = make(frequency=10.0, learned_features=True), make(frequency=10.0, learned_features=True)
    for one in (layer, other):
        one.reset_parameters(torch.Generator().manual_seed(1))
    assert all(torch.equal(x, y) for x, y in zip(layer.parameters(), other.parameters(), strict=True))
    assert torch.equal(layer.frequencies, torch.full((8,), 10.0, dtype=F64))
    assert layer.positions is not None
    assert torch.equal(layer.positions, positional_features(M, 3))
    other.reset_parameters(torch.Generator().manual_seed(2))
    assert not torch.equal(layer.kernel_without_skip(), other.kernel_without_skip())


def test_coefficients_are_never_narrow() -> None:
    assert {x.dtype for x in ImplicitFilter(D, horizon=M, dtype=torch.bfloat16).parameters()} == {torch.float32}
    layer = make().float()
    u = signal(2, 9, D).bfloat16()
    expected = layer(u.float()).bfloat16()
    assert torch.equal(layer.bfloat16()(u), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(u), expected)
        _, state = layer.extend(u[:, :8])
        assert state[0].dtype == torch.float32
        assert relative_error(layer.step(u[:, 8], state)[0].float(), expected[:, 8].float()) <= 2**-7


@untyped
def test_wrong_states_are_named() -> None:
    with pytest.raises(ValueError, match=r"expected a state of shapes \(\(2, 'T', 4\), \(2,\)\).*got a Tensor"):
        make().extend(signal(2, 5, D), torch.zeros(2, 3, D))


def test_param_groups() -> None:
    layer = make()
    (group,) = layer.param_groups(lr=0.0)
    assert (len(group["params"]), group["lr"], "weight_decay" in group) == (len(list(layer.parameters())), 0.0, False)


def test_learned_features_learn_at_their_own_rate() -> None:
    """That of the official code, alone and as a filter of Hyena in a model."""
    own, features = make(learned_features=True).param_groups(lr=1e-3, weight_decay=0.1)
    assert (len(own["params"]), own["lr"], own["weight_decay"]) == (9, 1e-3, 0.1)
    assert (len(features["params"]), features["lr"], features["weight_decay"]) == (1, 1e-5, 0.0)
    model = Backbone(4, 2, lambda: Hyena(4, filter=lambda: make(learned_features=True)), inputs=1)
    groups = model.param_groups(lr=0.1, weight_decay=0.5, filter_lr=0.01)
    rates = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    found = {name for name, p in model.named_parameters() if rates[id(p)] == (1e-5, 0.0)}
    assert found == {f"blocks.{i}.mixer.filters.0.positions" for i in range(2)}


def test_print() -> None:
    assert make().extra_repr() == "4, horizon=16, features=3, width=8, decay=(1.5, 0.3), decay_target=0.01, shift=0.0"
    assert make(normalized=True).extra_repr().endswith(", normalized=True")
    assert np.prod(GOLDEN["filter_emb3/k"].shape) == 4 * 48


def test_parameters_of_another_horizon_are_refused() -> None:
    """Their shapes would fit, but time is counted in shares of the horizon."""
    with pytest.raises(RuntimeError, match="relative to a horizon of 8 samples, that of this layer to 16"):
        ImplicitFilter(4, horizon=16).load_state_dict(ImplicitFilter(4, horizon=8).state_dict())
