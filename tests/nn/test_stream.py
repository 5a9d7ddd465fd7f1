"""A stream owns the state of a decoder, whatever pytree that is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from laws.runs import signal
from laws.tolerance import relative_error, tolerance
from nn.layers import F64, D, N, P, make, untyped
from transferfn.models import Backbone, Classifier
from transferfn.nn import RTF, S5, Attention, Hyena, NotCausalError, Stream


class Counter(nn.Module):
    """Counts tokens seen since rest, and remembers the last one; its state is a dictionary of a tensor and a pair."""

    def init_state(self, batch_size: int, *, device: Any = None, dtype: Any = None) -> dict[str, Any]:
        return {"last": torch.zeros(batch_size), "seen": (torch.zeros(batch_size, 1, dtype=torch.long),)}

    def step(self, u_t: Tensor, state: Any) -> tuple[Tensor, Any]:
        count = state["seen"][0] + 1
        return count[:, 0], {"last": u_t.float(), "seen": (count,)}

    def extend(self, u: Tensor, state: Any = None, *, lengths: Any = None, resets: Any = None) -> tuple[Tensor, Any]:
        ys = []
        for u_t in u.unbind(1):
            y, state = self.step(u_t, state)
            ys.append(y)
        return torch.stack(ys, 1), state


@pytest.fixture
def u() -> Tensor:
    return signal(2, 30, D)


def test_takes_over_a_state_and_hands_it_on(u: Tensor) -> None:
    """From a prefill by the decoder, through two streams, back to the decoder."""
    layer = make().eval()
    decoder = layer.realize()
    first, state = decoder.extend(u[:, :10])
    one, other = Stream(decoder, 2), Stream(layer, 2)
    one.state = state
    second = one(u[:, 10:17])
    other.state = one.state
    third = torch.stack([other(u_t) for u_t in u[:, 17:20].unbind(1)], 1)
    fourth, _ = decoder.extend(u[:, 20:], other.state)
    assert relative_error(torch.cat((first, second, third, fourth), 1), layer(u)) <= tolerance(layer, F64)


def test_streams_of_one_decoder_are_independent(u: Tensor) -> None:
    decoder = make().realize()
    one, other = Stream(decoder, 2), Stream(decoder, 2)
    expected = one(u[:, 0])
    other(u[:, 1])
    one.reset()
    assert torch.equal(one(u[:, 0]), expected)
    kept = one.state
    before = kept.clone()
    one(u[:, 1])
    assert torch.equal(kept, before)  # what it has handed out is not its own any more


def test_reset_some_rows(u: Tensor) -> None:
    decoder = make().realize()
    stream, fresh = Stream(decoder, 2), Stream(decoder, 2)
    stream(u)
    before = stream.state
    stream.reset(torch.tensor([True, False]))
    assert not stream.state[0].any()
    assert torch.equal(stream.state[1], before[1])
    assert torch.equal(stream(u[:, 0])[0], fresh(u[:, 0])[0])
    stream.reset()
    assert not stream.state.any()


def test_blocks_take_lengths_and_resets(u: Tensor) -> None:
    decoder = make().realize()
    stream = Stream(decoder, 2)
    lengths, resets = torch.tensor([30, 7]), torch.zeros(2, 30, dtype=torch.bool)
    resets[0, 11] = True
    expected, state = decoder.extend(u, lengths=lengths, resets=resets)
    assert torch.equal(stream(u, lengths=lengths, resets=resets), expected)
    assert torch.equal(stream.state, state)
    with pytest.raises(ValueError, match=r"belong to blocks.*reset\(rows\)"):
        stream(u[:, 0], resets=resets)


def test_is_for_decoding(u: Tensor) -> None:
    """In eval mode, without gradients, also from a state that has some."""
    layer = make(kernel_dropout=0.5)
    stream = Stream(layer, 2)
    assert not layer.training
    stream.state = torch.ones(2, D, 3, dtype=F64, requires_grad=True)
    assert not stream(u).requires_grad
    assert not stream.state.requires_grad
    assert torch.equal(Stream(layer, 2)(u), Stream(layer, 2)(u))


def test_type_and_device_of_the_signals(device: torch.device) -> None:
    layer = make(dtype=torch.float32).to(device)
    assert Stream(layer, 2).state.dtype == torch.float32
    assert Stream(layer, 2).state.device.type == device.type
    stream = Stream(layer, 2, dtype=torch.bfloat16)
    assert stream.state.dtype == torch.float32  # states are never narrow
    u = torch.ones(2, D, dtype=torch.bfloat16, device=device)
    assert stream(u).dtype == torch.bfloat16
    if device.type != "mps":
        stream = Stream(layer, 2, dtype=F64)
        assert stream.state.dtype == F64
        assert stream(u.double()).dtype == F64


def test_tokens_and_states_that_are_trees() -> None:
    stream = Stream(Counter(), 3)
    tokens = torch.arange(12).reshape(3, 4)
    assert stream(tokens[:, 0]).tolist() == [1, 1, 1]
    assert stream(tokens[:, 1:]).tolist() == [[2, 3, 4]] * 3
    stream.reset(torch.tensor([False, True, False]))
    assert stream.state["last"].tolist() == [3, 0, 11]
    assert stream(tokens[:, 0]).tolist() == [5, 1, 5]
    state = Counter().init_state(3)
    stream.state = state
    for wrong in ({"last": state["last"]}, state | {"seen": state["seen"][0]}, Counter().init_state(2), None):
        with pytest.raises(
            ValueError, match=r"expected a state such as this stream has, \{'last': \(3,\), .*same decoder"
        ):
            stream.state = wrong
    assert stream.state["last"] is state["last"]


@pytest.mark.parametrize("shape", [(3, D), (3, 5, D), (1, D), (D,), ()], ids=str)
def test_a_batch_of_another_size_is_refused(shape: tuple[int, ...]) -> None:
    stream = Stream(make().realize(), 2)
    with pytest.raises(ValueError, match="this stream has 2 rows, got an input of shape"):
        stream(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"such as this stream has, \(2, 4, 3\), got \(3, 4, 3\)"):
        stream.state = torch.zeros(3, D, 3)
    with pytest.raises(ValueError, match=r"bool mask of shape \(2,\), got \(3,\)"):
        stream.reset(torch.ones(3, dtype=torch.bool))


def test_needs_rows_and_a_causal_decoder() -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        Stream(make(), 0)
    with pytest.raises(NotCausalError, match="bidirectional"):
        Stream(make(bidirectional=True), 2)


@untyped
def test_needs_the_verbs() -> None:
    with pytest.raises(TypeError, match="Linear has no extend"):
        Stream(nn.Linear(2, 2), 2)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="u must be a tensor, got list"):
        Stream(make(), 2)([[0.0] * D] * 2)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="rows must be a tensor, got list"):
        Stream(make(), 2).reset([True, False])  # pyright: ignore[reportArgumentType]


def test_print() -> None:
    assert (
        repr(Stream(make().realize(), 2))
        == "Stream(Realization(channels=4, order=3, dtype=torch.float64), batch_size=2)"
    )


# ---------------------------------------------------------------------------------------------------- kept in a file


def nested() -> Classifier:
    """States of every kind: of filters, of convolutions, complex ones, memories that grow, a running mean."""
    torch.manual_seed(0)
    mixers = iter([make(dtype=torch.float32), Hyena(D, filter=lambda: make(dtype=torch.float32)), S5(D, 4),
                   Attention(D, heads=2)])  # fmt: skip
    return Classifier(Backbone(D, 4, lambda: next(mixers), inputs=D), 3, head="mean").eval()


@pytest.mark.parametrize("block", [1, 7])
@pytest.mark.parametrize("kind", ["filter", "model"])
def test_kept_in_a_file_it_goes_on_to_the_last_bit(kind: str, block: int, u: Tensor, tmp_path: Path) -> None:
    """At each place, also where a ring has moved, by another stream of another decoder made the same way."""
    decoder, again = (make().realize() if kind == "filter" else nested().decoder() for _ in range(2))
    u = u if kind == "filter" else u.float()
    stream = Stream(decoder, 2)
    blocks = [x[:, 0] if block == 1 else x for x in u.split(block, dim=1)]
    for place, x in enumerate(blocks):
        stream.save(tmp_path / "state", note={"place": place, "rate": None})
        other = Stream(again, 2)
        other(blocks[0])  # what it has seen is forgotten
        assert other.load(tmp_path / "state") == {"place": place, "rate": None}
        assert torch.equal(other(x), stream(x))
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_an_end_in_the_middle_of_a_write_leaves_the_state_before(
    u: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Stream(make().realize(), 2)
    stream(u)
    stream.save(tmp_path / "state")
    expected = stream.state
    stream(u)

    def cut(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise KeyboardInterrupt

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    for target, name, by in ((Path, "write_bytes", cut), (os, "fsync", stop), (os, "replace", stop)):
        with monkeypatch.context() as patched:
            patched.setattr(target, name, by)
            with pytest.raises(KeyboardInterrupt):
                stream.save(tmp_path / "state")
        assert [path.name for path in tmp_path.iterdir()] == ["state"]
        other = Stream(make().realize(), 2)
        other.load(tmp_path / "state")
        assert torch.equal(other.state, expected)
    (tmp_path / "state.part").write_bytes(b"what a killed process has left")
    stream.save(tmp_path / "state")
    other.load(tmp_path / "state")
    assert torch.equal(other.state, stream.state)


def test_a_damaged_file_is_refused_wherever_it_is_damaged(u: Tensor, tmp_path: Path) -> None:
    file, stream = tmp_path / "state", Stream(make().realize(), 2)
    stream(u)
    stream.save(file)
    whole, before = file.read_bytes(), stream.state
    place = whole.index(before.numpy().tobytes()) + 5  # in the middle of a number
    damaged = [whole[:size] for size in (0, 1, len(whole) // 2, len(whole) - 1)]
    damaged += [whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :], b"no state", b"\0" * len(whole)]
    for raw in damaged:
        file.write_bytes(raw)
        with pytest.raises(ValueError, match="state is damaged, or no state of a stream: delete it"):
            stream.load(file)
    for foreign in (before, {"state": before}, {"format": "another"}):
        torch.save(foreign, file)
        with pytest.raises(ValueError, match="no state of a stream"):
            stream.load(file)
    with pytest.raises(FileNotFoundError):
        stream.load(tmp_path / "none")
    assert torch.equal(stream.state, before)


def test_a_state_of_something_else_is_refused(u: Tensor, tmp_path: Path) -> None:
    file, layer = tmp_path / "state", make()
    stream = Stream(layer.realize(), 2)
    stream(u)
    stream.save(file)
    near = make().realize()
    near.b[0, 0] = torch.nextafter(near.b[0, 0], near.b.new_tensor(9.0))
    others = (RTF(D, 4, horizon=P, dtype=F64), RTF(2, N, horizon=P, dtype=F64), layer, near, nested())
    for other in (*others, make(dtype=torch.float32).realize()):
        with pytest.raises(ValueError, match=r"another decoder or of other coefficients.*\[\(2, 4, 3\)\], those of"):
            Stream(other, 2).load(file)
    stream = Stream(make().realize(), 2)
    with pytest.raises(ValueError, match=r"rows and types are \[\(2, 'float64'\)\], those of this stream \[\(3,"):
        Stream(stream.decoder, 3).load(file)
    narrow = Stream(make(dtype=torch.float32).realize(), 2)
    narrow.save(file)
    with pytest.raises(ValueError, match=r"\[\(2, 'float32'\)\], those of this stream \[\(2, 'float64'\)\].*dtype"):
        Stream(narrow.decoder, 2, dtype=F64).load(file)


def test_what_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    class Plain:
        eval = init_state = extend = step = lambda self, *_, **__: self

    with pytest.raises(TypeError, match=r"Plain is no torch.nn.Module.*keep stream.state yourself"):
        Stream(Plain(), 1).save(tmp_path / "state")  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="JSON"):
        Stream(make(), 1).save(tmp_path / "state", note={"u": torch.ones(1)})
    with pytest.raises(FileNotFoundError):
        Stream(make(), 1).save(tmp_path / "missing" / "state")
    assert not list(tmp_path.iterdir())
