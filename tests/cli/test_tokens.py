"""A run of a language model owns its tokeniser: what becomes of its texts changes nothing that it says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from transferfn.cli import main
from transferfn.tasks.tokenizer import END, BpeTokenizer
from transferfn.training import RunOptions, fit, load_model
from transferfn.training.run import RunError, RunFolder
from transferfn.training.tokens import load_splits


@pytest.fixture(scope="module", params=["bytes", "bpe"])
def places(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of texts with a run beside it that was trained on them for a few steps, and a copy of all."""
    if request.param == "bpe":
        pytest.importorskip("tokenizers")
    place, copied = tmp_path_factory.mktemp("place"), tmp_path_factory.mktemp("copy") / "of"
    texts = place / "texts"
    texts.mkdir()
    for number in range(30):
        (texts / f"{number}.txt").write_text(f"# {number}\n" + "def f(x):\n    return x + 1\n\n\n" * 20)
    words = ["train", "lm", "--size", "small", "--data.source", "files", "--data.path", str(texts)]
    words += ["--data.length", "32", "--data.validation", "0.2", "--data.test", "0.2"]
    words += ["--width", "8", "--layers", "1", "--order", "2", "--model.mlp", "8"]
    words += ["--epochs", "1", "--epoch-steps", "3", "--batch-size", "4", "--accelerator", "cpu"]
    words += ["--data.tokenizer", request.param, "--data.vocabulary", "270", "--model.vocabulary", "270"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRANSFERFN_CACHE", str(place / "cache"))
        assert main([*words, "--out", str(place / "run")]) == 0
    shutil.copytree(place, copied)
    return place, copied


@pytest.fixture
def trained(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of texts, everything as it was after the training."""
    place, copied = places
    monkeypatch.setenv("TRANSFERFN_CACHE", str(place / "cache"))
    shutil.rmtree(place)
    shutil.copytree(copied, place)
    return place / "texts"


def said(run: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["generate", str(run), "--count", "30", "--temperature", "0"]) == 0
    return capsys.readouterr().out


def test_texts_that_change_or_go(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained.parent / "run"
    kept = BpeTokenizer.read(run / "tokenizer.json")
    assert kept.encode(END.encode()).tolist() != [kept.end]
    before = said(run, capsys)
    for number in range(9):  # some of them are for training
        (trained / f"more-{number}.txt").write_text(f"{number}: other texts have other pairs of letters; " * 200)
    assert said(run, capsys) == before
    model, config = load_model(run)
    status = main(["eval", str(run)])
    told = capsys.readouterr()
    if config.data.tokenizer == "bytes":  # pyright: ignore[reportAttributeAccessIssue]
        assert status == 0
        assert "perplexity" in told.out
    else:
        assert status == 2
        assert "was trained with other tokens than" in told.err
        assert "Traceback" not in told.err
        with pytest.raises(RunError, match="trained with other tokens"):
            load_splits(RunFolder(path=run), config)
        (run / "result.json").unlink()  # as if it were to go on
        with pytest.raises(RunError, match="trained with other tokens"):
            fit(config, RunOptions(out=run, accelerator="cpu", progress=False))
    shutil.rmtree(trained)
    assert said(run, capsys) == before
    assert model.vocabulary == 270  # pyright: ignore[reportAttributeAccessIssue]


def test_derived_runs_own_it_too(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained.parent / "run"
    assert main(["reduce", str(run), "--order", "1"]) == 0
    assert (run / "reduced" / "tokenizer.json").read_text() == (run / "tokenizer.json").read_text()
    shutil.rmtree(trained)
    assert said(run / "reduced", capsys).startswith("def ")


def test_runs_of_old_ask_their_texts(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained.parent / "run"
    before = said(run, capsys)
    (run / "tokenizer.json").unlink()
    assert said(run, capsys) == before
    assert main(["eval", str(run)]) == 0
