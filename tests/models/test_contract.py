"""The laws of the mixer contract, for blocks, backbones and classifiers."""

from __future__ import annotations

import copy
import io
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.testing import assert_close
from torch.utils._pytree import tree_map

from models.leaky import LookingAhead
from models.subjects import SUBJECTS, Build, draw, leaky, make, pooled, takes_tokens
from transferfn.nn import RTF, Stream
from transferfn.nn.mixer import NotCausalError, SequenceMixer, valid_samples

LENGTHS = [1, 2, 16, 17, 21]


def rtf() -> SequenceMixer:
    return RTF(4, 4, horizon=16, denominator_groups=2)


MIXERS = {"leaky": (leaky, 1e-12), "rtf": (rtf, 1e-10)}


@pytest.fixture(params=MIXERS)
def tight(request: pytest.FixtureRequest) -> dict[str, float]:
    return {"rtol": MIXERS[request.param][1], "atol": MIXERS[request.param][1]}


@pytest.fixture(params=SUBJECTS)
def build(request: pytest.FixtureRequest) -> Build:
    return SUBJECTS[request.param]


@pytest.fixture
def module(build: Build, tight: dict[str, float], request: pytest.FixtureRequest) -> nn.Module:
    return make(build, mixer=MIXERS[request.node.callspec.params["tight"]][0])


def rows(state: Any, which: slice) -> Any:
    return tree_map(lambda x: x[which], state)


def outputs_of_chunks(module: Any, u: Tensor, sizes: list[int], state: Any = None) -> tuple[Tensor, Any]:
    ys = []
    for chunk in u.split(sizes, dim=1):
        y, state = module.extend(chunk, state)
        ys.append(y)
    return (ys[-1] if pooled(module) else torch.cat(ys, 1)), state


# ---------------------------------------------------------------------------------- 1-3: the same numbers


@pytest.mark.parametrize("length", LENGTHS)
def test_forward_is_extend(module: Any, tight: dict[str, float], length: int) -> None:
    u = draw(module, 3, length)
    y, _ = module.extend(u)
    assert_close(module(u), y, **tight)
    assert_close(module.extend(u, module.init_state(3))[0], y, **tight)


@pytest.mark.parametrize("sizes", [[5, 12], [0, 17], [17, 0], [1, 15, 1], [3, 0, 0, 7, 7]], ids=str)
def test_chunks(module: Any, tight: dict[str, float], sizes: list[int]) -> None:
    u = draw(module, 3, sum(sizes))
    assert_close(outputs_of_chunks(module, u, sizes), module.extend(u), **tight)


@pytest.mark.parametrize("length", LENGTHS)
def test_steps(module: Any, tight: dict[str, float], length: int) -> None:
    """Each step gives what the parallel pass gives for the sequence up to it; for pooled heads, that is its law 1."""
    u = draw(module, 2, length)
    state = module.init_state(2)
    whole = None if pooled(module) else module(u)
    for t in range(length):
        y_t, state = module.step(u[:, t], state)
        assert_close(y_t, module(u[:, : t + 1]) if whole is None else whole[:, t], **tight)
    assert_close(state, module.extend(u)[1], **tight)


@pytest.mark.parametrize("sizes", [[1] * 13, [6, 7], [1, 5, 0, 7]], ids=str)
def test_stream(module: Any, tight: dict[str, float], sizes: list[int]) -> None:
    """Samples go through `step`, blocks through `extend`; the state is the contract's."""
    u = draw(module, 3, 13)
    stream = Stream(module.decoder() if hasattr(module, "decoder") else module.realize(), 3)
    ys, begin = [], 0
    for size in sizes:
        y = stream(u[:, begin] if size == 1 else u[:, begin : begin + size])
        ys.append(y[:, None] if size == 1 and not pooled(module) else y)
        begin += size
    expected, state = module.extend(u)
    assert_close(ys[-1] if pooled(module) else torch.cat(ys, 1), expected, **tight)
    assert_close(stream.state, state, **tight)

    stream.reset(torch.tensor([False, True, False]))
    y = stream(u[:, :4])
    fresh = module.extend(u[:, :4])[0]
    assert_close(y[1], fresh[1], **tight)
    assert_close(y[[0, 2]], module.extend(u[:, :4], state)[0][[0, 2]], **tight)


def test_an_empty_sequence(module: Any) -> None:
    u = draw(module, 2, 0)
    y, state = module.extend(u)
    assert y.shape == module(u).shape
    assert y.isfinite().all()
    assert_close(state, module.init_state(2), rtol=0, atol=0)


def test_an_empty_chunk_returns_the_state(module: Any) -> None:
    _, state = module.extend(draw(module, 2, 5))
    y, after = module.extend(draw(module, 2, 0), state)
    assert_close(after, state, rtol=0, atol=0)
    if pooled(module):
        assert_close(y, module(draw(module, 2, 5)), rtol=1e-10, atol=1e-10)


def test_state_is_not_changed_in_place(module: Any) -> None:
    _, state = module.extend(draw(module, 2, 5))
    before = tree_map(torch.clone, state)
    module.extend(draw(module, 2, 3), state)
    module.step(draw(module, 2, 3)[:, 0], state)
    assert_close(state, before, rtol=0, atol=0)


def test_gradients_flow_through_the_state(module: Any, tight: dict[str, float]) -> None:
    u = draw(module, 2, 13)
    for pieces in ([13], [6, 7]):
        module.zero_grad()
        y, _ = outputs_of_chunks(module, u, pieces)
        y.square().sum().backward()
        gradients = [p.grad for p in module.parameters()]
        if pieces == [13]:
            expected = [None if g is None else g.clone() for g in gradients]
    assert_close(gradients, expected, rtol=1e2 * tight["rtol"], atol=1e2 * tight["atol"])


# ----------------------------------------------------------------------------------------- 4: lengths


@pytest.mark.parametrize("lengths", [[9, 4, 0], [9, 9, 9], [1, 0, 0], [0, 0, 0]], ids=str)
@pytest.mark.parametrize("start", ["rest", "state"])
def test_lengths(module: Any, tight: dict[str, float], lengths: list[int], start: str) -> None:
    """Each row of a padded batch gives what the row alone gives."""
    u = pad(draw(module, 3, 9), lengths)
    before = None if start == "rest" else module.extend(draw(module, 3, 4))[1]
    y, state = module.extend(u, before, lengths=torch.tensor(lengths))
    if before is None:
        assert_close(module(u, lengths=torch.tensor(lengths)), y, **tight)
    for row, length in enumerate(lengths):
        one = slice(row, row + 1)
        alone, after = module.extend(u[one, :length], None if before is None else rows(before, one))
        assert_close(rows(state, one), after, **tight)
        if pooled(module):
            assert_close(y[one], alone, **tight)
        else:
            assert_close(y[one, :length], alone, **tight)
            assert y[row, length:].eq(0).all()


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("lengths", [[9, 4, 0], [9, 9, 9], [2, 1, 0]], ids=str)
@pytest.mark.parametrize("mixer", MIXERS)
def test_padding_changes_nothing(build: Build, lengths: list[int], training: bool, mixer: str) -> None:
    """Neither what padding holds nor how much there is changes outputs, averages or any gradient."""
    length = max(lengths)
    results = []
    for filling, extra in ((0.0, 0), (float("nan"), 0), (float("inf"), 7), (1e30, 2)):
        module = make(build, training=training, mixer=MIXERS[mixer][0])
        clean = draw(module, 3, 9)[:, :length]
        u = pad(torch.cat([clean, clean[:, :1].repeat_interleave(extra, 1)], 1), lengths, filling)
        signal = u.is_floating_point()
        y = module(u.requires_grad_(signal), lengths=torch.tensor(lengths))
        weights = torch.linspace(-1, 2, y[:, :length].numel(), dtype=y.dtype).view_as(y[:, :length])
        (y[:, :length] * weights).sum().backward()
        gradients = {name: p.grad for name, p in module.named_parameters()}
        if signal:
            assert u.grad is not None
            assert u.grad[~valid_samples(torch.tensor(lengths), u.shape[1])].eq(0).all()
            gradients["u"] = u.grad[:, :length]
        results.append((y[:, :length], dict(module.named_buffers()), gradients))
    for other in results[1:]:
        assert_close(other, results[0], rtol=1e-11, atol=1e-11)


def pad(u: Tensor, lengths: list[int], filling: float = float("nan")) -> Tensor:
    """Fill what lies past the lengths with what does the most harm."""
    valid = valid_samples(torch.tensor(lengths), u.shape[1])
    if not u.is_floating_point():
        return torch.where(valid, u, -100)
    return torch.where(valid[..., None], u, filling)


# ------------------------------------------------------------------------------------------ 5: resets

RESETS = {
    "middle": [[4], [7]],
    "start": [[0], [0, 5]],
    "adjacent": [[3, 4, 5], [9, 10]],
    "last": [[10], [0, 10]],
    "one-row": [[], [2]],
    "none": [[], []],
}


@pytest.mark.parametrize("where", RESETS)
@pytest.mark.parametrize("start", ["rest", "state"])
def test_resets(module: Any, tight: dict[str, float], where: str, start: str) -> None:
    """A row with resets gives what its segments give one by one, each but the first from rest."""
    length = 11
    u, resets = draw(module, 2, length), reset_mask(RESETS[where], length)
    before = None if start == "rest" else module.extend(draw(module, 2, 4))[1]
    y, state = module.extend(u, before, resets=resets)
    if before is None:
        assert_close(module(u, resets=resets), y, **tight)
    for row in range(2):
        one = slice(row, row + 1)
        after = None if before is None else rows(before, one)
        for first, last in segments(RESETS[where][row], length):
            alone, after = module.extend(u[one, first:last], None if resets[row, first] else after)
            if not pooled(module):
                assert_close(y[one, first:last], alone, **tight)
        assert_close(rows(state, one), after, **tight)
        if pooled(module):
            assert_close(y[one], alone, **tight)


@pytest.mark.parametrize("start", ["rest", "state"])
def test_resets_in_the_padding_count_for_nothing(module: Any, tight: dict[str, float], start: str) -> None:
    lengths = torch.tensor([7, 4, 0])
    u = draw(module, 3, 11)
    before = None if start == "rest" else module.extend(draw(module, 3, 4))[1]
    inside = reset_mask([[2, 6], [1], []], 11)
    with_more = inside | reset_mask([[7, 8], [4, 10], [0, 3]], 11)
    expected = module.extend(u, before, lengths=lengths, resets=inside)
    assert_close(module.extend(u, before, lengths=lengths, resets=with_more), expected, **tight)
    for row, length in enumerate(lengths.tolist()):
        one = slice(row, row + 1)
        _, after = module.extend(
            u[one, :length], None if before is None else rows(before, one), resets=inside[one, :length]
        )
        assert_close(rows(expected[1], one), after, **tight)


def reset_mask(where: list[list[int]], length: int) -> Tensor:
    resets = torch.zeros(len(where), length, dtype=torch.bool)
    for row, samples in enumerate(where):
        resets[row, samples] = True
    return resets


def segments(samples: list[int], length: int) -> list[tuple[int, int]]:
    edges = sorted({0, length, *samples})
    return list(itertools.pairwise(edges))


# ------------------------------------------------------------------------------- looking ahead


def bidirectional() -> SequenceMixer:
    return RTF(4, 4, horizon=16, denominator_groups=2, bidirectional=True)


@pytest.fixture(params=[name for name in SUBJECTS if "last" not in name])
def ahead(request: pytest.FixtureRequest, both_ways: Callable[[], SequenceMixer]) -> Any:
    return make(SUBJECTS[request.param], mixer=both_ways)


@pytest.fixture(params=[LookingAhead, bidirectional], ids=["naive", "rtf"])
def both_ways(request: pytest.FixtureRequest) -> Callable[[], SequenceMixer]:
    return request.param


def test_looking_ahead_has_forward_only(ahead: Any) -> None:
    u = draw(ahead, 3, 9)
    assert not ahead.is_causal
    assert ahead(u).isfinite().all()
    with pytest.raises(NotCausalError, match=type(ahead).__name__ + r"\.extend"):
        ahead.extend(u)
    with pytest.raises(NotCausalError, match=type(ahead).__name__ + r"\.step"):
        ahead.step(u[:, 0], None)
    with pytest.raises(NotCausalError, match=type(ahead).__name__ + r"\.init_state"):
        ahead.init_state(3)
    if hasattr(ahead, "decoder"):
        with pytest.raises(NotCausalError, match=type(ahead).__name__ + r"\.decoder"):
            ahead.decoder()


def test_looking_ahead_within_lengths(ahead: Any) -> None:
    lengths = [9, 4, 1]
    u = pad(draw(ahead, 3, 9), lengths)
    y = ahead(u, lengths=torch.tensor(lengths))
    for row, length in enumerate(lengths):
        alone = ahead(u[row : row + 1, :length])
        assert_close(y[row : row + 1] if pooled(ahead) else y[row : row + 1, :length], alone, rtol=1e-10, atol=1e-10)


# --------------------------------------------------------------------------------- 8: module hygiene


@pytest.mark.parametrize("mixer", MIXERS)
def test_state_dict_round_trip(build: Build, mixer: str) -> None:
    module, other = make(build, mixer=MIXERS[mixer][0]), build(mixer=MIXERS[mixer][0]).double().eval()
    u = draw(module, 2, 5)
    stored = io.BytesIO()
    torch.save(module.state_dict(), stored)
    stored.seek(0)
    other.load_state_dict(torch.load(stored, weights_only=True))
    assert_close(other(u), module(u), rtol=0, atol=0)


@pytest.mark.parametrize("mixer", MIXERS)
def test_meta_device_then_assign(build: Build, mixer: str) -> None:
    module = make(build, mixer=MIXERS[mixer][0])
    with torch.device("meta"):
        other = build(mixer=MIXERS[mixer][0]).eval()
    other.load_state_dict(module.state_dict(), assign=True)
    u = draw(module, 2, 5)
    assert_close(other(u), module(u), rtol=0, atol=0)


@pytest.mark.parametrize("mixer", MIXERS)
def test_meta_device_then_materialise(build: Build, mixer: str) -> None:
    module = make(build, mixer=MIXERS[mixer][0])
    with torch.device("meta"):
        other = build(mixer=MIXERS[mixer][0]).double().eval()
    other.to_empty(device="cpu").load_state_dict(module.state_dict())
    u = draw(module, 2, 5)
    assert_close(other(u), module(u), rtol=0, atol=0)


def test_deepcopy_after_a_backward_pass(module: Any, tight: dict[str, float]) -> None:
    u = draw(module, 2, 5)
    y = module(u)
    y.sum().backward()
    other = copy.deepcopy(module)
    assert_close(other(u), y, **tight)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    assert_close(module(u), y, **tight)


def test_functional_call(module: Any, tight: dict[str, float]) -> None:
    other = copy.deepcopy(module)
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(0.9)
    u = draw(module, 2, 5)
    new = dict(other.named_parameters())
    assert_close(functional_call(module, new, (u,)), other(u), **tight)
    before = module(u)
    functional_call(module, new, (u,)).sum().backward()
    assert all(p.grad is None for p in module.parameters())
    assert_close(module(u), before, rtol=0, atol=0)


def test_float32_agrees_with_float64(module: nn.Module) -> None:
    u = draw(module, 2, 17)
    expected = module(u)
    module.float()
    y = module(u.float() if u.is_floating_point() else u)
    assert y.dtype == torch.float32
    assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)


def test_float64_throughout(module: Any) -> None:
    y, state = module.extend(draw(module, 2, 5))
    tree_map(lambda x: x.dtype == torch.long or check_dtype(x, torch.float64), (y, state))
    tree_map(lambda x: x.dtype == torch.long or check_dtype(x, torch.float64), module.init_state(2))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("mixer", MIXERS)
def test_autocast(build: Build, training: bool, mixer: str) -> None:
    """Narrow in, narrow out; states and parameters stay wide; and the numbers are right to the narrow precision."""
    module: Any = make(build, dtype=torch.float32, training=training, mixer=MIXERS[mixer][0])
    u = draw(module, 3, 9, dtype=torch.float32)
    lengths = torch.tensor([9, 4, 2])
    expected = module(u, lengths=lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = u if takes_tokens(module) else u.bfloat16()
        y = module(narrow, lengths=lengths)
        _, state = module.extend(narrow, lengths=lengths)
        stepped, _ = module.step(narrow[:, 0], state)
    if not takes_tokens(module):  # tokens do not say in which dtype to answer
        check_dtype(y, torch.bfloat16)
        check_dtype(stepped, torch.bfloat16)
    assert_close(y.float(), expected, rtol=0.1, atol=0.1)
    tree_map(lambda x: x.dtype == torch.long or check_dtype(x, torch.float32), state)
    y.float().sum().backward()
    for p in module.parameters():
        if p.grad is not None:
            check_dtype(p.grad, torch.float32)
            assert p.grad.isfinite().all()


def check_dtype(x: Tensor, dtype: torch.dtype) -> None:
    assert x.dtype == dtype


# ------------------------------------------------------------------------------------------ the compiler


TRACER = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # what the tracer does


@TRACER
@pytest.mark.compile
@pytest.mark.parametrize(
    ("name", "mixer"),
    [("block-post", "leaky"), ("backbone-tokens-layer", "leaky"), ("backbone", "rtf"), ("classifier-mean", "rtf")],
)
@pytest.mark.parametrize("bounded", [True, False], ids=["bounded", "plain"])
def test_compiles_in_one_graph(name: str, mixer: str, bounded: bool) -> None:
    torch.compiler.reset()
    module: Any = make(SUBJECTS[name], mixer=MIXERS[mixer][0])
    u = draw(module, 3, 3)
    options = {"lengths": torch.tensor([3, 2, 0])} if bounded else {}
    if bounded and mixer == "leaky":  # where RTF cuts rows at resets depends on values, which a graph does not know
        options["resets"] = reset_mask([[2], [0], []], 3)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    assert_close(compiled(u, **options), module(u, **options), rtol=1e-12, atol=1e-12)
    extend = torch.compile(module.extend, fullgraph=True, backend="aot_eager")
    assert_close(extend(u, **options), module.extend(u, **options), rtol=1e-12, atol=1e-12)
    step = torch.compile(module.step, fullgraph=True, backend="aot_eager")
    state = module.init_state(3)
    assert_close(step(u[:, 0], state), module.step(u[:, 0], state), rtol=1e-12, atol=1e-12)


@TRACER
@pytest.mark.compile
@pytest.mark.parametrize("bounded", [True, False], ids=["bounded", "plain"])
@pytest.mark.parametrize("mixer", MIXERS)
def test_training_compiles_in_one_graph(bounded: bool, mixer: str) -> None:
    torch.compiler.reset()
    module: Any = make(SUBJECTS["classifier-mean"], training=True, mixer=MIXERS[mixer][0])
    other = copy.deepcopy(module)
    u = draw(module, 3, 3)
    options = {"lengths": torch.tensor([3, 2, 0])} if bounded else {}
    y = torch.compile(module, fullgraph=True, backend="aot_eager")(u, **options)
    expected = other(u, **options)
    assert_close(y, expected, rtol=1e-12, atol=1e-12)
    y.square().sum().backward()
    expected.square().sum().backward()
    for (name, p), q in zip(module.named_parameters(), other.parameters(), strict=True):
        assert_close(p.grad, q.grad, rtol=1e-10, atol=1e-10, msg=name)
    assert_close(module.state_dict(), other.state_dict(), rtol=1e-12, atol=1e-12)
