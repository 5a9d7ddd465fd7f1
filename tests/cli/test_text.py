"""A language model trained, judged and asked for text by commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from transferfn.cli import main

TEXT = "def f(x):\n    return x + 1\n\n\n" * 20


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    for number in range(40):
        (folder / f"{number}.txt").write_text(f"# {number}\n{TEXT}")
    options = {
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
    words = [str(part) for pair in options.items() for part in pair]
    assert main(["train", "lm", "--size", "small", *words]) == 0
    return folder / "run"


def test_training_tells_bits_a_byte_beside_honest_others(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["eval", str(run)]) == 0
    assert "test bits " in capsys.readouterr().out
    assert (run / "pictures" / "learning_curve.png").exists()


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
    assert main(["generate", str(run), "--temperature", "-1"]) == 2
    assert "temperature must not be negative" in capsys.readouterr().err
    assert main(["generate", str(tmp_path)]) == 2
    assert "best.ckpt is missing" in capsys.readouterr().err
    assert main(["train", "smnist", "--mixer", "hyena-s4d"]) == 2
    assert "only language models come with hyena-s4d" in capsys.readouterr().err
