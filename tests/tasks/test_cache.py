from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from transferfn.tasks import DataError, cache
from transferfn.tasks.cache import fingerprint, prepare, prepared_data


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFERFN_CACHE", str(tmp_path / "cache"))


class Squares:
    """Counts how often its data is made."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.made = 0

    def __call__(self, folder: Path) -> None:
        self.made += 1
        np.save(folder / "squares.npy", np.arange(self.count) ** 2)

    def prepare(self):
        return prepare("squares", {"count": self.count}, self)


def test_what_is_made_once_is_mapped_afterwards() -> None:
    squares = Squares(5)
    assert squares.prepare()["squares"].tolist() == [0, 1, 4, 9, 16]
    again = squares.prepare()["squares"]
    assert squares.made == 1
    assert isinstance(again, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        again[0] = 1
    (listed,) = prepared_data()
    assert (listed.name, listed.key["count"]) == ("squares", 5)
    assert listed.size == (listed.folder / "squares.npy").stat().st_size


def test_another_key_is_another_place() -> None:
    assert len(Squares(3).prepare()["squares"]) == 3
    assert len(Squares(4).prepare()["squares"]) == 4
    assert len(prepared_data()) == 2


@pytest.mark.parametrize("damage", ["cut", "gone", "about"])
def test_what_is_damaged_is_made_anew(damage: str) -> None:
    squares = Squares(5)
    folder = squares.prepare().folder
    match damage:
        case "cut":
            (folder / "squares.npy").write_bytes((folder / "squares.npy").read_bytes()[:-3])
        case "gone":
            (folder / "squares.npy").unlink()
        case "about":
            (folder / "about.json").write_text("{")
    assert prepared_data() == []
    assert squares.prepare()["squares"].tolist() == [0, 1, 4, 9, 16]
    assert squares.made == 2


def test_nothing_is_left_of_what_failed(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        np.save(folder / "half.npy", np.zeros(3))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare("half", {}, fail)
    assert list((tmp_path / "cache").iterdir()) == []
    assert prepared_data() == []


def test_of_two_that_make_the_same_the_first_is_kept() -> None:
    def slow(folder: Path) -> None:
        prepare("same", {}, lambda other: np.save(other / "first.npy", np.ones(2)))
        np.save(folder / "second.npy", np.zeros(2))

    assert list(prepare("same", {}, slow).files) == ["first.npy"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataError, match="set TRANSFERFN_CACHE to a folder that can be written"):
        Squares(3).prepare()


def test_an_array_that_was_changed_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    squares = Squares(500)
    path = squares.prepare().folder / "squares.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100] + bytes(100))
    monkeypatch.setattr(cache, "_checked", set())  # as another process
    assert squares.prepare()["squares"][-1] == 499**2
    assert squares.made == 2
    assert path.read_bytes() == whole
    monkeypatch.setattr(cache, "_LARGE", 100)
    large = Squares(501)
    path = large.prepare().folder / "squares.npy"
    path.write_bytes(path.read_bytes()[:-8] + bytes(8))
    monkeypatch.setattr(cache, "_checked", set())
    assert large.prepare()["squares"][-1] == 0


def test_files_are_known_by_their_contents(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("one")
    before, times = fingerprint([path]), path.stat()
    path.write_text("two")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert fingerprint([path]) != before
    path.write_text("one")
    assert fingerprint([path]) == before


def test_a_file_that_is_known_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_TICK", -1)
    path = tmp_path / "data"
    path.write_text("one")
    before = fingerprint([path])
    with monkeypatch.context() as patch:
        patch.setattr(cache, "_digest", None)
        assert fingerprint([path]) == before
    (tmp_path / "cache" / "contents.json").write_text("[1")
    assert fingerprint([path]) == before


def test_very_many_files_are_known_by_one_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_MANY", 3)
    paths = [tmp_path / f"{number}.txt" for number in range(4)]
    for path in paths:
        path.write_text("one")
    (before,) = fingerprint(paths)
    assert before[0] == "4 files"
    paths[2].write_text("more")
    assert fingerprint(paths) != [before]
