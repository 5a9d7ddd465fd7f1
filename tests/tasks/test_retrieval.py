from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tasks.archives import damage, write_files, write_parquet, write_tar
from transferfn.tasks import DataError, RetrievalConfig, retrieval

# The same paper occurs in several pairs; the last test paper holds a character that no training paper has.
PAPERS = {
    "P1": "we parse trees",
    "P2": "a model, a model of speech",
    "P3": 'quoted "words" inside',
    "P4": "zz~ unseen",
}
PAIRS = {
    "train": [(1, "P1", "P2"), (0, "P2", "P3"), (1, "P1", "P1")],
    "eval": [(0, "P3", "P1")],
    "test": [(1, "P4", "P2"), (0, "P1", "P4")],
}
NAMES = {split: f"new_aan_pairs.{split}.tsv" for split in PAIRS}


def table(split: str) -> bytes:
    rows = (f"{float(label)}\t{one}\t{two}\t{PAPERS[one]}\t{PAPERS[two]}\n" for label, one, two in PAIRS[split])
    return "".join(rows).encode()


def files() -> dict[str, bytes]:
    return {f"lra_release/tsv_data/{name}": table(split) for split, name in NAMES.items()}


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFERFN_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_files(tmp_path, files()) / "lra_release" / "tsv_data"


def refusal(config: RetrievalConfig) -> str:
    with pytest.raises(DataError) as caught:
        config.load()
    message = str(caught.value)
    assert "\n" not in message
    return message


def vocabulary(cut: int) -> dict[str, int]:
    counts = Counter("".join(PAPERS[paper][:cut] for _, *both in PAIRS["train"] for paper in both))
    order = sorted(counts, key=lambda char: (-counts[char], char))
    return {char: number for number, char in enumerate(order, start=3)}


@pytest.mark.parametrize("length", [10, 4000])
def test_pairs_as_the_published_loader_has_them(folder: Path, length: int) -> None:
    splits = RetrievalConfig(path=folder, length=length, published=False).load()
    tokens = vocabulary(length - 1)
    for dataset, pairs in zip(splits, PAIRS.values(), strict=True):
        assert dataset is not None
        batch = dataset.gather(range(len(dataset)))
        expected = [
            [[tokens.get(char, 1) for char in PAPERS[paper][: length - 1]] + [2] for paper in both]
            for _, *both in pairs
        ]
        assert batch.lengths is not None
        assert batch.lengths.tolist() == [[len(one), len(two)] for one, two in expected]
        longest = int(batch.lengths.max())
        assert batch.inputs.tolist() == [[one + [0] * (longest - len(one)) for one in both] for both in expected]
        assert batch.targets.tolist() == [label for label, *_ in pairs]
        assert batch.inputs.dtype == torch.int64


def test_a_paper_is_kept_once(folder: Path) -> None:
    train = RetrievalConfig(path=folder, published=False).load().train
    assert len(train.sequences) == len(PAPERS)


def test_bytes_as_the_long_range_arena_has_them(folder: Path) -> None:
    config = RetrievalConfig(path=folder, level="byte", length=6, published=False)
    expected = [[byte + 1 for byte in text] for text in (b"we par", b"zz~ un")]
    assert config.load().test.gather([1]).inputs.tolist() == [expected]
    assert config.signature.vocabulary == 257


def test_the_archive_gives_the_same(folder: Path, tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "lra_release.gz", {"lra_release/listops-1000/basic_train.tsv": b"x", **files()})
    for path in (archive, archive.parent, folder.parent, folder.parent.parent):
        found = RetrievalConfig(path=path, published=False).load()
        expected = RetrievalConfig(path=folder, published=False).load()
        for one, two in zip(found, expected, strict=True):
            assert one is not None
            assert two is not None
            torch.testing.assert_close(one.gather(range(len(one))), two.gather(range(len(two))))


def write_all_parquet(folder: Path) -> Path:
    for name, pairs in zip(("train", "validation", "test"), PAIRS.values(), strict=True):
        labels, one, two = map(list, zip(*pairs, strict=True))
        texts = {"text1": [PAPERS[paper] for paper in one], "text2": [PAPERS[paper] for paper in two]}
        write_parquet(folder / f"{name}-00000-of-00001.parquet", {"label": labels, **texts})
    return folder


def test_parquet_files_give_the_same(folder: Path, tmp_path: Path) -> None:
    hub = write_all_parquet(tmp_path / "hub" / "data")
    expected = RetrievalConfig(path=folder, published=False).load()
    for path in (hub, hub.parent):
        for one, two in zip(RetrievalConfig(path=path, published=False).load(), expected, strict=True):
            assert one is not None
            assert two is not None
            torch.testing.assert_close(one.gather(range(len(one))), two.gather(range(len(two))))


def test_parquet_files_that_do_not_fit(tmp_path: Path) -> None:
    write_all_parquet(tmp_path)
    config = RetrievalConfig(path=tmp_path, published=False)
    test = tmp_path / "test-00000-of-00001.parquet"
    write_parquet(test, {"label": [1], "text": ["a"]})
    assert f"{test}: has the columns label, text, not text1 and text2" in refusal(config)
    write_parquet(test, {"label": [0, 2], "text1": ["a", "b"], "text2": ["c", "d"]})
    assert f"{test}: pair 2 has the class 2, expected 0 or 1" in refusal(config)
    write_parquet(test, {"label": [0], "text1": ["a"], "text2": [None]})
    assert f"{test}: pair 1 lacks a text" in refusal(config)
    test.write_bytes(test.read_bytes()[:-20])
    assert f"{test}: cannot be read" in refusal(config)
    (tmp_path / "validation-00000-of-00001.parquet").unlink()
    assert "holds train-00000-of-00001.parquet but no validation-*.parquet" in refusal(config)


def test_quoted_fields_are_read_as_the_published_loader_reads_them(folder: Path) -> None:
    (folder / NAMES["test"]).write_text('1.0\tP1\tP2\t"say ""no""\tand go"\tend\n')
    byte = RetrievalConfig(path=folder, level="byte", published=False).load().test.gather([0])
    assert bytes((byte.inputs[0, 0, : byte.lengths[0, 0]] - 1).tolist()) == b'say "no"\tand go'


def test_the_published_sizes_are_insisted_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = refusal(RetrievalConfig(path=folder))
    assert "holds 3 train, 1 validation, 2 test, published are 147,086 train, 18,090 validation, 17,437 test" in message
    assert "--data.no-published" in message
    sizes = {"train": 3, "validation": 1, "test": 2}
    monkeypatch.setattr(retrieval, "_SOURCE", replace(retrieval._SOURCE, sizes=sizes))
    splits = RetrievalConfig(path=folder).load()
    assert [len(part) for part in splits if part is not None] == [3, 1, 2]


@pytest.mark.parametrize("how", ["cut", "changed", "other", "empty"])
def test_a_damaged_archive(tmp_path: Path, how: str) -> None:
    big = "".join(f"1.0\ta\tb\tpaper {row}\tpaper {row * 7919}\n" for row in range(20_000)).encode()
    archive = write_tar(tmp_path / "lra_release.gz", {f"tsv_data/{name}": big for name in NAMES.values()})
    damage(archive, how)
    message = refusal(RetrievalConfig(path=archive, published=False))
    assert f"{archive}: " in message
    assert "cannot be read" in message
    assert "https://storage.googleapis.com/long-range-arena" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1.0\tP1\tP2\tonly one text\n", "new_aan_pairs.eval.tsv cannot be read"),
        (b"1.0\tP1\tP2\tcaf\xe9\tb\n", "new_aan_pairs.eval.tsv cannot be read"),
        (b"yes\tP1\tP2\ta\tb\n", "new_aan_pairs.eval.tsv cannot be read"),
        (b"", "new_aan_pairs.eval.tsv cannot be read"),
        (b"0.0\tP1\tP2\ta\tb\n3.0\tP1\tP2\ta\tb\n", "pair 2 has the class 3.0, expected 0 or 1"),
    ],
    ids=["columns", "encoding", "class", "empty", "class-3"],
)
def test_a_table_that_does_not_fit(folder: Path, content: bytes, message: str) -> None:
    (folder / NAMES["eval"]).write_bytes(content)
    found = refusal(RetrievalConfig(path=folder, published=False))
    assert f"{folder / NAMES['eval']}: " in found
    assert message in found


def test_data_that_is_not_there(folder: Path, tmp_path: Path) -> None:
    assert "--data.path" in refusal(RetrievalConfig())
    assert "nowhere is missing" in refusal(RetrievalConfig(path=tmp_path / "nowhere"))
    (folder / NAMES["test"]).unlink()
    assert f"{folder}: holds some files of AAN but not new_aan_pairs.test.tsv" in refusal(RetrievalConfig(path=folder))
    archive = write_tar(tmp_path / "lra_release.gz", {"tsv_data/new_aan_pairs.train.tsv": table("train")})
    assert f"{archive}: holds no pair of new_aan_pairs.eval.tsv" in refusal(RetrievalConfig(path=archive))


def test_values_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        RetrievalConfig(length=0)
