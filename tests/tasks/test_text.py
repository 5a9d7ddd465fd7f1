from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tasks.archives import DAMAGES, as_published, damage, write_files, write_parquet, write_tar
from transferfn.tasks import DataError, TextConfig, text
from transferfn.tasks._characters import Level
from transferfn.tasks._published import Source

REVIEWS = {
    ("train", "neg"): ["dull, dull, dull", "no! é", "tedious<br />and long"],
    ("train", "pos"): ["a gem", "lovely…", "seen it twice"],
    ("test", "neg"): ["wasted évening", "bad"],
    ("test", "pos"): ["a gem, a Ω gem"],
}


def files() -> dict[str, bytes]:
    found = {
        f"aclImdb/{split}/{kind}/{row}_7.txt": review.encode()
        for (split, kind), reviews in REVIEWS.items()
        for row, review in enumerate(reviews)
    }
    return {"aclImdb/README": b"about", **found, "aclImdb/train/unsup/0_0.txt": b"no class"}


def write_both_parquet(folder: Path) -> Path:
    for split in ("train", "test"):
        rows = [
            (review, int(kind == "pos")) for (own, kind), all_ in REVIEWS.items() for review in all_ if own == split
        ]
        texts, labels = map(list, zip(*rows, strict=True))
        write_parquet(folder / f"{split}-00000-of-00001.parquet", {"text": texts, "label": labels})
    return folder


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFERFN_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_tar(tmp_path / "aclImdb_v1.tar.gz", files())


def rows(dataset) -> list[tuple[list[int], int]]:
    batch = dataset.gather(range(len(dataset)))
    return [
        (tokens[:length].tolist(), int(label))
        for tokens, length, label in zip(batch.inputs, batch.lengths, batch.targets, strict=True)
    ]


def refusal(config: TextConfig) -> str:
    with pytest.raises(DataError) as caught:
        config.load()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_vocabulary_and_the_tokens_of_the_published_loader(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_LEAST", 2)
    train, validation, test = TextConfig(path=archive, length=12, published=False).load()
    assert validation is None
    cut = [review[:11] for kind in ("neg", "pos") for review in REVIEWS["train", kind]]
    counts = Counter("".join(cut))
    frequent = sorted((char for char, count in counts.items() if count >= 2), key=lambda char: (-counts[char], char))
    tokens = {char: number for number, char in enumerate(frequent, start=3)}
    expected = [([tokens.get(char, 1) for char in review] + [2], int(row >= 3)) for row, review in enumerate(cut)]
    assert rows(train) == expected
    reviews = [review for kind in ("neg", "pos") for review in REVIEWS["test", kind]]
    assert [row for row, _ in rows(test)] == [[tokens.get(char, 1) for char in review[:11]] + [2] for review in reviews]
    assert max(len(row) for row, _ in rows(train)) == 12


def test_bytes_as_the_long_range_arena_has_them(archive: Path) -> None:
    test = TextConfig(path=archive, level="byte", length=9, published=False).load().test
    expected = [[byte + 1 for byte in "wasted évening".encode()[:9]], [byte + 1 for byte in b"bad"]]
    assert [row for row, _ in rows(test)][:2] == expected
    assert TextConfig(level="byte").signature.vocabulary == 257


def test_every_form_gives_the_same_sequences(archive: Path, tmp_path: Path) -> None:
    folder = write_files(tmp_path / "extracted", files())
    parquet = write_both_parquet(tmp_path / "hub" / "plain_text")
    places = [archive, archive.parent, folder, folder / "aclImdb", parquet, parquet.parent]
    found = [TextConfig(path=place, published=False).load() for place in places]
    for splits in found[1:]:
        assert rows(splits.train) == rows(found[0].train)
        assert rows(splits.test) == rows(found[0].test)


def test_a_vocabulary_that_is_full_leaves_the_rarest_out(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_LEAST", 1)
    monkeypatch.setattr(text, "_VOCABULARY", 8)
    splits = TextConfig(path=archive, published=False).load()
    assert {token for row, _ in rows(splits.train) for token in row} == {1, 2, 3, 4, 5, 6, 7}


def test_reviews_are_held_out_as_many_of_each_class(archive: Path) -> None:
    everything = rows(TextConfig(path=archive, published=False).load().train)
    train, validation, _ = TextConfig(path=archive, published=False, validation=0.33).load()
    assert validation is not None
    assert sorted(label for _, label in rows(validation)) == [0, 1]
    assert sorted(rows(train) + rows(validation)) == sorted(everything)
    assert "0.01 of 6 training reviews leaves none of each of the 2 classes" in refusal(
        TextConfig(path=archive, published=False, validation=0.01)
    )


def test_the_published_archive_is_verified_once(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_SOURCE", as_published(text._SOURCE, archive, train=6, test=3))
    calls: list[Path] = []
    verify = Source.verify
    monkeypatch.setattr(Source, "verify", lambda self, path: calls.append(path) or verify(self, path))
    first = TextConfig(path=archive).load()
    assert (len(first.train), len(first.test)) == (6, 3)
    assert calls == [archive]
    assert rows(TextConfig(path=archive).load().train) == rows(first.train)
    assert calls == [archive]
    monkeypatch.setattr(text, "_SOURCE", as_published(text._SOURCE, archive, train=7, test=3))
    assert TextConfig(path=archive).load().train is not None  # the cache was made when it was right


def test_another_archive_and_other_sizes_are_named(archive: Path, tmp_path: Path) -> None:
    message = refusal(TextConfig(path=archive))
    assert f"{archive}: SHA256" in message
    assert "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe" in message
    assert "--data.no-published" in message
    folder = write_files(tmp_path / "extracted", files())
    message = refusal(TextConfig(path=folder))
    assert "holds 6 train, 3 test, published are 25,000 train, 25,000 test" in message


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_archive(archive: Path, how: str) -> None:
    damage(archive, how)
    message = refusal(TextConfig(path=archive, published=False))
    assert f"{archive}: cannot be read" in message
    assert "https://ai.stanford.edu" in message


def test_a_review_that_is_not_utf8(tmp_path: Path) -> None:
    broken = {**files(), "aclImdb/train/pos/1_7.txt": b"caf\xe9"}
    archive = write_tar(tmp_path / "aclImdb_v1.tar.gz", broken)
    assert "aclImdb/train/pos/1_7.txt: is not UTF-8 (byte 3)" in refusal(TextConfig(path=archive, published=False))


def test_an_archive_of_other_things(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "aclImdb_v1.tar.gz", {"holiday/beach.jpg": b"sun"})
    assert f"{archive}: holds no train review" in refusal(TextConfig(path=archive, published=False))


def test_parquet_files_that_do_not_fit(tmp_path: Path) -> None:
    write_both_parquet(tmp_path)
    config = TextConfig(path=tmp_path, published=False)
    train = tmp_path / "train-00000-of-00001.parquet"
    write_parquet(train, {"sentence": ["a"], "label": [1]})
    assert f"{train}: has the columns sentence, label, not text" in refusal(config)
    write_parquet(train, {"text": ["a"], "label": [-1]})
    assert f"{train}: row 0 holds 'a' and -1" in refusal(config)
    train.write_bytes(b"PAR1 nothing")
    assert f"{train}: cannot be read" in refusal(config)
    train.unlink()
    assert "holds test-00000-of-00001.parquet but no train-*.parquet" in refusal(config)


def test_data_that_is_not_there(tmp_path: Path) -> None:
    message = refusal(TextConfig())
    assert "--data.path" in message
    assert "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz" in message
    assert f"{tmp_path / 'nowhere'} is missing" in refusal(TextConfig(path=tmp_path / "nowhere"))
    (tmp_path / "holiday.jpg").write_bytes(b"")
    assert "found holiday.jpg" in refusal(TextConfig(path=tmp_path))
    assert "one file of another name" in refusal(TextConfig(path=tmp_path / "holiday.jpg"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 1}, r"^data\.length must"),
        ({"validation": 0.7}, r"^data\.validation must"),
        ({"seed": -1}, r"^data\.seed must"),
    ],
)
def test_values_that_make_no_sense(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextConfig(**options)


def test_tokens_are_mapped_from_the_cache(archive: Path) -> None:
    train = TextConfig(path=archive, published=False).load().train
    assert isinstance(train.tokens, np.memmap)


def test_an_edited_review_of_a_folder_is_read_anew(tmp_path: Path) -> None:
    """Though the folder that it is in has not changed: no file came or went."""
    folder = write_files(tmp_path, files()) / "aclImdb"
    config = TextConfig(path=folder, level="byte", published=False)
    before = rows(config.load().train)
    (folder / "train" / "neg" / "0_7.txt").write_text("not dull")
    after = rows(config.load().train)
    assert after[0] == ([byte + 1 for byte in b"not dull"], 0)
    assert after[1:] == before[1:]


@pytest.mark.parametrize(("level", "expected"), [("character", "no� �"), ("byte", "no! é")])
def test_tokens_are_spelled_as_the_text_they_are(
    archive: Path, level: Level, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "_LEAST", 2)
    config = TextConfig(path=archive, level=level, published=False)
    tokens, _ = rows(config.load().train)[1]
    assert config.spell(tokens) == expected
