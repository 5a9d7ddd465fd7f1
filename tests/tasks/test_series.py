from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from transferfn.tasks import DataError, SeriesConfig, series
from transferfn.tasks.series import Problem, read_ts

HEAD = "# about\n@problemName Vowels\n@timeStamps false\n@equalLength false\n@classLabel true man1 man2\n@data\n"


def write(path: Path, rows: list[tuple[np.ndarray, str]]) -> Path:
    """A file of the archive; series (L, D)."""
    lines = [":".join([*(",".join(map(str, column)) for column in values.T), name]) for values, name in rows]
    path.write_text(HEAD + "\n".join(lines) + "\n")
    return path


def vowels(count: int, *, seed: int) -> list[tuple[np.ndarray, str]]:
    draw = np.random.default_rng(seed)
    rows = [(draw.normal(3, 2, (draw.integers(7, 30), 12)), f"man{row % 2}") for row in range(count)]
    return [(rows[0][0][:7], "man0"), *rows[1:]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    facts = series._PROBLEMS["JapaneseVowels"]._replace(classes=2, train=20, test=10)
    monkeypatch.setattr(series, "_PROBLEMS", {**series._PROBLEMS, "JapaneseVowels": facts})
    for split, count, seed in (("TRAIN", 20, 0), ("TEST", 10, 1)):
        write(tmp_path / f"JapaneseVowels_{split}.ts", vowels(count, seed=seed))
    return tmp_path


def refusal(config: SeriesConfig) -> str:
    with pytest.raises(DataError) as caught:
        config.load()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_series_of_different_lengths(folder: Path) -> None:
    train, validation, test = SeriesConfig(path=folder).load()
    assert validation is not None
    assert (len(train), len(validation), len(test)) == (18, 2, 10)
    rows = vowels(20, seed=0)
    together = np.concatenate([values for values, _ in rows])
    mean, std = together.mean(axis=0), together.std(axis=0)
    index = [4, 0, 9]
    batch = train.gather(index)
    assert batch.lengths is not None
    for inputs, length, target, row in zip(batch.inputs, batch.lengths, batch.targets, train.rows[index], strict=True):
        values, name = rows[row]
        assert length == len(values)
        np.testing.assert_allclose(inputs[:length], (values - mean) / std, rtol=1e-4, atol=1e-5)
        assert not inputs[length:].any()
        assert target == int(name[-1])
    assert batch.inputs.shape[1] == batch.lengths.max()
    found = test.gather(range(10))
    assert found.targets.tolist() == [int(name[-1]) for _, name in vowels(10, seed=1)]
    assert SeriesConfig(path=folder, validation=0.0).load().validation is None
    assert "0.01 of 20 training series leaves none of each of the 2 classes" in refusal(
        SeriesConfig(path=folder, validation=0.01)
    )


def test_the_folder_above_does_as_well(folder: Path) -> None:
    below = folder / "JapaneseVowels"
    below.mkdir()
    for path in folder.glob("*.ts"):
        path.rename(below / path.name)
    assert len(SeriesConfig(path=folder).load().test) == 10


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (":".join(["1,2"] * 11) + ":man1", "series 3 has 11 channels of 2 samples, expected 12"),
        (":".join(["1,2"] * 11 + ["1,2,3"]) + ":man1", "series 3 has 12 channels of 2 or 3 samples"),
        (":".join(["1,x"] * 12) + ":man1", "series 3: could not convert string to float"),
        (":".join(["1,?"] * 12) + ":man1", "series 3: could not convert string to float"),
        (":".join(["1,nan"] * 12) + ":man1", "series 3 has missing samples"),
        ("nonsense", "series 3 has 0 channels of no samples"),
    ],
    ids=["channels", "lengths", "letters", "question-mark", "missing", "nonsense"],
)
def test_a_line_that_does_not_fit(folder: Path, line: str, message: str) -> None:
    path = folder / "JapaneseVowels_TRAIN.ts"
    lines = path.read_text().splitlines()
    lines[len(HEAD.splitlines()) + 2] = line
    path.write_text("\n".join(lines))
    found = refusal(SeriesConfig(path=folder))
    assert f"{path}, " in found
    assert message in found


def test_files_of_something_else(folder: Path) -> None:
    path = folder / "JapaneseVowels_TEST.ts"
    whole = path.read_text()
    path.write_text("\n".join(whole.splitlines()[:-2]))
    assert f"{path} holds 8 series, published are 10" in refusal(SeriesConfig(path=folder))
    path.write_text(whole.replace("man1", "woman"))
    assert f"{path} holds the class woman" in refusal(SeriesConfig(path=folder))
    path.write_text("a,b\n1,2\n")
    assert f"{path} has no line @data" in refusal(SeriesConfig(path=folder))
    path.write_text(whole.replace("timeStamps false", "timeStamps true"))
    assert "time stamps" in refusal(SeriesConfig(path=folder))
    path.write_text(HEAD)
    assert f"{path} holds no series" in refusal(SeriesConfig(path=folder))
    path.write_bytes(b"\xff\xfe\x00")
    assert f"{path} cannot be read" in refusal(SeriesConfig(path=folder))
    path.unlink()
    assert f"{path} cannot be read" in refusal(SeriesConfig(path=folder))


def test_data_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = refusal(SeriesConfig(path=tmp_path))
    assert "holds no JapaneseVowels" in message
    assert "https://www.timeseriesclassification.com" in message
    assert "nowhere is missing" in refusal(SeriesConfig(path=tmp_path / "nowhere"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install sktime" in refusal(SeriesConfig())


def test_values_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match=r"^data\.validation must"):
        SeriesConfig(validation=0.7)
    with pytest.raises(ValueError, match=r"^data\.seed must"):
        SeriesConfig(seed=-1)


@pytest.mark.parametrize("problem", get_args(Problem))
def test_the_real_data(problem: Problem) -> None:
    if importlib.util.find_spec("sktime") is None:
        pytest.skip("sktime, which ships the data, is not installed")
    config = SeriesConfig(problem=problem)
    facts = series._PROBLEMS[problem]
    train, validation, test = config.load()
    assert validation is not None
    assert (len(train) + len(validation), len(test)) == (facts.train, facts.test)
    lengths = train.lengths
    assert lengths is not None
    assert lengths.max() == config.signature.length
    inputs = train.gather(range(len(train))).inputs
    assert inputs.shape[2] == config.signature.channels
    assert set(train.labels.tolist()) == set(range(config.signature.outputs))


def test_a_file_is_read_value_for_value(tmp_path: Path) -> None:
    rows = [(np.array([[1.5, -2.0], [3.0, 4e-3]]), "a b"), (np.array([[0.0, 1.0]]), "c")]
    values, labels = read_ts(write(tmp_path / "x.ts", rows), channels=2)
    assert labels == ["a b", "c"]
    for found, (expected, _) in zip(values, rows, strict=True):
        np.testing.assert_array_equal(found, expected)
