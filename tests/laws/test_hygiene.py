"""Laws 7 and 8: channels and rows keep to themselves, and a mixer is a module like any other."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_map

from laws.filters import F32, F64
from laws.mixers import MIXERS, Mixer, holds_filters
from laws.runs import (
    a_state,
    alone,
    bounded,
    extend,
    forward,
    in_step,
    leaf,
    leaves,
    outcome,
    reset_mask,
    rows_of,
    with_method,
)
from laws.tolerance import assert_same, relative_error, tolerance
from transferfn.nn.long_conv import LongConvolution

every = pytest.mark.parametrize("mixer", MIXERS, ids=str)
methods = pytest.mark.parametrize("method", ["fft", "scan"])

BF16 = torch.bfloat16
NARROW = 0.1  # what a few layers of bfloat16, eps = 1/128, may be off by; a wrong filter is off by about 1


# ------------------------------------------------------------------------------------- 7: channels and rows


@pytest.mark.parametrize("mixer", [mixer for mixer in MIXERS if not mixer.mixes_channels], ids=str)
@methods
def test_7_channels_are_independent(mixer: Mixer, method: str) -> None:
    """What one channel holds, NaN included, reaches no other: no output, state or gradient."""
    module = with_method(mixer.make(), method)
    u = mixer.signal(2, 33)
    run = extend if module.is_causal else forward
    jacobians = torch.autograd.functional.jacobian(lambda u: module(u).sum((0, 1)), u)  # of each channel's sum
    for d in range(mixer.channels):
        others = [k for k in range(mixer.channels) if k != d]
        assert not jacobians[d][..., others].any()
        assert jacobians[d][..., d].any()
        dirty = u.clone()
        dirty[..., d] = torch.nan
        with torch.no_grad():
            found, expected = module(dirty), module(u)
            assert relative_error(found[..., others], expected[..., others]) <= tolerance(module, F64)
            assert not found[..., d].isfinite().all()
    found, expected = outcome(module, run, u.roll(1, -1)), outcome(module, run, u)
    assert relative_error(found["output"], expected["output"]) > 0.1  # each channel has its own filter


@every
@methods
def test_7_rows_are_independent(mixer: Mixer, method: str) -> None:
    """Any batch is its rows one by one, in values, states and gradients."""
    module = with_method(mixer.make(), method)
    u = mixer.signal(3, 33)
    state = a_state(module, mixer.signal(3, 23, seed=1)) if module.is_causal else None
    expected = outcome(module, alone(None, None), u, state)
    assert_same(outcome(module, bounded(None, None), u, state), expected, tolerance(module, F64))
    order = torch.tensor([2, 0, 1])
    shuffled = outcome(module, bounded(None, None), u[order], None if state is None else rows_of(state, order))
    for name in ("output", *(name for name in shuffled if name.startswith("state"))):
        assert relative_error(shuffled[name], expected[name][order]) <= tolerance(module, F64), name


# ----------------------------------------------------------------------------------------------- 8: modules


def same(found: nn.Module, expected: nn.Module, mixer: Mixer, dtype: torch.dtype = F64) -> None:
    """Whether two modules compute exactly the same."""
    with torch.no_grad():
        u = mixer.signal(2, 33, dtype)
        assert torch.equal(found(u), expected(u))


def empty(mixer: Mixer, dtype: torch.dtype = F64) -> Any:
    """Built without memory."""
    with torch.device("meta"):
        module = mixer.build().to(dtype).eval()
    assert all(x.is_meta for x in (*module.parameters(), *module.buffers()))
    return module


@every
def test_8_state_dict(mixer: Mixer) -> None:
    """Through a file, into a module with other numbers in it."""
    module = mixer.make()
    torch.manual_seed(1)
    other = mixer.build().double().eval()
    assert module.state_dict()
    assert not any(x.is_complex() for x in module.state_dict().values())  # which optimisers and files stumble over
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    same(other, module, mixer)


@every
def test_8_param_groups(mixer: Mixer) -> None:
    """Each parameter is in exactly one group, and an optimizer takes them."""
    module = mixer.make()
    groups = module.param_groups(lr=1e-3, weight_decay=0.5)
    listed = [id(p) for group in groups for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in module.parameters())
    assert all(group["params"] for group in groups)
    if groups:
        torch.optim.AdamW(groups)


@every
@pytest.mark.parametrize("how", ["assign", "materialise"])
def test_8_meta_device(mixer: Mixer, how: str) -> None:
    if mixer.name.endswith("realization") or mixer.name == "implicit-realized":
        pytest.skip("what is made of a filter's numbers cannot be made without them")
    module, other = mixer.make(), empty(mixer)
    if how == "assign":
        other.load_state_dict(module.state_dict(), assign=True)
        assert all(x.data_ptr() == y.data_ptr() for x, y in zip(other.parameters(), module.parameters(), strict=True))
    else:
        other.to_empty(device="cpu").load_state_dict(module.state_dict())
    same(other, module, mixer)


@every
def test_8_deepcopy(mixer: Mixer) -> None:
    """After a backward pass, too; the copy is another module."""
    module = mixer.make()
    u = mixer.signal(2, 9)
    before = module(u)
    if before.requires_grad:
        before.sum().backward()
    other = copy.deepcopy(module)
    same(other, module, mixer)
    with torch.no_grad():
        for x in (*other.parameters(), *other.buffers()):
            x.add_(1)
    assert torch.equal(module(u), before)


@every
def test_8_functional_call(mixer: Mixer) -> None:
    """Parameters come from outside: nothing is computed from the module's own, or kept from an earlier call."""
    module, other = mixer.make(), mixer.make()
    with torch.no_grad():
        for x in other.parameters():
            x.mul_(0.9)
    u = mixer.signal(2, 33)
    before = module(u)
    values = {name: x.detach().clone().requires_grad_() for name, x in other.named_parameters()}
    buffers = {name: 0.9 * x if x.is_floating_point() else x for name, x in module.named_buffers()}
    y = functional_call(module, values | buffers, (u,))
    other.load_state_dict(buffers, strict=False)
    expected = outcome(other, forward, u)
    assert torch.equal(y, expected["output"])
    assert not torch.equal(y, before)
    if values:
        y.sum().backward()
        assert all(x.grad is None for x in module.parameters())
        assert all(x.grad is not None for x in values.values())
    assert torch.equal(module(u), before)


# ------------------------------------------------------------------------------------------------- 8: types


def types_of(tensors: Any) -> set[torch.dtype]:
    return {x.dtype for x in leaves(tensors) if x.is_floating_point()}


@every
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_8_one_type_throughout(mixer: Mixer, dtype: torch.dtype) -> None:
    module = mixer.make(dtype)
    u = mixer.signal(2, 9, dtype)
    found = outcome(module, extend if module.is_causal else forward, u)
    assert types_of(found) == {dtype}
    if module.is_causal:
        assert types_of((module.init_state(2), module.init_state(2, dtype=dtype))) == {dtype}
        assert types_of(module.step(u[:, 0], module.init_state(2))) == {dtype}


@every
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_8_autocast(mixer: Mixer, training: bool) -> None:
    """Narrow in, narrow out, right to the narrow precision; states, parameters and their gradients stay wide."""
    module = mixer.make(F32, training=training)
    u = mixer.signal(3, 9, F32)
    lengths, resets = torch.tensor([9, 4, 2]), reset_mask([[3], [], [1]], 9)
    torch.manual_seed(0)  # for the taps that kernel dropout drops
    expected = module(u, lengths=lengths, resets=resets)
    with torch.autocast("cpu", dtype=BF16):
        narrow = u.bfloat16() if u.is_floating_point() else u
        torch.manual_seed(0)
        y = module(narrow, lengths=lengths, resets=resets)
        states = []
        if module.is_causal and not (training and mixer.name == "rtf-dropout"):
            extended, state = module.extend(narrow, lengths=lengths)
            stepped, after = module.step(narrow[:, 0], state)
            states = [state, after]
            assert types_of((extended, stepped)) == types_of(y)
    assert types_of(y) == {BF16} or mixer.vocabulary is not None  # tokens do not say in which type to answer
    assert relative_error(y.float(), expected) <= NARROW
    assert types_of(states) <= {F32}
    if y.requires_grad:
        y.float().sum().backward()
        assert all(x.grad is not None and x.grad.dtype == F32 and x.grad.isfinite().all() for x in module.parameters())


@every
@pytest.mark.parametrize("dtype", [BF16, torch.float16], ids=str)
def test_8_coefficients_stay_wide(mixer: Mixer, dtype: torch.dtype) -> None:
    """A module moved to a narrow type keeps its filters, and takes and gives narrow signals."""
    module, moved = mixer.make(F32), mixer.make(F32).to(dtype)
    filters, originals = ([x for x in one.modules() if holds_filters(x)] for one in (moved, module))
    assert bool(filters) == mixer.has_filters
    for child, original in zip(filters, originals, strict=True):
        for x, y in zip(child.state_dict().values(), original.state_dict().values(), strict=True):
            assert torch.equal(x, y)
            assert x.dtype == F32 or not x.is_floating_point()
    u = mixer.signal(2, 33, F32)
    y = moved(u.to(dtype) if u.is_floating_point() else u)
    assert y.dtype == dtype
    assert relative_error(y.float(), module(u)) <= NARROW
    if moved.is_causal:
        y, state = moved.extend(u.to(dtype) if u.is_floating_point() else u)
        assert y.dtype == dtype
        assert types_of(state) == {F32}
        assert types_of(moved.init_state(2)) == {F32}


# ---------------------------------------------------------------------------------------------- 8: compiler

NAMES = ("rtf", "rtf-scan", "s5", "lru", "hyena-rtf", "attention", "s4d", "s4", "model-mean")
VARIANTS = (
    "rtf-reflection-fft",
    "rtf-both",
    "realization",
    "s5-both",
    "s5-realization",
    "implicit",
    "hyena-implicit",
    "attention-both",
    "s4d-real",
    "s4d-both",
    "s4d-realization",
    "s4-rank-2",
    "s4-both",
    "s4-realization",
)
COMPILED = [mixer for mixer in MIXERS if mixer.name in NAMES] + [
    pytest.param(mixer, marks=pytest.mark.exhaustive) for mixer in MIXERS if mixer.name in VARIANTS
]
BUILT = [mixer for mixer in MIXERS if mixer.name in ("rtf", "rtf-scan")] + [
    pytest.param(mixer, marks=pytest.mark.exhaustive)
    for mixer in MIXERS
    if mixer.name in ("s4", "s4d", "s5", "lru", "hyena-rtf", "implicit", "attention")
]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """As one graph with its backward pass, which are run as they were traced, not generated or divided anew."""
    return torch.compile(function, fullgraph=True, backend="aot_eager_default_partitioner")


@pytest.mark.compile
@pytest.mark.parametrize("mixer", COMPILED, ids=str)
@pytest.mark.parametrize("bounds", [(None, None), ([9, 4, 0], [[2], [0], []])], ids=["plain", "bounded"])
def test_8_compiles_in_one_graph(mixer: Mixer, bounds: Any) -> None:
    """Forward, extend and step, with values and gradients of the module as it is."""
    torch.compiler.reset()
    module = mixer.make()
    if bounds[1] is not None:  # where the FFT path cuts rows depends on values, which a graph does not know
        module = with_method(module, "scan" if mixer.name == "rtf-reflection-fft" else "auto")
        if any(isinstance(x, LongConvolution) for x in module.modules()):  # what has no other path
            bounds = bounds[0], None
    u = mixer.signal(3, 9)
    whole = compiled(lambda u, options: module(u, **options))
    options: dict[str, Tensor] = {}
    if bounds[0] is not None:
        options["lengths"] = torch.tensor(bounds[0])
    if bounds[1] is not None:
        options["resets"] = reset_mask(bounds[1], 9)
    expected = outcome(module, lambda mixer, u, _: (mixer(u, **options), None), u)
    assert_same(outcome(module, lambda _, u, __: (whole(u, options), None), u), expected, tolerance(module, F64))
    if module.is_causal:
        part = compiled(lambda u, state, options: module.extend(u, state, **options))
        state = a_state(module, mixer.signal(3, 5, seed=1))
        # In a graph no sample can be dropped. With gradients, as below: without them it would be another graph.
        room = part(leaf(u), tree_map(leaf, state), options)[1]

        def eager(mixer: Any, u: Tensor, state: Any) -> tuple[Tensor, Any]:
            y, after = mixer.extend(u, state, **options)
            return y, tree_map(lambda x, z: in_step((x, z))[0], after, room)

        expected = outcome(module, eager, u, state)
        found = outcome(module, lambda _, u, state: part(u, state, options), u, state)
        assert_same(found, expected, tolerance(module, F64))
    if mixer.causal and bounds == (None, None):
        step = compiled(lambda u, state: module.step(u[:, 0], state))
        expected = outcome(module, lambda mixer, u, state: mixer.step(u[:, 0], state), u, state)
        found = outcome(module, lambda _, u, state: step(u, state), u, state)
        assert_same(found, expected, tolerance(module, F64))


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex:UserWarning")
@pytest.mark.parametrize("mixer", BUILT, ids=str)
def test_8_the_usual_compiler_builds_the_graph(mixer: Mixer) -> None:
    """Not only its front end: others take tens of seconds each, and `make laws` has them."""
    torch.compiler.reset()
    module, u = mixer.make(), mixer.signal(3, 9)
    whole = torch.compile(module, fullgraph=True)
    expected = outcome(module, lambda mixer, u, _: (mixer(u), None), u)
    assert_same(outcome(module, lambda _, u, __: (whole(u), None), u), expected, tolerance(module, F64))


@pytest.mark.compile
@pytest.mark.parametrize("mixer", [mixer for mixer in MIXERS if mixer.name == "model-mean"], ids=str)
def test_8_training_compiles_in_one_graph(mixer: Mixer) -> None:
    """With padding, and statistics of batches that leave it out."""
    torch.compiler.reset()
    module, other = mixer.make(training=True), mixer.make(training=True)
    u, lengths = mixer.signal(3, 5), torch.tensor([5, 2, 0])
    graph = compiled(lambda u: module(u, lengths=lengths))
    expected = outcome(other, lambda mixer, u, _: (mixer(u, lengths=lengths), None), u)
    assert_same(outcome(module, lambda _, u, __: (graph(u), None), u), expected, tolerance(module, F64))
    for (name, x), y in zip(module.state_dict().items(), other.state_dict().values(), strict=True):
        assert relative_error(x, y) <= tolerance(module, F64), name
