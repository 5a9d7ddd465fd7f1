from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text

from tasks.digit_files import write_idx
from transferfn.cli.radii import pooled, radii_figure
from transferfn.nn import RTF
from transferfn.tasks import SmnistConfig
from transferfn.training import ModelConfig, RunOptions, TrainConfig, fit
from transferfn.training.radii import QUANTILES, radius_row
from transferfn.training.run import read_rows


def log(*medians: float, largest: float = 0.999) -> list[dict[str, str]]:
    """A log with radii at birth and after each epoch, and a row of a step between."""
    rows = [{"step": str(9 * at), "epoch": str(max(0, at - 1))} for at in range(len(medians))]
    for row, median in zip(rows, medians, strict=True):
        row |= {name: str(largest if name == "radius_max" else median) for name in QUANTILES}
    return [*rows, {"step": "5", "epoch": "0", "radius_max": ""}]


def test_a_run_logs_its_radii_at_birth_once(tmp_path: Path) -> None:
    config = TrainConfig(
        data=SmnistConfig(path=write_idx(tmp_path / "digits"), published=False, side=7, validation=0.1),
        model=ModelConfig(width=4, layers=1, order=4),
        epochs=2,
        batch_size=20,
    )
    fit(config, RunOptions(out=tmp_path / "run", accelerator="cpu", progress=False))
    fit(config, RunOptions(out=tmp_path / "run", accelerator="cpu", progress=False))
    rows = [row for row in read_rows(tmp_path / "run" / "metrics.csv") if row["radius_max"]]
    assert [int(row["step"]) for row in rows] == [0, 9, 18]
    assert pooled([rows])["epoch"] == [0, 1, 2]
    # A comb of four poles: the longest memory at birth is that of its slowest denominator.
    born = radius_row(RTF(4, 4, horizon=49))
    assert float(rows[0]["radius_max"]) == pytest.approx(born["radius_max"], abs=1e-6)


def test_seeds_are_pooled_to_the_median_of_each_and_the_largest_of_all() -> None:
    found = pooled([log(0.5, 0.6, 0.7), log(0.6, 0.7), log(0.9, 0.8, largest=1.2)])
    assert found["epoch"] == [0, 1]
    assert found["radius_median"] == [0.6, 0.7]
    assert found["radius_max"] == [1.2, 1.2]
    assert pooled([log(0.5), [{"step": "0", "epoch": "0"}]]) == {}


def test_distances_to_the_circle_are_on_a_logarithmic_axis() -> None:
    figure = radii_figure([("stable", [log(0.9, 0.99)]), ("none", [[]]), ("not", [log(0.99, 0.999, largest=1.05)])])
    assert figure is not None
    figure.canvas.draw()
    stable, unstable = figure.axes
    assert stable.get_yscale() == "symlog"
    _, median, _ = stable.lines
    np.testing.assert_allclose(np.asarray(median.get_ydata()), [-0.1, -0.01])
    assert np.asarray(median.get_xdata()).tolist() == [0, 1]
    # A tenth of the distance is as far on the picture wherever it is: the flat line near 1 is no more.
    places = stable.transData.transform([(0, -1.0), (0, -0.1), (0, -0.01)])[:, 1]
    np.testing.assert_allclose(np.diff(places), np.diff(places)[0])
    written = dict(zip(stable.get_yticks(), [label.get_text() for label in stable.get_yticklabels()], strict=True))
    assert {-0.1: "0.9", -0.01: "0.99", 0.0: "1", 0.1: "1.1"}.items() <= written.items()
    assert unstable.patches[0].get_label() == "unstable"


def test_without_filters_there_is_no_picture() -> None:
    assert radii_figure([("attention", [[{"step": "9", "epoch": "0"}]])]) is None


def test_long_titles_do_not_run_into_each_other(tmp_path: Path) -> None:
    options = "denominator_groups None, init resonators, constraint reflection"
    titles = [f"rtf, order {order}, {options}" for order in (16, 32, 64, 128, 256)]
    figure = radii_figure([(title, [log(0.9, 0.99)] * 3) for title in titles])
    assert figure is not None
    figure.savefig(tmp_path / "radii.png")
    shown = [ax for ax in figure.axes if ax.get_visible()]
    boxes = [
        text.get_window_extent() for ax in shown for text in ax.findobj(Text) if text.get_text() == ax.get_title("left")
    ]
    assert [ax.get_title("left").replace("\n", " ") for ax in shown] == [
        title.replace(",", "", 1) + " (3 seeds)" for title in titles
    ]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert not any(box.overlaps(ax.bbox) for box in boxes for ax in shown)
