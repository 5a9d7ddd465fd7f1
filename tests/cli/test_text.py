"""A language model trained, judged and asked for text by commands."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from transferfn.cli import commands, main, text_scores
from transferfn.tasks import TextCorpusConfig
from transferfn.tasks.yardsticks import compressed_bits, ngram_bits
from transferfn.training.run import RunFolder

TEXT = "def f(x):\n    return x + 1\n\n\n" * 20


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    for number in range(40):
        (folder / f"{number}.txt").write_text(f"# {number}\n{TEXT}")
    assert main(["train", "lm", "--size", "small", *options(folder)]) == 0
    return folder / "run"


def options(folder: Path) -> list[str]:
    values = {
        "--data.source": "files",
        "--data.path": folder,
        "--data.length": 64,
        "--data.validation": 0.1,
        "--data.test": 0.1,
        "--width": 16,
        "--layers": 1,
        "--order": 2,
        "--model.mlp": 16,
        "--epochs": 2,
        "--batch-size": 16,
        "--accelerator": "cpu",
        "--out": folder / "run",
    }
    return [str(part) for pair in values.items() for part in pair]


def test_training_tells_bits_a_byte_beside_honest_others(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Told again of a finished run: every number is computed here in another way."""
    config, result = RunFolder(path=run).read_config(), RunFolder(path=run).read_result()
    assert isinstance(config.data, TextCorpusConfig)
    assert result is not None
    corpus = config.data.read()
    text, train = corpus.text("test"), corpus.text("train")
    size = len(text.replace(b"\0", b""))
    capsys.readouterr()
    assert main(["train", "lm", "--size", "small", *options(run.parent)]) == 0
    told = capsys.readouterr().out.splitlines()
    bits = result.test_score * sum(len(part) + 1 for part in text.split(b"\0"))  # a token more ends each text
    assert f"perplexity {2**result.test_score:.4g} a token; {bits / size:.3f} bits a byte" in told
    lines = told[told.index(f"bits a byte on {size:,} held-out bytes:") + 1 :]
    found = {name: float(value) for value, name in (line.split(maxsplit=1) for line in lines)}
    assert list(found.values()) == sorted(found.values())
    assert found == {
        "this model": pytest.approx(bits / size, abs=1e-3),
        "gzip": pytest.approx(8 * len(gzip.compress(text, 9)) / size, abs=1e-3),
        "xz": pytest.approx(compressed_bits(text)["xz"] / size, abs=1e-3),
        "n-gram model of 5 bytes, trained on the same texts": pytest.approx(
            ngram_bits(text, train, order=4) / size, abs=1e-3
        ),
    }
    assert (run / "pictures" / "learning_curve.png").exists()


def test_the_ngram_model_reads_no_more_than_it_says(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, result = RunFolder(path=run).read_config(), RunFolder(path=run).read_result()
    assert isinstance(config.data, TextCorpusConfig)
    assert result is not None
    monkeypatch.setattr(text_scores, "NGRAM_TEXT", 1200)
    corpus = config.data.read()
    bits = ngram_bits(corpus.text("test"), corpus.text("train")[:1200], order=4) / corpus.size("test")
    line = f"  {bits:.3f}  n-gram model of 5 bytes, trained on the first 1,200 bytes of the same texts"
    assert line in text_scores.yardsticks(config.data, result)


@pytest.mark.parametrize("split", ["test", "validation"])
def test_evaluation_tells_perplexity_and_bits_a_byte(run: Path, split: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = RunFolder(path=run).read_config().data
    assert isinstance(data, TextCorpusConfig)
    capsys.readouterr()
    assert main(["eval", str(run), "--split", split]) == 0
    told = capsys.readouterr().out
    found = re.search(rf"{split} bits (\S+),.*\nperplexity (\S+) a token; (\S+) bits a byte\n", told)
    assert found is not None
    bits, perplexity, bytewise = map(float, found.groups())
    assert perplexity == pytest.approx(2**bits, rel=2e-3)
    texts = data.read().text(split).split(b"\0")
    assert bytewise == pytest.approx(bits * sum(len(x) + 1 for x in texts) / sum(map(len, texts)), abs=2e-3)


def test_text_is_a_pure_function_of_the_seed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for seed in (0, 0, 1):
        capsys.readouterr()
        assert main(["generate", str(run), "--prompt", "def ", "--count", "40", "--seed", str(seed)]) == 0
        texts.append(capsys.readouterr().out)
    assert all(text.startswith("def ") for text in texts)
    assert texts[0] == texts[1] != texts[2]


def test_text_in_another_form_of_the_filters(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for words in ([], ["--form", "auto"], ["--form", "lattice", "--int8"]):
        capsys.readouterr()
        assert main(["generate", str(run), "--count", "20", "--temperature", "0", *words]) == 0
        found = capsys.readouterr()
        texts.append(found.out)
        assert ("of errors over 4096 samples" in found.err) == bool(words)
    assert texts[0] == texts[1]


def test_a_wrong_number_or_another_run_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, told in (
        (["--temperature", "-1"], "temperature must not be negative, and finite, got -1.0"),
        (["--temperature", "nan"], "temperature must not be negative, and finite, got nan"),
        (["--temperature", "inf"], "temperature must not be negative, and finite, got inf"),
        (["--count", "-3"], "count must not be negative, got -3"),
        (["--top-k", "0"], "top_k must be at least 1, got 0"),
    ):
        capsys.readouterr()
        assert main(["generate", str(tmp_path / "none"), *words]) == 2  # before there is a look for the run
        found = capsys.readouterr()
        assert told in found.err
        assert found.out == ""
    for inside in ("checkpoints/best.ckpt", "config.json"):
        assert main(["generate", str(run / inside)]) == 2
        assert f"{run / inside} is a file, expected the folder of a run: {run} perhaps" in capsys.readouterr().err
    assert main(["generate", str(tmp_path)]) == 2
    assert "best.ckpt is missing" in capsys.readouterr().err
    assert main(["train", "smnist", "--mixer", "hyena-s4d"]) == 2
    assert "only language models come with hyena-s4d" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "goes_on"), [(["generate", "runs/a", "--count", "9"], False), (["train", "lm", "--overwrite"], True)]
)
def test_an_interrupt_advises_only_what_goes_on(
    words: list[str], goes_on: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "_carry_out", interrupted)
    assert main(words) == 130
    expected = "; to continue: transferfn train lm" if goes_on else ""
    assert capsys.readouterr().err == f"\ntransferfn: interrupted{expected}\n"
