"""`transferfn distill` and `transferfn reduce`: runs made of runs, and what is told about them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cli.runs import LENGTH, write_run
from transferfn import analysis
from transferfn.analysis import distill_model
from transferfn.cli import distill, generate, main
from transferfn.nn import RTF, Realization
from transferfn.nn.long_conv import LongConvolution
from transferfn.training import RunError, RunOptions, load_model
from transferfn.training.run import RunFolder, begin_run, open_run

FILTER = "backbone.blocks.0.mixer.filters.0"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("hyena"), "hyena").path


@pytest.fixture(scope="module")
def distilled(run: Path) -> Path:
    assert main(["distill", str(run), "--orders", "2", "4", "--steps", "1"]) == 0
    return run / "distilled"


@torch.no_grad()
def test_what_is_loaded_is_what_was_distilled(run: Path, distilled: Path) -> None:
    original, config = load_model(run)
    for order in (2, 4):
        expected, _ = distill_model(original, order, steps=1)
        found, same = load_model(distilled / f"order-{order}")
        assert same == config
        layer = found.get_submodule(FILTER)
        assert isinstance(layer, (RTF, Realization))
        assert layer.order == order
        assert not any(isinstance(part, LongConvolution) for part in found.modules())
        tokens = torch.randint(257, (2, 3 * LENGTH))  # longer than the filters were known
        assert torch.equal(found(tokens), expected(tokens))


def test_a_distilled_run_is_judged_and_asked_like_any(
    run: Path, distilled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads((distilled / "distilled.json").read_text())
    capsys.readouterr()
    assert main(["eval", str(distilled / "order-4")]) == 0
    result = RunFolder(path=distilled / "order-4").read_result()
    assert result is not None
    assert result.test_score == pytest.approx(found["models"][2]["bits a token"], abs=1e-12)
    assert f"test bits {result.test_score:.3f}" in capsys.readouterr().out
    assert main(["generate", str(distilled / "order-4"), "--prompt", "x" * LENGTH, "--count", "8"]) == 0
    assert capsys.readouterr().out.startswith("x" * LENGTH)


def test_what_ends_at_its_horizon_says_what_to_do(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(run), "--prompt", "x" * LENGTH, "--count", "8"]) == 2
    told = capsys.readouterr()
    assert "known for horizon=32 samples" in told.err
    assert f"no such limit. Distilled filters go on: transferfn distill {run}" in told.err
    assert told.out.startswith("x" * LENGTH)
    assert main(["generate", str(run), "--temperature", "-1"]) == 2
    assert "distill" not in capsys.readouterr().err  # it would not help


@pytest.mark.parametrize("weights", [[], ["--int8"]], ids=["wide", "bytes"])
def test_speed_over_the_context(
    distilled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], weights: list[str]
) -> None:
    monkeypatch.setattr(generate, "CONTEXTS", (8, 48))
    assert main(["generate", str(distilled / "order-4"), "--benchmark", *weights]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("context 8, prefill, tokens/s ")
    assert second.startswith("context 48, prefill, tokens/s ")
    assert first.split("state, KiB a row ")[1] == second.split("state, KiB a row ")[1]


def test_the_report(distilled: Path) -> None:
    found = json.loads((distilled / "distilled.json").read_text())
    rows = found["filters"]
    assert [(row["order"], row["channel"]) for row in rows] == [(n, d) for n in (2, 4) for d in range(4)]
    assert {row["layer"] for row in rows} == {FILTER}
    before, two, four = found["models"]
    assert [row["filters"] for row in found["models"]] == ["before", "order 2", "order 4"]
    errors = sorted(row["error"] for row in rows if row["order"] == 4)
    assert four["error of a filter, median"] == pytest.approx((errors[1] + errors[2]) / 2)
    assert four["worst"] == errors[-1]
    published = "the same, published of another model, RTF"
    assert (two[published], four[published]) == (None, 0.018)
    long = load_model(distilled.parent)[0].get_submodule(FILTER).kernel(LENGTH)  # pyright: ignore[reportCallIssue]
    short = load_model(distilled / "order-4")[0].get_submodule(FILTER).transfer_function()  # pyright: ignore
    squared = float((short.impulse_response(LENGTH) - long).square().mean().detach())
    assert four["mean squared error of a filter"] == pytest.approx(squared, rel=1e-2)
    assert before["perplexity"] == pytest.approx(2 ** before["bits a token"])
    assert 0.5 * before["bits a token"] < before["bits a byte"] < 2 * before["bits a token"]
    assert abs(four["bits a token"] - before["bits a token"]) < 0.01
    contexts = {name: list(row) for name, row in found["decoding"].items()}
    assert contexts["before"] == ["4", "16", "23"]
    assert contexts["order 2"] == contexts["order 4"] == ["4", "16", "23", "128"]
    state = {name: [cell["state, KiB a row"] for cell in row.values()] for name, row in found["decoding"].items()}
    assert state["before"][0] < state["before"][1] < state["before"][2]
    assert len(set(state["order 4"])) == 1
    text = (distilled / "distilled.md").read_text()
    assert "| order 4 | " in text
    assert "Published figures are mean squared errors of filters of another model (Parnichkun et al. 2024" in text
    assert (distilled / "distilled.png").stat().st_size > 10_000


def test_what_cannot_be_distilled_is_told(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["distill", str(run), "--orders", "16", "--out", str(tmp_path)]) == 2
    assert "cannot be distilled to order 16: the order must be at least 1 and less than half" in capsys.readouterr().err
    assert main(["distill", str(write_run(tmp_path, "attention").path), "--orders", "2"]) == 2
    assert "nothing to distil" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["distill", "--orders", "2", "4"], ["reduce"]], ids=["distill", "reduce"])
def test_a_trained_run_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    run = write_run(tmp_path, "hyena-rtf").path
    other = RunFolder(path=tmp_path / "out" / "order-4")
    other.checkpoints.mkdir(parents=True)
    for file in (other.best, other.metrics, other.result):  # last.ckpt is large, and was deleted
        file.touch()
    out = other.path.parent if command[0] == "distill" else other.path
    monkeypatch.setattr(analysis, "reduce_model", None)  # refused before any work
    assert main([command[0], str(run), *command[1:], "--out", str(out)]) == 2
    assert f"{other.path} is not empty, and nothing says that reduce or distill wrote it" in capsys.readouterr().err
    assert all(file.exists() for file in (other.best, other.metrics, other.result))
    assert not (tmp_path / "out" / "order-2").exists()
    assert main(["reduce", str(run), "--out", str(run)]) == 2
    assert f"{run} is the run itself" in capsys.readouterr().err


def test_orders_that_are_impossible_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, "hyena-rtf").path
    assert main(["distill", str(run), "--orders", "16", "4", "--steps", "0"]) == 0
    assert "order 16 is left out: " in capsys.readouterr().out
    found = json.loads((run / "distilled" / "distilled.json").read_text())
    assert [row["filters"] for row in found["models"]] == ["before", "order 4"]
    assert not (run / "distilled" / "order-16").exists()


def test_the_report_is_there_after_each_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path, "hyena-rtf").path
    monkeypatch.setattr(distill, "decoding", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["distill", str(run), "--orders", "4", "--steps", "0"])
    assert "| order 4 | " in (run / "distilled" / "distilled.md").read_text()
    assert not list((run / "distilled").glob("*.part"))


def test_what_was_derived_is_made_again_but_never_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, "hyena-rtf").path
    reduced = RunFolder(path=run / "reduced")
    for tolerance in ("0.5", "0.25"):
        assert main(["reduce", str(run), "--tolerance", tolerance]) == 0
        assert reduced.read_derivation() == f"reduced to tolerance {tolerance}"
    assert main(["distill", str(reduced.path), "--orders", "1", "--steps", "0"]) == 0
    distilled = RunFolder(path=reduced.path / "distilled" / "order-1")
    assert distilled.read_derivation() == "reduced to tolerance 0.25, distilled to order 1"
    config = reduced.read_config()
    with pytest.raises(RunError, match=r"was reduced to tolerance 0\.25, not trained"):
        open_run(config, RunOptions(out=reduced.path))
    begin_run(open_run(config, RunOptions(out=reduced.path, overwrite=True)), config)
    assert reduced.read_derivation() is None
    assert main(["reduce", str(run)]) == 2
    assert "derived.json is missing" in capsys.readouterr().err


@pytest.mark.parametrize("mixer", ["s4d", "hyena-rtf"])
def test_other_filters_of_a_higher_order(tmp_path: Path, mixer: str) -> None:
    run = write_run(tmp_path, mixer).path  # pyright: ignore[reportArgumentType]
    assert main(["distill", str(run), "--orders", "4", "--steps", "0"]) == 0
    model, _ = load_model(run / "distilled" / "order-4")
    assert any(isinstance(part, (RTF, Realization)) and part.order == 4 for part in model.modules())


@torch.no_grad()
def test_a_reduced_run_is_one_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, "hyena-rtf").path
    assert main(["reduce", str(run), "--tolerance", "0.5"]) == 0
    told = float(capsys.readouterr().out.split(" before, ")[-1].split(" after")[0])
    model, _ = load_model(run / "reduced")
    layer = model.get_submodule(FILTER)
    assert isinstance(layer, RTF)
    assert layer.order < 8
    assert main(["eval", str(run / "reduced")]) == 0
    assert f"test bits {told:.3f}" in capsys.readouterr().out
    rows = json.loads((run / "reduced" / "reduced.json").read_text())
    assert len(rows) == 4
    assert max(row["error of frequency response"] for row in rows) <= 0.5


def test_reduction_to_an_order_and_by_the_other_method(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, "hyena-rtf").path
    assert main(["reduce", str(run), "--order", "4", "--method", "hankel", "--streams", "3"]) == 0
    assert ": order 8 to 4, in the mean 4.0" in capsys.readouterr().out
    reduced = RunFolder(path=run / "reduced")
    assert reduced.read_derivation() == "reduced to order 4 by its Hankel matrix"
    assert {row["reduced to"] for row in json.loads((reduced.path / "reduced.json").read_text())} == {4}
    assert main(["reduce", str(run), "--order", "4", "--tolerance", "0.1"]) == 2
    assert "give the order or the tolerance, one of them" in capsys.readouterr().err
    assert main(["reduce", str(run), "--streams", "0"]) == 2
    assert "--streams is a number of streams" in capsys.readouterr().err
    assert main(["reduce", str(run), "--order", "0"]) == 2
    assert "the order must be at least 1, got 0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["reduce", "--help"])
    told = capsys.readouterr().out
    assert all(option in told for option in ("--tolerance", "--order", "--method"))
