from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")

from transferfn.analysis.samples import sample_figure
from transferfn.tasks import Batch, ListopsConfig, PathfinderConfig, Signature, Splits


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


def test_tokens_are_strips_without_padding() -> None:
    task = ListopsConfig(train=6, validation=0, test=2, min_length=20, max_length=200)
    figure = sample_figure(task, "test")
    figure.canvas.draw()
    assert len(figure.axes) == 2
    gathered = task.load().test.gather([0, 1])
    assert gathered.lengths is not None
    for ax, tokens, length in zip(figure.axes, gathered.inputs, gathered.lengths, strict=True):
        shown = np.ma.masked_array(ax.images[0].get_array()).compressed()
        np.testing.assert_array_equal(shown, tokens[:length].numpy())


def test_pairs_of_tokens_lie_one_above_the_other() -> None:
    tokens = torch.randint(1, 9, (3, 2, 100))
    lengths = torch.tensor([[100, 70], [1, 64], [5, 0]])
    signature = Signature(length=100, vocabulary=9, outputs=2, target="class-of-pair")
    task = Given(signature=signature, batch=batch(tokens, torch.tensor([0, 1, 0]), lengths))
    figure = sample_figure(task, count=3)
    figure.canvas.draw()
    for ax, pair, (first, second) in zip(figure.axes, tokens, lengths, strict=True):
        shown = np.ma.masked_array(ax.images[0].get_array()).compressed()
        np.testing.assert_array_equal(shown, torch.cat([pair[0, :first], pair[1, :second]]).numpy())


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
