from __future__ import annotations

import csv
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from transferfn.cli import main
from transferfn.cli.groups import finished, grouped
from transferfn.cli.report import row, table
from transferfn.cli.report_pictures import learning_figure
from transferfn.files import with_ending
from transferfn.models import LanguageModelConfig
from transferfn.tasks import SmnistConfig, TextCorpusConfig
from transferfn.training import Result, TrainConfig
from transferfn.training.config import MixerName
from transferfn.training.objective import Metric
from transferfn.training.published import published
from transferfn.training.recipes import delay, lra_listops, lra_text, smnist
from transferfn.training.serialize import to_dict
from transferfn.training.text import wikitext
from transferfn.training.variant import Variant

RADII = "radius_min,radius_low,radius_median,radius_high,radius_max"


def result(score: float, metric: Metric = "accuracy") -> Result:
    return Result(
        metric=metric,
        test_score=score,
        test_loss=1.0,
        test_samples=100,
        validation_score=score,
        best_epoch=2,
        steps=300,
        parameters=1234,
        seconds=60.0,
        peak_memory=500_000_000,
    )


def write(folder: Path, config: TrainConfig, found: Result | None) -> None:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"config": to_dict(config)}))
    if found is not None:
        (folder / "result.json").write_text(json.dumps(to_dict(found)))
        metric = found.metric
        rows = [
            f"{step},{epoch},1.0,0.5,0.{4 + epoch},0.9,0.9,0.95,0.99,1.0{epoch}" for epoch, step in ((0, 9), (1, 18))
        ]
        head = f"step,epoch,train_loss,train_{metric},val_{metric},{RADII}"
        (folder / "metrics.csv").write_text("\n".join([head, *rows]) + "\n")


def test_seeds_are_one_row_and_what_differs_is_the_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, score in ((0, 0.5), (1, 0.75)):
        write(tmp_path / "runs" / f"rtf-{seed}", replace(smnist(), seed=seed), result(score))
    s4d = smnist(Variant(mixer="s4d"))
    write(tmp_path / "runs" / "s4d", replace(s4d, optimizer=replace(s4d.optimizer, lr=0.02)), result(0.6))
    write(tmp_path / "runs" / "unfinished", smnist(Variant(mixer="s5")), None)
    out = tmp_path / "report" / "mnist-v1.2"
    assert main(["report", str(tmp_path / "runs"), "--out", str(out)]) == 0
    screen = capsys.readouterr().out
    assert screen == with_ending(out, ".md").read_text()
    lines = screen.splitlines()
    assert len(lines) == 6
    assert lines[5] == f"Not finished, left out: {tmp_path / 'runs' / 'unfinished'}."
    assert lines[2].startswith("| smnist | rtf, order 8 | 1,234 | accuracy 62.5% (50.0% to 75.0%, 2) |  | 300 | 5.0")
    assert lines[3].startswith("| smnist | s4d, order 32 | 1,234 | accuracy 60.0% |  | 300 | 5.0 | 500")
    with with_ending(out, ".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(found["mean"]) for found in rows] == [0.625, 0.6]
    told = json.loads(with_ending(out, ".json").read_text())
    assert [group["mean"] for group in told["groups"]] == [0.625, 0.6]
    assert told["groups"][0]["runs"] == [
        {"seed": 0, "score": 0.5, "steps": 300, "seconds": 60.0},
        {"seed": 1, "score": 0.75, "steps": 300, "seconds": 60.0},
    ]
    reported = told["reported"]
    assert reported["command"] == f"transferfn report {tmp_path / 'runs'} --out {out}"
    assert datetime.now(UTC) - datetime.fromisoformat(reported["date"]) < timedelta(minutes=10)
    assert {"processor", "Python", "torch"} <= reported["machine"].keys()
    for name in ("learning", "radii"):
        assert out.with_name(f"mnist-v1.2-{name}.png").stat().st_size > 5000


def test_what_was_published_stands_beside_and_is_called_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "rtf", delay(), result(0.02, "rmse"))
    assert main(["report", str(tmp_path / "rtf"), "--out", str(tmp_path / "report")]) == 0
    screen = capsys.readouterr().out
    assert "| delay | rtf | 1,234 | rmse 0.02 | 0.006 |" in screen
    assert "Published for delay at order 1024 (not measured here): S4 0.029, RTF 0.006." in screen


def test_what_was_published_with_other_options_is_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = replace(at_order("rtf", 512), epochs=8)
    write(tmp_path / "a", short, result(0.4, "rmse"))
    write(tmp_path / "b", replace(short, model=replace(short.model, init="comb")), result(0.3, "rmse"))
    write(tmp_path / "c", lra_listops(), result(0.5))
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "report")]) == 0
    screen = capsys.readouterr().out
    assert "| delay | rtf, init zeros | 1,234 | rmse 0.4 | 0.38 (20 epochs) |" in screen
    assert "| delay | rtf, init comb | 1,234 | rmse 0.3 | 0.38 (paper's options, 20 epochs) |" in screen
    assert "Published for delay at order 512 (not measured here; 20 epochs; paper's options): S4 0.22" in screen
    assert "| listops | rtf | 1,234 | accuracy 50.0% | 61.6% (published data) |" in screen
    figure = learning_figure(grouped(finished(tmp_path)))
    assert figure is not None
    assert "RTF of order 512, published (20 epochs, paper's options)" in {
        text.get_text() for text in figure.axes[0].texts
    }


def test_published_perplexities_stand_beside_bits(tmp_path: Path) -> None:
    """Of the full recipe alone, whose texts nobody has to read for it: here there are none."""
    data = TextCorpusConfig(source="wikitext-103", path=tmp_path / "gone", tokenizer="bpe", length=1024)
    config = TrainConfig(data=data, model=LanguageModelConfig())
    assert {name: round(2**bits, 3) for name, bits in published(config).items()} == {
        "Transformer": 18.6,
        "Hybrid H3": 18.5,
        "Hyena": 18.5,
        "Hyena-S5": 18.3,
        "Hyena-RTF": 18.0,
    }
    assert published(wikitext(Variant(size="small"))) == {}
    assert published(replace(config, data=replace(data, length=512))) == {}
    write(tmp_path / "run", config, result(4.3, "bits"))
    assert row(grouped(finished(tmp_path))[0])["published"] == pytest.approx(4.1699, abs=1e-4)
    assert main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "report")]) == 0
    assert "Hyena-RTF 4.170 bits (perplexity 18.0)" in (tmp_path / "report.md").read_text()


def test_runs_with_different_data_seeds_are_one_group(tmp_path: Path) -> None:
    config = delay(Variant(size="small"))
    for seed in range(3):
        seeded = replace(config, seed=seed, data=replace(config.data, seed=seed))
        write(tmp_path / str(seed), seeded, result(0.1 * (seed + 1), "rmse"))
    (group,) = grouped(finished(tmp_path))
    found = row(group)
    assert (found["seeds"], found["lowest"], found["highest"]) == (3, 0.1, pytest.approx(0.3))


def test_what_was_made_from_a_run_is_no_further_seed_of_it(tmp_path: Path) -> None:
    write(tmp_path / "run", smnist(), result(0.75))
    for seed, name in enumerate(("reduced", "again")):
        write(tmp_path / "run" / name, replace(smnist(), seed=seed), replace(result(0.5), seconds=0.0))
        mark = {"source": "run", "how": "distilled to order 16"}
        (tmp_path / "run" / name / "derived.json").write_text(json.dumps(mark))
    trained, distilled = [row(group) for group in grouped(finished(tmp_path / "run"))]
    assert (trained["model"], trained["seeds"], trained["mean"]) == ("rtf", 1, 0.75)
    assert (distilled["model"], distilled["seeds"], distilled["mean"]) == ("rtf, distilled to order 16", 2, 0.5)


def test_a_run_counts_once_however_often_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "runs" / "my run", smnist(), result(0.75))
    monkeypatch.chdir(tmp_path)
    assert main(["report", "runs", "runs/my run", str(tmp_path / "runs" / "my run"), "--out", "report"]) == 0
    (group,) = json.loads((tmp_path / "report.json").read_text())["groups"]
    assert group["seeds"] == 1


def test_a_copied_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "copy"):
        write(tmp_path / name, smnist(), result(0.75))
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "report")]) == 2
    assert f"{tmp_path / 'a'} and {tmp_path / 'copy'} hold the same run" in capsys.readouterr().err


def at_order(mixer: MixerName, order: int) -> TrainConfig:
    config = delay(Variant(mixer=mixer))
    return replace(config, model=replace(config.model, order=order))


def test_tasks_are_compared_and_drawn_apart(tmp_path: Path) -> None:
    small = Variant(size="small")
    tasks: tuple[tuple[str, TrainConfig, Metric], ...] = (
        ("a", smnist(), "accuracy"),
        ("b", replace(smnist(), data=SmnistConfig(side=14, permuted=True, validation=0.2)), "accuracy"),
        ("c", delay(small), "rmse"),
        ("d", lra_listops(small), "accuracy"),
        ("e", lra_listops(replace(small, mixer="s5")), "accuracy"),
    )
    for name, config, metric in tasks:
        write(tmp_path / name, config, result(0.5, metric))
    groups = grouped(finished(tmp_path))
    assert [(group.task, group.label) for group in groups] == [
        ("smnist, side 28", "rtf"),
        ("smnist, side 14", "rtf"),
        ("delay", "rtf"),
        ("listops", "rtf"),
        ("listops", "s5"),
    ]
    figure = learning_figure(groups)
    assert figure is not None
    assert [(ax.get_title("left"), ax.get_ylabel(), len(ax.lines)) for ax in figure.axes] == [
        ("smnist, side 28", "validation accuracy (%)", 1),
        ("smnist, side 14", "validation accuracy (%)", 1),
        ("delay", "validation root mean squared error", 1),
        ("listops", "validation accuracy (%)", 2),
    ]


def test_each_seed_has_a_line_of_its_own(tmp_path: Path) -> None:
    """A band from the lowest to the highest would look the same for two ends as for all between them."""
    for seed in range(3):
        write(tmp_path / f"{seed}", replace(smnist(), seed=seed), result(0.5))
    lines = [f"{epoch},{epoch - 1},1.0,0.5,0.{9 - epoch}," + ",".join(["0.9"] * 5) for epoch in (1, 2)]
    path = tmp_path / "2" / "metrics.csv"
    path.write_text("\n".join([path.read_text().splitlines()[0], *lines]) + "\n")
    figure = learning_figure(grouped(finished(tmp_path)))
    assert figure is not None
    *seeds, median = figure.axes[0].lines
    assert [np.asarray(line.get_ydata()).tolist() for line in seeds] == [[40, 50], [40, 50], [80, 70]]
    assert np.asarray(median.get_ydata()).tolist() == [40, 50]
    assert {line.get_color() for line in seeds} == {median.get_color()}
    assert max(line.get_linewidth() for line in seeds) < median.get_linewidth()


def test_where_colours_run_out_lines_have_other_styles(tmp_path: Path) -> None:
    for width in range(1, 26):
        config = replace(smnist(), model=replace(smnist().model, width=width))
        write(tmp_path / f"{width:02d}", config, result(0.5))
    figure = learning_figure(grouped(finished(tmp_path)))
    assert figure is not None
    assert len({(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}) == 25


def test_where_runs_of_a_task_differ_in_order_all_tell_theirs(tmp_path: Path) -> None:
    write(tmp_path / "a", at_order("rtf", 512), result(0.4, "rmse"))
    write(tmp_path / "b", at_order("rtf", 1024), result(0.1, "rmse"))
    write(tmp_path / "c", at_order("s4d", 512), result(0.2, "rmse"))
    write(tmp_path / "d", at_order("attention", 1024), result(0.3, "rmse"))
    groups = grouped(finished(tmp_path))
    assert [group.label for group in groups] == ["rtf, order 512", "rtf, order 1024", "s4d, order 512", "attention"]


def test_published_lines_say_of_which_order_they_are(tmp_path: Path) -> None:
    write(tmp_path / "a", at_order("rtf", 512), result(0.4, "rmse"))
    write(tmp_path / "b", at_order("rtf", 1024), result(0.1, "rmse"))
    figure = learning_figure(grouped(finished(tmp_path)))
    assert figure is not None
    assert {text.get_text() for text in figure.axes[0].texts} == {
        f"{layer} of order {order}, published" for layer in ("S4", "RTF") for order in (512, 1024)
    }


def test_names_of_published_lines_that_nearly_coincide_stand_together(tmp_path: Path) -> None:
    write(tmp_path / "text", lra_text(), result(0.8))
    figure = learning_figure(grouped(finished(tmp_path)))
    assert figure is not None
    names = [text.get_text() for text in figure.axes[0].texts]
    assert names == ["Transformer, published", "S4D, SpaceTime, S4, S5, RTF, published"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "run", smnist(), result(0.5))
    (tmp_path / "file").write_text("in the way")
    assert main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "file" / "mine")]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"transferfn: {tmp_path / 'file'} cannot be read or written (")
    assert told.count("\n") == 1


def test_memory_that_was_not_told_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "run", smnist(), replace(result(0.5), peak_memory=0))
    found = row(grouped(finished(tmp_path))[0])
    assert found["memory MB"] is None
    assert table([found]).splitlines()[-1].endswith("| 5.0 |  |")


def test_without_finished_runs_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "no finished run in" in capsys.readouterr().err
    write(tmp_path / "begun", smnist(), None)
    assert main(["report", str(tmp_path)]) == 2
    assert f"not finished: {tmp_path / 'begun'}; the command that began" in capsys.readouterr().err
    assert main(["report"]) == 2
    assert "report takes folders of runs" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert "is no folder with runs" in capsys.readouterr().err
