"""Laws 1, 2, 3: a sequence at once, in chunks and sample by sample is the same; and 6: so is every path."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from laws.filters import F32, F64, TYPE_IDS
from laws.mixers import CAUSAL, MIXERS, Mixer
from laws.runs import (
    a_state,
    chunks,
    extend,
    extend_from_rest,
    forward,
    in_step,
    is_pooled,
    joined,
    leaves,
    outcome,
    output_of,
    reset_mask,
    steps,
    with_method,
)
from laws.tolerance import assert_same, tolerance
from transferfn.nn import NotCausalError, Stream

# One sample, even, odd, prime; below, at and beyond the horizon.
SIZES = [(1, F64), (2, F64), (31, F64), (32, F64), (47, F64), (33, F32)]
SPLITS = [((0, 3, 0), F64), ((31, 1), F64), ((46,), F64), ((7, 7, 7, 7, 7), F32)]

causal = pytest.mark.parametrize("mixer", CAUSAL, ids=str)
every = pytest.mark.parametrize("mixer", MIXERS, ids=str)
types = pytest.mark.parametrize("dtype", TYPE_IDS, ids=TYPE_IDS.get)
starts = pytest.mark.parametrize("start", ["rest", "state"])


def label(parameter: Any) -> str:
    if isinstance(parameter, tuple):
        return "+".join(map(str, parameter))
    return f"L{parameter}" if isinstance(parameter, int) else TYPE_IDS[parameter]


sizes = pytest.mark.parametrize(("length", "dtype"), SIZES, ids=label)


def before(module: Any, mixer: Mixer, dtype: torch.dtype, start: str) -> Any:
    return None if start == "rest" else a_state(module, mixer.signal(2, 23, dtype, seed=1))


@causal
@sizes
def test_1_forward_is_extend(mixer: Mixer, dtype: torch.dtype, length: int) -> None:
    module = mixer.make(dtype)
    u = mixer.signal(2, length, dtype)
    expected = outcome(module, forward, u)
    assert_same(outcome(module, output_of(extend), u), expected, tolerance(module, dtype))
    assert_same(outcome(module, output_of(extend_from_rest), u), expected, tolerance(module, dtype))


@causal
@starts
@pytest.mark.parametrize(("split", "dtype"), SPLITS, ids=label)
def test_2_chunks(mixer: Mixer, dtype: torch.dtype, split: tuple[int, ...], start: str) -> None:
    module = mixer.make(dtype)
    u = mixer.signal(2, 47, dtype)
    state = before(module, mixer, dtype, start)
    expected = outcome(module, extend, u, state)
    assert_same(outcome(module, chunks(*split), u, state), expected, tolerance(module, dtype))


@causal
@pytest.mark.parametrize(("length", "dtype"), [(1, F64), (2, F64), (33, F64), (7, F32)], ids=label)
@starts
def test_3_steps(mixer: Mixer, dtype: torch.dtype, length: int, start: str) -> None:
    module = mixer.make(dtype)
    u = mixer.signal(2, length, dtype)
    state = before(module, mixer, dtype, start)
    expected = outcome(module, extend, u, state)
    assert_same(outcome(module, steps, u, state), expected, tolerance(module, dtype))


@causal
@types
@pytest.mark.parametrize("blocks", [(1,) * 17, (6, 1, 0, 1, 9)], ids=["samples", "mixed"])
@torch.no_grad()
def test_3_stream(mixer: Mixer, dtype: torch.dtype, blocks: tuple[int, ...]) -> None:
    """A stream takes samples and blocks; after a reset of some rows those begin anew and the others go on."""
    module = mixer.make(dtype)
    u = mixer.signal(3, 17, dtype)
    decode = getattr(module, "decoder", None) or getattr(module, "realize", lambda: module)
    stream = Stream(decode(), 3)
    ys, begin = [], 0
    for size in blocks:
        block = u[:, begin : begin + size]
        y = stream(block[:, 0] if size == 1 else block)
        ys.append(y[:, None] if size == 1 and not is_pooled(module) else y)
        begin += size
    expected, state = module.extend(u)
    assert_same(named(joined(ys), stream.state), named(expected, state), tolerance(module, dtype))

    rows = torch.tensor([False, True, False])
    stream.reset(rows)
    fresh, after_fresh = module.extend(u[:, :4])
    further, after_further = module.extend(u[:, :4], state)
    y = stream(u[:, :4])
    for which, output, after in ((rows, fresh, after_fresh), (~rows, further, after_further)):
        pairs = zip((y, *leaves(stream.state)), (output, *leaves(after)), strict=True)
        found, expected = zip(*(in_step((x[which], z[which])) for x, z in pairs), strict=True)
        assert_same(named(found[0], found[1:]), named(expected[0], expected[1:]), tolerance(module, dtype))


def named(output: Tensor, state: Any) -> dict[str, Tensor]:
    return {"output": output} | {f"state {k}": x for k, x in enumerate(leaves(state))}


@causal
def test_a_state_is_never_changed_in_place(mixer: Mixer) -> None:
    module = mixer.make()
    u = mixer.signal(2, 5)
    state = a_state(module, mixer.signal(2, 23, seed=1))
    copies = [x.clone() for x in leaves(state)]
    module.extend(u, state)
    module.extend(u, state, lengths=torch.tensor([5, 0]), resets=torch.ones(2, 5, dtype=torch.bool))
    module.step(u[:, 0], state)
    assert all(torch.equal(x, y) for x, y in zip(leaves(state), copies, strict=True))


@causal
def test_states_do_not_grow(mixer: Mixer) -> None:
    """Unless they hold all samples, which a reset drops."""
    module = mixer.make()
    u = mixer.signal(2, 50)
    shapes = [[x.shape for x in leaves(module.extend(u[:, :length])[1])] for length in (1, 2, 50)]
    if mixer.remembers_all:
        one, two, fifty = (sum(x.numel() for x in shape) for shape in shapes)
        assert fifty - one == 49 * (two - one) > 0
        again = module.extend(u, resets=reset_mask([[49], [49]], 50))[1]
        assert [x.shape for x in leaves(again)] == shapes[0]
        return
    assert shapes[0] == shapes[1] == shapes[2] == [x.shape for x in leaves(module.init_state(2))]


@causal
@types
def test_nothing_at_all(mixer: Mixer, dtype: torch.dtype) -> None:
    """A chunk of no samples returns the state it was given."""
    module = mixer.make(dtype)
    empty = mixer.signal(2, 0, dtype)
    for state in (a_state(module, mixer.signal(2, 23, dtype, seed=1)), None):
        y, after = module.extend(empty, state)
        expected = module.init_state(2, dtype=dtype) if state is None else state
        assert all(torch.equal(x, y) for x, y in zip(leaves(after), leaves(expected), strict=True))
        assert y.isfinite().all()
    one = module(mixer.signal(2, 1, dtype)).shape
    assert y.shape == (one if is_pooled(module) else (2, 0, one[-1]))
    assert torch.equal(module(empty), y)


@pytest.mark.parametrize("mixer", [mixer for mixer in MIXERS if mixer not in CAUSAL], ids=str)
def test_looking_ahead_means_forward_only(mixer: Mixer) -> None:
    module = mixer.make()
    u = mixer.signal(2, 5)
    module(u)
    with pytest.raises(NotCausalError, match=rf"{type(module).__name__}\.extend\(\) needs a causal layer"):
        module.extend(u)
    with pytest.raises(NotCausalError, match=r"\.step\(\).*has no state"):
        module.step(u[:, 0], u.mT)
    with pytest.raises(NotCausalError, match=r"\.init_state\(\).*bidirectional=False"):
        module.init_state(2)
    for name in ("decoder", "realize"):
        if hasattr(module, name):
            with pytest.raises(NotCausalError, match=rf"\.{name}\(\)"):
                getattr(module, name)()


@every
@sizes
def test_6_fft_and_scan(mixer: Mixer, dtype: torch.dtype, length: int) -> None:
    module = mixer.make(dtype)
    u = mixer.signal(2, length, dtype)
    run = extend if module.is_causal else forward
    expected = outcome(with_method(module, "scan"), run, u)
    assert_same(outcome(with_method(module, "fft"), run, u), expected, tolerance(module, dtype))
    assert_same(outcome(with_method(module, "auto"), run, u), expected, tolerance(module, dtype))


@every
@pytest.mark.parametrize("length", [31, 33], ids=label)
def test_6_types(mixer: Mixer, length: int) -> None:
    narrow = mixer.make(F32)
    wide = mixer.make(F64)
    wide.load_state_dict(narrow.state_dict())
    u = mixer.signal(2, length, F32)
    run = extend if narrow.is_causal else forward
    expected = outcome(wide, run, u.double() if u.is_floating_point() else u)
    assert_same(outcome(narrow, run, u), expected, tolerance(narrow, F32))


@every
def test_6_devices(mixer: Mixer, device: torch.device) -> None:
    dtype = F32 if device.type == "mps" else F64
    here, there = mixer.make(dtype), mixer.make(dtype).to(device)
    u = mixer.signal(2, 33, dtype)
    run = extend if here.is_causal else forward
    found = {name: x.cpu() for name, x in outcome(there, run, u.to(device)).items()}
    assert_same(found, outcome(here, run, u), tolerance(here, dtype))
