"""Attention against a loop that spells it out, and what its cache holds. The laws hold the rest."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from laws.runs import outcome, reset_mask, signal
from laws.tolerance import assert_same, relative_error, tolerance
from nn.layers import F64, untyped
from transferfn.models import Backbone, Classifier
from transferfn.nn import Attention, NotCausalError, Stream
from transferfn.nn.attention import rotate

D, H = 8, 2


def make(dtype: torch.dtype = F64, **options: Any) -> Attention:
    torch.manual_seed(0)
    return Attention(D, H, **options).to(dtype).eval()


def by_loops(layer: Attention, u: Tensor, lengths: Tensor | None = None, resets: Tensor | None = None) -> Tensor:
    """Each row, sample and head by itself: a softmax over what it may see, rotary positions as complex numbers."""
    width = D // H
    qkv = u @ layer.input.weight.T + (0 if layer.input.bias is None else layer.input.bias)
    rows = []
    for b in range(len(u)):
        length = u.shape[1] if lengths is None else int(lengths[b])
        begun = [0] * length
        for t in range(1, length):
            begun[t] = t if resets is not None and resets[b, t] else begun[t - 1]
        samples = []
        for t in range(length):
            last = t + 1 if layer.is_causal else length
            seen = [s for s in range(last) if begun[s] == begun[t]]
            heads = []
            for h in range(H):
                q, k, v = (qkv[b, :, part * D + h * width : part * D + (h + 1) * width] for part in range(3))
                scores = torch.stack([score(layer, q[t], k[s], t - s) for s in seen])
                weights = scores.exp() / scores.exp().sum()
                heads.append(sum(w * v[s] for w, s in zip(weights, seen, strict=True)))
            samples.append(torch.cat(heads) @ layer.output.weight.T)
        y = torch.stack(samples) if samples else u[b, :0]
        y = y if layer.output.bias is None else y + layer.output.bias
        rows.append(torch.cat((y, torch.zeros_like(u[b, length:]))))
    return torch.stack(rows)


def score(layer: Attention, q: Tensor, k: Tensor, distance: int) -> Tensor:
    """(q . k) / sqrt(C), or the same of q as complex numbers, turned by their distance."""
    if layer.positions is None:
        return q @ k / math.sqrt(len(q))
    half = len(q) // 2
    frequencies = torch.tensor([layer.rotary_base ** (-2 * c / len(q)) for c in range(half)], dtype=q.dtype)
    turn = torch.polar(torch.ones_like(frequencies), distance * frequencies)
    q, k = torch.complex(q[:half], q[half:]), torch.complex(k[:half], k[half:])
    return (q * turn * k.conj()).real.sum() / math.sqrt(2 * half)


OPTIONS = [
    {},
    {"positions": None},
    {"rotary_base": 5.0, "bias": False},
    {"bidirectional": True},
    {"bidirectional": True, "positions": None},
]
BOUNDS = [(None, None), ([13, 6, 0], None), (None, [[4], [0, 7, 8], []]), ([13, 6, 0], [[4, 12], [2, 9], [0]])]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("lengths", "cuts"), BOUNDS, ids=["plain", "lengths", "resets", "both"])
@pytest.mark.parametrize("dtype", [F64, torch.float32], ids=["f64", "f32"])
def test_is_the_softmax_it_says(options: dict[str, Any], lengths: Any, cuts: Any, dtype: torch.dtype) -> None:
    """In values and all gradients."""
    layer, u = make(**options), signal(3, 13, D)
    bounds = {
        "lengths": None if lengths is None else torch.tensor(lengths),
        "resets": None if cuts is None else reset_mask(cuts, 13),
    }
    expected = outcome(layer, lambda layer, u, _: (by_loops(layer, u, **bounds), None), u)
    found = outcome(layer.to(dtype), lambda layer, u, _: (layer(u, **bounds), None), u.to(dtype))
    assert_same(found, expected, tolerance(layer, dtype))


def test_the_fast_path_needs_no_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole sequences take the path that never writes down the L^2 pairs, padded or not."""
    calls = []
    original = torch.nn.functional.scaled_dot_product_attention

    def spy(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, is_causal: bool = False) -> Tensor:
        calls.append((mask is not None, is_causal))
        return original(q, k, v, mask, is_causal=is_causal)

    monkeypatch.setattr("transferfn.nn.attention.scaled_dot_product_attention", spy)
    u, lengths, resets = signal(2, 5, D), torch.tensor([5, 2]), reset_mask([[], [3]], 5)
    layer, both = make(), make(bidirectional=True)
    _, state = layer.extend(u)
    layer.extend(u, layer.init_state(2), lengths=lengths)
    layer(u, lengths=lengths)
    both(u)
    assert calls == [(False, True)] * 3 + [(False, False)]
    calls.clear()
    layer(u, resets=resets)
    both(u, lengths=lengths)
    both(u, resets=resets)
    layer.extend(u, state)
    assert calls == [(True, False)] * 4


# ---------------------------------------------------------------------------------------------------------- cache


def test_the_state_is_keys_and_values() -> None:
    layer, u = make(positions=None), signal(2, 5, D)
    _, (keys, values, counts) = layer.extend(u)
    _, k, v = layer.input(u).chunk(3, -1)
    assert relative_error(keys.transpose(1, 2).flatten(2), k) <= tolerance(layer, F64)
    assert relative_error(values.transpose(1, 2).flatten(2), v) <= tolerance(layer, F64)
    assert counts.tolist() == [5, 5]
    assert [tuple(x.shape) for x in layer.init_state(3)] == [(3, H, 0, D // H), (3, H, 0, D // H), (3,)]


def test_the_cache_drops_what_no_row_sees() -> None:
    layer, u = make(), signal(3, 9, D)
    _, state = layer.extend(u)
    _, (keys, values, counts) = layer.extend(
        u, state, lengths=torch.tensor([9, 4, 0]), resets=reset_mask([[6], [3, 5], []], 9)
    )
    assert counts.tolist() == [3, 1, 9]
    assert keys.shape[2] == values.shape[2] == 9
    assert not keys[0, :, :6].any()
    assert not values[1, :, :8].any()
    assert torch.equal(keys[2], state[0][2])
    _, (keys, _, counts) = layer.extend(u, resets=reset_mask([[6], [3], [8]], 9))
    assert keys.shape[2] == max(counts.tolist()) == 6


def test_room_in_front_counts_for_nothing() -> None:
    """Rows of different age go together, whatever stands in front of the younger."""
    layer, u = make(), signal(2, 12, D)
    states = [layer.extend(u[:1, :9])[1], layer.extend(u[1:, :4])[1]]
    room = [torch.cat((torch.full((1, H, 5, D // H), 7.0), x), 2) for x in states[1][:2]]
    together = (*(torch.cat((x, y)) for x, y in zip(states[0][:2], room, strict=True)), torch.tensor([9, 4]))
    y, _ = layer.extend(u[:, 9:], together)
    for row in range(2):
        alone, _ = layer.extend(u[row : row + 1, 9:], states[row])
        assert relative_error(y[row : row + 1], alone) <= tolerance(layer, F64)


def test_a_stream_resets_single_rows() -> None:
    """Though the state at rest is smaller."""
    layer, u = make(), signal(2, 12, D)
    stream = Stream(layer, 2)
    stream(u[:, :7])
    stream.reset(torch.tensor([True, False]))
    y = torch.stack([stream(u_t) for u_t in u[:, 7:].unbind(1)], 1)
    assert relative_error(y[0], layer(u[:, 7:])[0]) <= tolerance(layer, F64)
    assert relative_error(y[1], layer(u)[1, 7:]) <= tolerance(layer, F64)
    assert stream.state[2].tolist() == [5, 12]


def test_positions_far_away_are_exact() -> None:
    """Angles are computed in float64: a million samples on, float32 attends as at the beginning."""
    q, k = signal(1, 4, D)[None].float(), signal(1, 4, D, seed=1)[None].float()
    time = torch.arange(4)
    near = rotate(q, time, 10000.0) @ rotate(k, time, 10000.0).mT
    far = rotate(q, time + 1_000_000, 10000.0) @ rotate(k, time + 1_000_000, 10000.0).mT
    assert relative_error(far, near) < 1e-6


def test_order_matters_only_with_positions() -> None:
    u = signal(1, 6, D)
    shuffled = u[:, [3, 0, 4, 2, 1, 5]]
    for positions, matters in (("rotary", True), (None, False)):
        layer = make(positions=positions)
        assert (relative_error(layer(u)[:, -1], layer(shuffled)[:, -1]) > 1e-3) == matters


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_shows_in_its_own_sequence(bidirectional: bool, value: float) -> None:
    """And nowhere else, in a chunk with resets, which removes it from the sums."""
    layer, u = make(bidirectional=bidirectional), signal(1, 9, D)
    u[0, 4] = value
    y = layer(u, resets=reset_mask([[3, 7]], 9))
    seen = [t for t in range(9) if not y[0, t].isfinite().any()]
    assert seen == ([3, 4, 5, 6] if bidirectional else [4, 5, 6])
    assert y[0, [t for t in range(9) if t not in seen]].isfinite().all()


# -------------------------------------------------------------------------------------------------------- options


@untyped
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"channels": 8.0}, TypeError, "channels is a whole number, got 8.0"),
        ({"heads": "2"}, TypeError, "heads is a whole number, got '2'"),
        ({"channels": 0}, ValueError, "channels must be at least 1, got 0"),
        ({"heads": 0}, ValueError, "heads must be at least 1, got 0"),
        ({"heads": 3}, ValueError, "heads must divide channels=8, got heads=3"),
        ({"positions": "alibi"}, ValueError, "positions must be one of 'rotary', None, got 'alibi'"),
        ({"heads": 8}, ValueError, r"channels / heads must be even, got 8 / 8.*positions=None"),
        ({"rotary_base": 1.0}, ValueError, "rotary_base must be greater than 1, got 1.0"),
    ],
    ids=str,
)
def test_wrong_options_are_named(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Attention(**({"channels": D, "heads": H} | options))


@untyped
def test_sizes_may_be_numbers_of_numpy() -> None:
    assert Attention(np.int64(8), np.int64(2))(torch.zeros(1, 2, 8)).shape == (1, 2, 8)  # pyright: ignore


@pytest.mark.parametrize("positions", ["rotary", None])
def test_one_head_of_one_channel_has_no_positions(positions: Any) -> None:
    if positions is None:
        assert Attention(1, 1, positions=None)(torch.ones(1, 3, 1)).isfinite().all()
    else:
        with pytest.raises(ValueError, match="must be even, got 1 / 1"):
            Attention(1, 1, positions=positions)


@untyped
@pytest.mark.parametrize(
    "state",
    [
        torch.zeros(2, H, 3, 4),
        (torch.zeros(2, H, 3, 4), torch.zeros(2, H, 3, 4)),
        (torch.zeros(2, H, 3, 4), torch.zeros(2, H, 2, 4), torch.tensor([3, 3])),
        (torch.zeros(1, H, 3, 4), torch.zeros(1, H, 3, 4), torch.tensor([3])),
        (torch.zeros(2, 1, 3, 8), torch.zeros(2, 1, 3, 8), torch.tensor([3, 3])),
        (torch.zeros(2, H, 3, 4), torch.zeros(2, H, 3, 4), torch.tensor([3.0, 3.0])),
    ],
    ids=["tensor", "no counts", "other sizes", "other batch", "other heads", "real counts"],
)
def test_wrong_states_are_named(state: Any) -> None:
    layer = make()
    with pytest.raises(ValueError, match=r"expected a state of shapes \(\(2, 2, 'T', 4\), .*init_state\(2\)"):
        layer.extend(signal(2, 5, D), state)


def test_looking_ahead_means_no_state() -> None:
    layer = make(bidirectional=True)
    assert not layer.is_causal
    with pytest.raises(NotCausalError, match=r"Attention\.extend"):
        layer.extend(signal(2, 5, D))


def test_print() -> None:
    shown = "8, heads=2, positions='rotary', rotary_base=10000.0, bidirectional=True"
    assert make(bidirectional=True).extra_repr() == shown
    assert make(positions=None).extra_repr() == "8, heads=2, positions=None"


def test_a_model_is_built_of_it() -> None:
    """A small transformer that classifies rows of different length at once and sample by sample."""
    torch.manual_seed(0)
    model = Classifier(Backbone(D, 2, lambda: Attention(D, H), vocabulary=11, norm="layer"), 3).double().eval()
    tokens = torch.randint(11, (2, 7))
    logits = model(tokens, lengths=torch.tensor([7, 4]))
    state = model.init_state(2)
    for t in range(7):
        step, state = model.step(tokens[:, t], state)
        row = {3: 1, 6: 0}.get(t)
        if row is not None:
            assert relative_error(step[row], logits[row]) <= tolerance(model, F64)
    rates = model.param_groups(lr=1e-3, weight_decay=0.1, filter_lr=1e-4)
    assert {group["lr"] for group in rates} == {1e-3}
