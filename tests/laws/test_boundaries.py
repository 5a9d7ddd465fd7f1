"""Laws 4 and 5: nothing past a row's length matters, and after a reset everything is a fresh start."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from laws.filters import F32, F64
from laws.mixers import MIXERS, Mixer
from laws.runs import Run, a_state, alone, bounded, fill, is_pooled, leaves, outcome, reset_mask, with_method
from laws.tolerance import assert_same, relative_error, tolerance
from transferfn.nn.mixer import valid_samples

every = pytest.mark.parametrize("mixer", MIXERS, ids=str)
PATHS = {"fft-f64": ("fft", F64), "scan-f64": ("scan", F64), "auto-f32": ("auto", F32)}
paths = pytest.mark.parametrize(("method", "dtype"), PATHS.values(), ids=PATHS)

BOUNDS: dict[str, tuple[list[int] | None, list[list[int]] | None]] = {
    "lengths": ([35, 17, 0], None),
    "resets": (None, [[17], [20], [5]]),
    "resets-edges": (None, [[0], [0, 34], [3, 4, 5]]),
    "resets-many": (None, [[2, 9, 12, 30], [], [1, 2, 3, 5, 8, 13, 21, 34]]),
    "both": ([35, 17, 0], [[2, 34], [8, 16, 17, 30], [0, 5]]),
    "both-in-padding": ([20, 2, 1], [[20], [2, 3], [1, 34]]),
    "both-zero": ([0, 0, 0], [[0, 17], [], [34]]),
}


@every
@pytest.mark.parametrize(
    ("bounds", "method", "dtype", "from_rest"),
    [  # from rest and from a state in turns; what states do, test_7_rows_are_independent sees for every path
        pytest.param(bounds, *path, (i + j) % 2 == 0, id=f"{name}-{kind}-{('state', 'rest')[(i + j) % 2 == 0]}")
        for i, (name, bounds) in enumerate(BOUNDS.items())
        for j, (kind, path) in enumerate(PATHS.items())
        if kind != "auto-f32" or name.startswith("both")
    ],
)
def test_4_and_5_lengths_and_resets(
    mixer: Mixer, method: str, dtype: torch.dtype, from_rest: bool, bounds: Any
) -> None:
    module = with_method(mixer.make(dtype), method)
    state = None if from_rest or not mixer.causal else a_state(module, mixer.signal(3, 23, dtype, seed=1))
    u = mixer.signal(3, 35, dtype)
    expected = outcome(module, alone(*bounds), u, state)
    assert_same(outcome(module, bounded(*bounds), u, state), expected, tolerance(module, dtype))


@every
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(
    ("lengths", "filling"), [([9, 4, 0], torch.nan), ([9, 9, 9], torch.inf), ([2, 1, 1], 1e30)], ids=str
)
def test_4_padding_changes_nothing(mixer: Mixer, lengths: list[int], filling: float, training: bool) -> None:
    """Neither what padding holds nor how much there is; in training, too, where batches have statistics."""
    longest = max(lengths)
    clean = mixer.signal(3, longest)

    def filled_with(value: float, extra: int) -> Run:
        def run(module: Any, u: Tensor, _: Any) -> tuple[Tensor, Any]:
            torch.manual_seed(0)  # for the taps that kernel dropout drops
            u = torch.cat((u, u[:, :1].repeat_interleave(extra, 1)), 1)
            y = module(fill(u, torch.tensor(lengths), value), lengths=torch.tensor(lengths))
            return y if is_pooled(module) else y[:, :longest], None

        return run

    modules = [mixer.make(training=training) for _ in range(3)]
    expected = outcome(modules[0], filled_with(0.0, 0), clean)
    if clean.is_floating_point():
        assert not expected["gradient of input"][~valid_samples(torch.tensor(lengths), longest)].any()
    for module, run in zip(modules[1:], (filled_with(filling, 0), filled_with(filling, 7)), strict=True):
        assert_same(outcome(module, run, clean), expected, tolerance(module, F64))
        for buffer, other in zip(module.buffers(), modules[0].buffers(), strict=True):
            assert relative_error(buffer, other) <= tolerance(module, F64)


@pytest.mark.parametrize("mixer", [mixer for mixer in MIXERS if mixer.vocabulary is None], ids=str)
@paths
def test_5_nothing_outlives_a_reset(mixer: Mixer, method: str, dtype: torch.dtype) -> None:
    """Not even a NaN; looking ahead, none comes through from the other side either."""
    module = with_method(mixer.make(dtype), method)
    u = mixer.signal(2, 35, dtype)
    dirty = torch.cat((torch.full_like(u[:, :7], torch.inf if dtype == F32 else torch.nan), u[:, 7:]), 1)
    resets = reset_mask([[7], [7, 20]], 35)
    found, expected = module(dirty, resets=resets), module(u, resets=resets)
    if not is_pooled(module):
        found, expected = found[:, 7:], expected[:, 7:]
    assert relative_error(found, expected) <= tolerance(module, dtype)
    if module.is_causal:
        after, expected = module.extend(dirty, resets=resets)[1], module.extend(u, resets=resets)[1]
        for x, y in zip(leaves(after), leaves(expected), strict=True):
            assert relative_error(x, y) <= tolerance(module, dtype)
