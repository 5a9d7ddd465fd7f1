"""Hyena against the official numbers and against a loop that spells it out. The laws hold the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from laws.runs import leaves, outcome, reset_mask, signal
from laws.tolerance import assert_same, relative_error, tolerance
from nn.layers import F64, untyped
from transferfn.models import Backbone, Classifier
from transferfn.nn import RTF, Hyena, ImplicitFilter, NotCausalError, SequenceMixer, Stream

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "hyena.npz")
OPERATORS = [str(name) for name in GOLDEN["cases"] if str(name).startswith("operator")]
D, P = 4, 32


def golden(case: str) -> dict[str, Any]:
    """The arrays of a case as tensors, its sizes and options as numbers."""
    found = {name.split("/")[1]: GOLDEN[name] for name in GOLDEN.files if name.startswith(case + "/")}
    return {name: torch.from_numpy(x) if x.ndim else x.item() for name, x in found.items()}


def official_filter(numbers: dict[str, Any], channels: int) -> ImplicitFilter:
    """The filter of a case, with the parameters of the official code."""
    layer = ImplicitFilter(
        channels,
        horizon=numbers["seq_len"],
        features=numbers["emb_dim"],
        width=numbers["width"],
        hidden=numbers["num_hidden"],
        decay=(numbers["slow_decay_pct"], numbers["fast_decay_pct"]) if numbers["modulate"] else None,
        decay_target=numbers["decay_target"],
        shift=numbers["shift"],
        normalized=bool(numbers["normalized"]),
        learned_features=not numbers["z_is_initial"],
        dtype=F64,
    )
    state = {"frequencies": numbers["freq"], "readout.weight": numbers["W_out"], "skip": numbers["skip_bias"]}
    for q in range(numbers["num_hidden"]):
        state |= {f"layers.{q}.weight": numbers[f"W{q}"], f"layers.{q}.bias": numbers[f"c{q}"]}
    if not numbers["z_is_initial"]:
        state["positions"] = numbers["z"]
    layer.load_state_dict(state | {"_extra_state": layer.get_extra_state()})
    return layer


def official_operator(numbers: dict[str, Any]) -> Hyena:
    """The operator of a case; its filters share one network, as the official ones do."""
    channels, order = numbers["D"], numbers["order"]
    filters = official_filter(numbers, channels * (order - 1)).split(order - 1)
    layer = Hyena(channels, filter=filters, order=order, dtype=F64)
    with torch.no_grad():
        layer.input.weight.copy_(numbers["in_proj_W"])
        layer.input.bias.copy_(numbers["in_proj_b"])
        layer.short.taps.copy_(numbers["short_W"].flip(-1))
        assert layer.short.bias is not None
        layer.short.bias.copy_(numbers["short_b"])
        layer.output.weight.copy_(numbers["out_proj_W"])
        layer.output.bias.copy_(numbers["out_proj_b"])
    return layer


@pytest.mark.parametrize(("dtype", "allowed"), [(F64, 1e-11), (torch.float32, 1e-4)], ids=["f64", "f32"])
@pytest.mark.parametrize("case", OPERATORS)
def test_official_numbers(case: str, dtype: torch.dtype, allowed: float) -> None:
    """In one piece and in steps, also realized."""
    numbers = golden(case)
    layer, u = official_operator(numbers).to(dtype), numbers["u"].to(dtype)
    assert relative_error(layer(u), numbers["y"]) <= allowed
    stream = Stream(layer.realize(), len(u))
    assert relative_error(torch.stack([stream(u_t) for u_t in u.unbind(1)], 1), numbers["y"]) <= allowed


def test_there_are_official_numbers() -> None:
    assert len(OPERATORS) == 4
    assert {golden(case)["order"] for case in OPERATORS} == {2, 3}


# ------------------------------------------------------------------------------------------------- naive twin


def by_loops(layer: Hyena, u: Tensor, lengths: list[int], cuts: list[list[int]]) -> Tensor:
    """Each row and sample by itself, a short and a long sum over the past of its sequence."""
    responses = [response_of(mixer, u.shape[1]) for mixer in layer.filters]
    inner = u @ layer.input.weight.T + layer.input.bias
    rows = []
    for row, (length, begins) in enumerate(zip(lengths, cuts, strict=True)):
        begun = [max([0, *(t for t in begins if t <= s)]) for s in range(length)]
        short = [
            layer.short.bias
            + sum(layer.short.taps[:, lag] * inner[row, s - lag] for lag in range(min(3, s - begun[s] + 1)))
            for s in range(length)
        ]
        *gates, v = torch.stack(short).chunk(layer.order + 1, -1) if length else [u[row, :0]] * (layer.order + 1)
        for k, response in enumerate(responses):
            v = v * gates[layer.order - 1 - k]
            v = torch.stack(
                [sum(response[:, s - r] * v[r] for r in range(begun[s], s + 1)) for s in range(length)] or [u[row, 0]]
            )[:length]
        y = (gates[0] * v) @ layer.output.weight.T + layer.output.bias
        rows.append(torch.cat((y, torch.zeros_like(u[row, length:]))))
    return torch.stack(rows)


def response_of(mixer: Any, length: int) -> Tensor:
    if isinstance(mixer, RTF):
        return mixer.transfer_function().impulse_response(length)
    return mixer.kernel(length)


def make(kind: str, order: int = 2, **options: Any) -> Hyena:
    torch.manual_seed(0)
    filters: dict[str, Any] = {
        "rtf": lambda: RTF(D, 3, horizon=P),
        "implicit": lambda: ImplicitFilter(D, horizon=P, width=8),
        "shared": ImplicitFilter(D * (order - 1), horizon=P, width=8).split(order - 1),
    }
    return Hyena(D, filter=filters[kind], order=order, **options).double().eval()


KINDS = [("rtf", 2), ("rtf", 3), ("implicit", 2), ("implicit", 4), ("shared", 3)]
kinds = pytest.mark.parametrize(("kind", "order"), KINDS, ids=lambda x: str(x))


@kinds
def test_is_the_sums_it_says(kind: str, order: int) -> None:
    """In values and all gradients, with rows of different length that begin anew."""
    lengths, cuts = [13, 6, 0], [[4, 12], [0, 3], []]
    layer, u = make(kind, order), signal(3, 13, D)
    bounds = {"lengths": torch.tensor(lengths), "resets": reset_mask(cuts, 13)}
    expected = outcome(layer, lambda layer, u, _: (by_loops(layer, u, lengths, cuts), None), u)
    found = outcome(layer, lambda layer, u, _: (layer(u, **bounds), None), u)
    assert_same(found, expected, tolerance(layer, F64))


# ------------------------------------------------------------------------------------------------------- states


def test_recurrent_filters_make_it_a_recurrence() -> None:
    """Of constant size, beyond the horizon, too."""
    layer = make("rtf")
    u = signal(2, 3 * P, D)
    _, state = layer.extend(u)
    assert [tuple(x.shape) for x in leaves(state)] == [(2, 3 * D, 2), (2, D, 3)]
    y, after = layer.extend(u[:, : 2 * P])
    steps = []
    for u_t in u[:, 2 * P :].unbind(1):
        y_t, after = layer.step(u_t, after)
        steps.append(y_t)
    assert relative_error(torch.cat((y, torch.stack(steps, 1)), 1), layer(u)) <= tolerance(layer, F64)


def test_decoding_computes_coefficients_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("rtf", "implicit", "shared"):
        layer = make(kind, 3)
        decoder = layer.realize()
        assert decoder is not layer
        assert not decoder.training
        assert not any(x.requires_grad for x in decoder.parameters())
        monkeypatch.setattr(ImplicitFilter, "kernel", None)
        monkeypatch.setattr(RTF, "system", None)
        stream, u = Stream(decoder, 2), signal(2, 9, D)
        y = torch.stack([stream(u_t) for u_t in u.unbind(1)], 1)
        monkeypatch.undo()
        assert relative_error(y, layer(u)) <= tolerance(layer, F64)
        assert all(p.requires_grad for p in layer.parameters())


def test_a_kernel_ends_at_its_horizon() -> None:
    layer = make("implicit")
    with pytest.raises(ValueError, match=r"a sequence has 33 samples.*ImplicitFilter.*horizon=32 samples"):
        layer(signal(2, P + 1, D))


def test_looking_ahead_means_no_state() -> None:
    layer = Hyena(D, filter=lambda: RTF(D, 3, horizon=P, bidirectional=True))
    assert not layer.is_causal
    for call in (lambda: layer.extend(signal(2, 5, D).float()), lambda: layer.init_state(2), layer.realize):
        with pytest.raises(NotCausalError, match=r"^Hyena\."):
            call()


@untyped
def test_wrong_states_are_named() -> None:
    layer = make("rtf", 3)
    for state, found in ((torch.zeros(2), "Tensor"), ((torch.zeros(2),), "1 of them")):
        with pytest.raises(ValueError, match=rf"expected a tuple of 3 states.*got {found}. Begin with init_state"):
            layer.extend(signal(2, 5, D), state)


# ------------------------------------------------------------------------------------------------------ options


@untyped
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"channels": 0}, ValueError, "channels must be at least 1, got 0"),
        ({"channels": 4.0}, TypeError, "channels is a whole number, got 4.0"),
        ({"order": 1}, ValueError, "order must be at least 2, got 1"),
        ({"short_width": 0}, ValueError, "short_width must be at least 1, got 0"),
        ({"filter": RTF(4, 2, horizon=9)}, TypeError, r"must be a function .* got one RTF. Pass lambda: RTF\(...\)"),
        ({"filter": [RTF(4, 2, horizon=9)] * 2}, ValueError, r"order 2 has 1 filter\(s\), got 2"),
        ({"filter": lambda: torch.nn.Linear(4, 4)}, TypeError, r"must be mixers, such as RTF\(...\), got Linear"),
        ({"filter": lambda: RTF(2, 2, horizon=9)}, ValueError, "the layer's channels=4, got a RTF of 2"),
    ],
    ids=lambda x: ",".join(x) if isinstance(x, dict) else "",
)
def test_wrong_options_are_named(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Hyena(**({"channels": D, "filter": lambda: RTF(D, 2, horizon=9)} | options))


def test_each_filter_is_made_anew() -> None:
    layer = make("rtf", 4)
    assert len({id(mixer) for mixer in layer.filters}) == len(layer.filters) == 3
    assert make("rtf").extra_repr() == "4, order=2"


@kinds
def test_param_groups(kind: str, order: int) -> None:
    """The filters' parameters with the rates, all others without; each once."""
    layer = make(kind, order)
    *filters, rest = layer.param_groups(lr=1e-3, weight_decay=0.0)
    own = {id(p) for mixer in layer.filters for p in mixer.parameters()}
    assert {id(p) for group in filters for p in group["params"]} == own
    assert all((group["lr"], group["weight_decay"]) == (1e-3, 0.0) for group in filters)
    assert rest.keys() == {"params"}
    listed = [id(p) for group in (*filters, rest) for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in layer.parameters())
    assert all(group.keys() == {"params"} for group in layer.param_groups())


def mixers(kind: str) -> Any:
    def build() -> SequenceMixer:
        return Hyena(D, filter=lambda: RTF(D, 3, horizon=P) if kind == "rtf" else ImplicitFilter(D, horizon=P, width=8))

    return build


@pytest.mark.parametrize("kind", ["rtf", "implicit"])
def test_a_model_is_built_of_it(kind: str) -> None:
    """Whose projections have the model's rates, and whose filters have their own."""
    torch.manual_seed(0)
    model = Classifier(Backbone(D, 2, mixers(kind), inputs=2, norm="layer"), 3).double().eval()
    u = signal(2, 9, 2)
    stream = Stream(model.decoder(), 2)
    for u_t in u.unbind(1):
        logits = stream(u_t)
    assert relative_error(logits, model(u)) <= tolerance(model, F64)
    groups = model.param_groups(lr=0.1, weight_decay=0.5, filter_lr=0.01, filter_weight_decay=0.0)
    rates = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert len(rates) == len(list(model.parameters()))
    for name, p in model.named_parameters():
        is_filter = ".filters." in name
        assert rates[id(p)] == ((0.01, 0.0) if is_filter else (0.1, 0.5 if p.dim() > 1 else 0.0)), name
