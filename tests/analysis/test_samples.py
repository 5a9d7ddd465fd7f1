from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")

from transferfn.analysis.samples import sample_figure
from transferfn.tasks import Batch, CopyingConfig, DelayConfig, ListopsConfig, PathfinderConfig, Signature, Splits
from transferfn.tasks.listops import TOKENS


class Table:
    fresh = False

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return len(self.batch.index)

    def gather(self, indices) -> Batch:
        rows = list(indices)
        return Batch(*(None if part is None else part[rows] for part in self.batch))


@dataclass(frozen=True, kw_only=True)
class Given:
    signature: Signature
    batch: Batch

    def load(self) -> Splits:
        return Splits(Table(self.batch), None, Table(self.batch))


def batch(inputs: torch.Tensor, targets: torch.Tensor, lengths: torch.Tensor | None = None) -> Batch:
    return Batch(inputs, targets, torch.arange(len(inputs)), lengths)


@pytest.fixture(autouse=True)
def _use_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFERFN_CACHE", str(tmp_path))


def test_signals_of_square_length_are_images() -> None:
    task = PathfinderConfig(train=20, validation=0, test=2)
    figure = sample_figure(task, "train", 5)
    figure.canvas.draw()
    assert [ax.get_title("left") for ax in figure.axes] == [
        "0: class 0",
        "5: class 1",
        "10: class 0",
        "14: class 0",
        "19: class 1",
    ]
    shown = np.asarray(figure.axes[1].images[0].get_array())
    np.testing.assert_array_equal(shown, task.load().train.gather([5]).inputs.reshape(32, 32).numpy())


def written(ax) -> str:
    """What is written in axes, its lines put together."""
    (text,) = ax.texts
    assert not ax.images
    return " ".join(line.strip() for line in text.get_text().splitlines())


def test_expressions_are_written_without_padding() -> None:
    task = ListopsConfig(train=6, validation=0, test=2, min_length=20, max_length=100)
    figure = sample_figure(task, "test")
    figure.canvas.draw()
    gathered = task.load().test.gather([0, 1])
    assert gathered.lengths is not None
    for row, (ax, tokens, length) in enumerate(zip(figure.axes, gathered.inputs, gathered.lengths, strict=True)):
        assert written(ax) == " ".join(TOKENS[token] for token in tokens[:length])
        assert ax.get_title("left") == f"{row}: class {int(gathered.targets[row])}, {length} tokens"


def test_long_texts_are_cut_to_fit() -> None:
    task = ListopsConfig(train=2, validation=0, test=2)
    (ax, _) = sample_figure(task, "test").axes
    lines = ax.texts[0].get_text().splitlines()
    assert len(lines) == 4
    assert max(map(len, lines)) <= 122
    assert lines[-1].endswith(" …")


def test_texts_are_written_as_they_are_and_what_no_font_has_is_marked() -> None:
    """A dollar sign begins no formula, and a line of the picture is not that of the text."""

    class Notes(Given):
        def spell(self, tokens) -> str:
            return "".join("$x\n\t漢"[token] for token in tokens)

    signature = Signature(length=5, vocabulary=5, outputs=2, target="class-of-pair")
    tokens = torch.tensor([[[0, 1, 0, 2, 1], [1, 3, 4, 0, 0]]])
    task = Notes(signature=signature, batch=batch(tokens, torch.tensor([1]), torch.tensor([[5, 3]])))
    figure = sample_figure(task)
    figure.canvas.draw()
    assert written(figure.axes[0]) == "$x$↵x & x��"
    assert not figure.axes[0].texts[0].get_parse_math()
    assert figure.axes[0].get_title("left") == "0: class 1, 5 and 3 tokens"


def test_tokens_that_stand_for_nothing_else_are_numbers() -> None:
    signature = Signature(length=3, vocabulary=99, outputs=2)
    task = Given(signature=signature, batch=batch(torch.tensor([[7, 98, 0]]), torch.tensor([1])))
    assert written(sample_figure(task).axes[0]) == "7 98 0"


def test_what_is_asked_for_of_tokens_is_written_from_where_it_sets_in() -> None:
    task = CopyingConfig(memorize=6, samples=2, held_out=2)
    batch = task.load().train.gather([0, 1])
    for ax, tokens in zip(sample_figure(task).axes, batch.inputs, strict=True):
        word = task.spell(tokens[:6].tolist())
        assert len(word) == 6
        assert written(ax) == f"{word}...... → from 6 on: {word}"


def test_of_long_signals_the_start_and_the_lag_are_drawn() -> None:
    figure = sample_figure(DelayConfig(length=2000, lag=700, samples=2, held_out=2), count=2)
    figure.canvas.draw()
    # The first sample is 0, so that what is asked for is seen to set in one later.
    assert [ax.get_xlim() for ax in figure.axes] == [(-20, 180), (681, 881)] * 2
    given, wanted = (np.asarray(line.get_ydata()) for line in figure.axes[1].lines)
    np.testing.assert_array_equal(given[:1300], wanted[700:])


def test_signals_are_lines_and_what_is_asked_for_is_dashed() -> None:
    signals, wanted = torch.randn(2, 36, 1), torch.randn(2, 36, 2)
    signature = Signature(length=36, channels=1, outputs=2, target="signal")
    figure = sample_figure(Given(signature=signature, batch=batch(signals, wanted)))
    figure.canvas.draw()
    for ax, signal, target in zip(figure.axes, signals, wanted, strict=True):
        assert [line.get_linestyle() for line in ax.lines] == ["-", "--", "--"]
        drawn = np.stack([np.asarray(line.get_ydata()) for line in ax.lines], axis=-1)
        np.testing.assert_array_equal(drawn, torch.cat([signal, target], dim=-1).numpy())


def test_several_channels_are_several_lines_up_to_their_length() -> None:
    signals = torch.randn(2, 49, 3)
    signature = Signature(length=49, channels=3, outputs=4)
    task = Given(signature=signature, batch=batch(signals, torch.tensor([3, 1]), torch.tensor([49, 20])))
    figure = sample_figure(task, "test", 2)
    assert [[len(np.asarray(line.get_ydata())) for line in ax.lines] for ax in figure.axes] == [[49] * 3, [20] * 3]
    assert figure.axes[0].get_title("left") == "0: class 3"


def test_senseless_requests_are_refused() -> None:
    task = PathfinderConfig(train=2, validation=0, test=2)
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        sample_figure(task, "train", 0)
    with pytest.raises(ValueError, match="nothing out for validation"):
        sample_figure(task, "validation")
