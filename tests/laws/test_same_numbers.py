"""Laws 1, 2, 3: a sequence at once, in chunks and sample by sample is the same; and 6: so is every path."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from laws.filters import F32, F64, TYPE_IDS
from laws.mixers import CAUSAL, MIXERS, Mixer
from laws.runs import a_state, chunks, extend, extend_from_rest, forward, outcome, output_of, signal, steps, with_method
from laws.tolerance import assert_same, tolerance
from transferfn.nn import NotCausalError, Stream

LENGTHS = (1, 2, 16, 31, 32, 33, 47)  # one sample, even, odd, prime; below, at and beyond the horizon
SPLITS = [(1,), (0, 3, 0), (2, 1, 1), (31, 1), (46,), (7, 7, 7, 7, 7)]

causal = pytest.mark.parametrize("mixer", CAUSAL, ids=str)
every = pytest.mark.parametrize("mixer", MIXERS, ids=str)
types = pytest.mark.parametrize("dtype", TYPE_IDS, ids=TYPE_IDS.get)
lengths = pytest.mark.parametrize(
    ("length", "dtype"),
    [(length, F64) for length in LENGTHS] + [(31, F32), (33, F32)],
    ids=lambda x: f"L{x}" if isinstance(x, int) else TYPE_IDS[x],
)
starts = pytest.mark.parametrize("start", ["rest", "state"])


@causal
@lengths
def test_1_forward_is_extend(mixer: Mixer, dtype: torch.dtype, length: int) -> None:
    module = mixer.make(dtype)
    u = signal(2, length, mixer.channels, dtype)
    expected = outcome(module, forward, u)
    assert_same(outcome(module, output_of(extend), u), expected, tolerance(module, dtype))
    assert_same(outcome(module, output_of(extend_from_rest), u), expected, tolerance(module, dtype))


@causal
@starts
@pytest.mark.parametrize(
    ("split", "dtype"),
    [*((split, F64) for split in SPLITS), ((7, 7, 7, 7, 7), F32)],
    ids=lambda x: "+".join(map(str, x)) if isinstance(x, tuple) else TYPE_IDS[x],
)
def test_2_chunks(mixer: Mixer, dtype: torch.dtype, split: tuple[int, ...], start: str) -> None:
    module = mixer.make(dtype)
    u = signal(2, 47, mixer.channels, dtype)
    state = None if start == "rest" else a_state(module, 2, mixer.channels, dtype)
    expected = outcome(module, extend, u, state)
    assert_same(outcome(module, chunks(*split), u, state), expected, tolerance(module, dtype))


@causal
@lengths
@starts
def test_3_steps(mixer: Mixer, dtype: torch.dtype, length: int, start: str) -> None:
    module = mixer.make(dtype)
    u = signal(2, length, mixer.channels, dtype)
    state = None if start == "rest" else a_state(module, 2, mixer.channels, dtype)
    expected = outcome(module, extend, u, state)
    assert_same(outcome(module, steps, u, state), expected, tolerance(module, dtype))


@causal
@types
@pytest.mark.parametrize("sizes", [(1,) * 17, (17,), (6, 1, 0, 1, 9)], ids=["samples", "block", "mixed"])
def test_3_stream(mixer: Mixer, dtype: torch.dtype, sizes: tuple[int, ...]) -> None:
    module = mixer.make(dtype)
    u = signal(2, 17, mixer.channels, dtype)
    stream = Stream(decoder(module), 2)

    def streamed(_: Any, u: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        ys, begin = [], 0
        for size in sizes:
            block = u[:, begin : begin + size]
            ys.append(stream(block[:, 0])[:, None] if size == 1 else stream(block))
            begin += size
        return torch.cat(ys, 1), stream.state

    with torch.no_grad():
        expected = {"output": module.extend(u)[0], "state": torch.cat([x.flatten() for x in flat(module.extend(u)[1])])}
        y, state = streamed(module, u, None)
    assert_same(
        {"output": y, "state": torch.cat([x.flatten() for x in flat(state)])}, expected, tolerance(module, dtype)
    )


def decoder(module: Any) -> Any:
    for name in ("decoder", "realize"):
        if hasattr(module, name):
            return getattr(module, name)()
    return module


def flat(state: Any) -> list[torch.Tensor]:
    return torch.utils._pytree.tree_leaves(state)


@causal
def test_a_state_is_never_changed_in_place(mixer: Mixer) -> None:
    module = mixer.make()
    u = signal(2, 5, mixer.channels)
    state = a_state(module, 2, mixer.channels, F64)
    before = [x.clone() for x in flat(state)]
    module.extend(u, state)
    module.extend(u, state, lengths=torch.tensor([5, 0]), resets=torch.ones(2, 5, dtype=torch.bool))
    module.step(u[:, 0], state)
    assert all(torch.equal(x, y) for x, y in zip(flat(state), before, strict=True))


@causal
def test_states_do_not_grow(mixer: Mixer) -> None:
    module = mixer.make()
    u = signal(2, 50, mixer.channels)
    sizes = [[x.shape for x in flat(module.extend(u[:, :length])[1])] for length in (1, 2, 50)]
    assert sizes[0] == sizes[1] == sizes[2] == [x.shape for x in flat(module.init_state(2))]


@causal
@types
def test_nothing_at_all(mixer: Mixer, dtype: torch.dtype) -> None:
    """A chunk of no samples returns the state it was given."""
    module = mixer.make(dtype)
    empty = signal(2, 0, mixer.channels, dtype)
    shape = module(signal(2, 1, mixer.channels, dtype)).shape
    state = a_state(module, 2, mixer.channels, dtype)
    for before in (state, None):
        y, after = module.extend(empty, before)
        assert y.shape == (shape[0], 0, *shape[2:])
        expected = module.init_state(2, dtype=dtype) if before is None else before
        assert all(torch.equal(x, y) for x, y in zip(flat(after), flat(expected), strict=True))
    assert module(empty).shape == y.shape


@pytest.mark.parametrize("mixer", [mixer for mixer in MIXERS if mixer not in CAUSAL], ids=str)
def test_looking_ahead_means_forward_only(mixer: Mixer) -> None:
    module = mixer.make()
    u = signal(2, 5, mixer.channels)
    module(u)
    with pytest.raises(NotCausalError, match=rf"{type(module).__name__}\.extend\(\) needs a causal layer"):
        module.extend(u)
    with pytest.raises(NotCausalError, match=r"\.step\(\).*has no state"):
        module.step(u[:, 0], u.mT)
    with pytest.raises(NotCausalError, match=r"\.init_state\(\).*bidirectional=False"):
        module.init_state(2)


@every
@lengths
def test_6_fft_and_scan(mixer: Mixer, dtype: torch.dtype, length: int) -> None:
    module = mixer.make(dtype)
    u = signal(2, length, mixer.channels, dtype)
    run = extend if module.is_causal else forward
    expected = outcome(with_method(module, "scan"), run, u)
    assert_same(outcome(with_method(module, "fft"), run, u), expected, tolerance(module, dtype))
    assert_same(outcome(with_method(module, "auto"), run, u), expected, tolerance(module, dtype))


@every
@pytest.mark.parametrize("length", LENGTHS, ids="L{}".format)
def test_6_types(mixer: Mixer, length: int) -> None:
    narrow = mixer.make(F32)
    wide = mixer.make(F64)
    wide.load_state_dict(narrow.state_dict())
    u = signal(2, length, mixer.channels, F32)
    run = extend if narrow.is_causal else forward
    assert_same(outcome(narrow, run, u), outcome(wide, run, u.double()), tolerance(narrow, F32))


@every
def test_6_devices(mixer: Mixer, device: torch.device) -> None:
    dtype = F32 if device.type == "mps" else F64
    here, there = mixer.make(dtype), mixer.make(dtype).to(device)
    u = signal(2, 33, mixer.channels, dtype)
    run = extend if here.is_causal else forward
    found = {name: x.cpu() for name, x in outcome(there, run, u.to(device)).items()}
    assert_same(found, outcome(here, run, u), tolerance(here, dtype))
