"""Laws 4 and 5: nothing past a row's length matters, and after a reset everything is a fresh start."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from laws.filters import F32, F64
from laws.mixers import CAUSAL, MIXERS, Mixer
from laws.runs import Run, a_state, alone, bounded, leaves, outcome, reset_mask, signal, with_method
from laws.tolerance import assert_same, relative_error, tolerance
from transferfn.nn.mixer import valid_samples

every = pytest.mark.parametrize("mixer", MIXERS, ids=str)
PATHS = {"fft-f64": ("fft", F64), "scan-f64": ("scan", F64), "auto-f32": ("auto", F32)}
paths = pytest.mark.parametrize(("method", "dtype"), PATHS.values(), ids=PATHS)
starts = pytest.mark.parametrize(
    ("mixer", "start"),
    [(mixer, start) for mixer in MIXERS for start in ("rest", "state")[: 1 + (mixer in CAUSAL)]],
    ids=str,
)

BOUNDS: dict[str, tuple[list[int] | None, list[list[int]] | None]] = {
    "lengths": ([35, 17, 0], None),
    "lengths-short": ([1, 2, 0], None),
    "lengths-zero": ([0, 0, 0], None),
    "resets": (None, [[17], [20], [5]]),
    "resets-first": (None, [[0], [0, 5], []]),
    "resets-adjacent": (None, [[3, 4, 5], [33, 34], [0, 1]]),
    "resets-last": (None, [[34], [0, 34], [16]]),
    "resets-many": (None, [[2, 9, 12, 30], [], [1, 2, 3, 5, 8, 13, 21, 34]]),
    "both": ([35, 17, 0], [[2, 34], [8, 16, 17, 30], [0, 5]]),
    "both-in-padding": ([20, 2, 1], [[20], [2, 3], [1, 34]]),
    "both-zero": ([0, 0, 0], [[0, 17], [], [34]]),
    "both-first": ([35, 1, 9], [[0], [0], [0, 8]]),
}


@starts
@pytest.mark.parametrize(
    ("bounds", "method", "dtype"),
    [
        pytest.param(bounds, *path, id=f"{name}-{kind}")
        for name, bounds in BOUNDS.items()
        for kind, path in PATHS.items()
        if kind != "auto-f32" or name.startswith("both")
    ],
)
def test_4_and_5_lengths_and_resets(mixer: Mixer, method: str, dtype: torch.dtype, start: str, bounds: Any) -> None:
    module = with_method(mixer.make(dtype), method)
    state = a_state(module, 3, mixer.channels, dtype) if start == "state" else None
    u = signal(3, 35, mixer.channels, dtype)
    expected = outcome(module, alone(*bounds), u, state)
    assert_same(outcome(module, bounded(*bounds), u, state), expected, tolerance(module, dtype))


@every
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("filling", [torch.nan, torch.inf, 1e30], ids=str)
@pytest.mark.parametrize("lengths", [[9, 4, 0], [2, 1, 1]], ids=str)
def test_4_padding_changes_nothing(mixer: Mixer, lengths: list[int], filling: float, training: bool) -> None:
    """Neither what padding holds nor how much there is; in training, too, where batches have statistics."""
    longest = max(lengths)
    clean = signal(3, longest, mixer.channels)

    def filled_with(value: float, extra: int) -> Run:
        def run(module: Any, u: Tensor, _: Any) -> tuple[Tensor, Any]:
            torch.manual_seed(0)  # for the taps that kernel dropout drops
            u = torch.nn.functional.pad(u, (0, 0, 0, extra))
            u = torch.where(valid_samples(torch.tensor(lengths), u.shape[1])[..., None], u, value)
            return module(u, lengths=torch.tensor(lengths))[:, :longest], None

        return run

    modules = [mixer.make(training=training) for _ in range(3)]
    expected = outcome(modules[0], filled_with(0.0, 0), clean)
    assert not expected["gradient of input"][~valid_samples(torch.tensor(lengths), longest)].any()
    for module, run in zip(modules[1:], (filled_with(filling, 0), filled_with(filling, 7)), strict=True):
        assert_same(outcome(module, run, clean), expected, tolerance(module, F64))
        for buffer, other in zip(module.buffers(), modules[0].buffers(), strict=True):
            assert relative_error(buffer, other) <= tolerance(module, F64)


@every
@paths
@pytest.mark.parametrize("poison", [torch.nan, torch.inf], ids=str)
def test_5_nothing_outlives_a_reset(mixer: Mixer, method: str, dtype: torch.dtype, poison: float) -> None:
    """Not even a NaN; looking ahead, none comes through from the other side either."""
    module = with_method(mixer.make(dtype), method)
    u = signal(2, 35, mixer.channels, dtype)
    dirty = torch.cat((torch.full_like(u[:, :7], poison), u[:, 7:]), 1)
    resets = reset_mask([[7], [7, 20]], 35)
    assert relative_error(module(dirty, resets=resets)[:, 7:], module(u, resets=resets)[:, 7:]) <= tolerance(
        module, dtype
    )
    if module.is_causal:
        after, expected = module.extend(dirty, resets=resets)[1], module.extend(u, resets=resets)[1]
        for x, y in zip(leaves(after), leaves(expected), strict=True):
            assert relative_error(x, y) <= tolerance(module, dtype)
