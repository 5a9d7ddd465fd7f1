from __future__ import annotations

import itertools
import re
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from transferfn.tasks import DataError, ExcerptsConfig, _texts
from transferfn.tasks.excerpts import Question

SMALL: dict[str, Any] = {"length": 64, "train": 60, "validation": 24, "test": 24}


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seven packages, each with more source than the one before; each line names its file."""
    for package, file in itertools.product(range(7), range(40)):
        place = tmp_path / f"p{package}" / f"{file}.py"
        place.parent.mkdir(exist_ok=True)
        place.write_text(f"# p{package}/{file}\n" * (40 + package))
    (tmp_path / "module.py").write_text("# module\n" * 9000)
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    return tmp_path


def files_of(inputs: torch.Tensor) -> list[str]:
    """The file that each excerpt names."""
    texts = [bytes((row - 1).tolist()).decode() for row in inputs.reshape(-1, inputs.shape[-1])]
    found = [set(re.findall(r"# (\w+(?:/\d+)?)\n", text)) for text in texts]
    assert all(len(names) == 1 for names in found)
    return [names.pop() for names in found]


def test_an_excerpt_is_of_its_package(source: Path) -> None:
    for part in ExcerptsConfig(**SMALL).load():
        assert part is not None
        batch = part.gather(range(24))
        assert batch.targets.tolist() == list(range(6)) * 4
        # The largest first; the smallest of seven, and the module, which is no package, have no class.
        assert [name.split("/")[0] for name in files_of(batch.inputs)] == ["p6", "p5", "p4", "p3", "p2", "p1"] * 4


def test_pairs_are_of_one_file_or_of_two(source: Path) -> None:
    batch = ExcerptsConfig(question="pair", **SMALL).load().train.gather(range(60))
    assert batch.targets.tolist() == [0, 1] * 30
    found = files_of(batch.inputs)
    assert [one == other for one, other in zip(found[::2], found[1::2], strict=True)] == [False, True] * 30


def test_excerpts_of_a_pair_do_not_overlap(source: Path) -> None:
    for place in source.rglob("*.py"):
        place.write_bytes(bytes(range(240)))  # a byte tells where in its file it is
    config = ExcerptsConfig(question="pair", length=100, train=200, validation=0, test=4)
    pairs = config.load().train.gather(range(1, 200, 2)).inputs.tolist()
    numbers = [[set(row) for row in pair] for pair in pairs]
    assert not any(one & other for one, other in numbers)
    assert {min(one) < min(other) for one, other in numbers} == {True, False}


@pytest.mark.parametrize("question", ["package", "pair"])
def test_no_file_is_in_two_splits(question: Question, source: Path) -> None:
    parts = ExcerptsConfig(question=question, **SMALL).load()
    seen = [set(files_of(part.gather(range(24)).inputs)) for part in parts if part is not None]
    assert len(seen) == 3
    assert not any(one & other for one, other in itertools.combinations(seen, 2))


def test_the_draws_are_a_pure_function_of_the_seed() -> None:
    one, again, other = (ExcerptsConfig(**SMALL, seed=seed).load().train.gather(range(9)) for seed in (0, 0, 1))
    assert np.array_equal(one.inputs, again.inputs)
    assert not np.array_equal(one.inputs, other.inputs)


def test_without_validation(source: Path) -> None:
    assert ExcerptsConfig(**{**SMALL, "validation": 0}).load().validation is None


@pytest.mark.parametrize("question", ["package", "pair"])
def test_too_little_source_is_said(question: Question, monkeypatch: pytest.MonkeyPatch) -> None:
    files = _texts.python_files()[:1]
    monkeypatch.setattr(_texts, "python_files", lambda: files)
    with pytest.raises(DataError, match="this installation of Python has fewer"):
        ExcerptsConfig(question=question).load()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, r"^data\.length must be at least 1, got 0"),
        ({"test": 0}, "test must be at least 1"),
        ({"seed": -1}, r"^data\.seed must lie"),
    ],
)
def test_values_that_make_no_sense(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExcerptsConfig(**options)


@pytest.mark.compile  # without the type-checking hook, which would speak first
def test_questions_have_names() -> None:
    with pytest.raises(ValueError, match="question must be one of package, pair; got 'author'"):
        ExcerptsConfig(question="author")  # pyright: ignore[reportArgumentType]
