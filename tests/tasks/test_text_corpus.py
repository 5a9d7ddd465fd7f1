from __future__ import annotations

import codecs
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from transferfn.tasks import _texts
from transferfn.tasks.dataset import DataError
from transferfn.tasks.text_corpus import TextCorpusConfig, TextRows
from transferfn.tasks.tokenizer import END, BpeTokenizer, ByteTokenizer


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("TRANSFERFN_CACHE", str(folder))
    return folder


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Forty files, every tenth a copy of the one before."""
    folder = tmp_path / "texts"
    for number in range(40):
        place = folder / str(number % 3) / f"{number}.txt"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(f"text number {number - (number % 10 == 9)}: ".encode() * 5 + "é\n".encode())
    (folder / "empty.txt").touch()
    (folder / "notes.md").write_text("no text of the corpus")
    return folder


def read(folder: Path, **options: Any) -> TextCorpusConfig:
    values = {"source": "files", "path": folder, "validation": 0.2, "test": 0.2, "length": 16}
    return TextCorpusConfig(**(values | options))


# ------------------------------------------------------------------------------------------------------- the split


def test_no_text_is_in_two_parts(texts: Path) -> None:
    corpus = read(texts).read()
    parts = {name: corpus.text(name).split(b"\0") for name in _texts.PARTS}
    everything = [text for part in parts.values() for text in part]
    assert len(everything) == len(set(everything)) == 36  # four copies left out, and the empty file
    assert all(parts.values())
    assert not any(b"no text" in text for text in everything)
    assert sum(map(len, everything)) == sum(corpus.size(name) for name in parts)


def test_a_file_stays_in_its_part(texts: Path) -> None:
    """Whatever else there is: its part is a function of its place alone."""
    before = {name: set(read(texts).read().text(name).split(b"\0")) for name in _texts.PARTS}
    (texts / "another.txt").write_text("something else")
    after = {name: set(read(texts).read().text(name).split(b"\0")) for name in _texts.PARTS}
    assert all(before[name] <= after[name] for name in before)
    assert sum(map(len, after.values())) == 37  # and the change was seen


def test_pythons_standard_library(monkeypatch: pytest.MonkeyPatch) -> None:
    files = _texts.python_files()
    assert 5e6 < sum(path.stat().st_size for path in files) < 20e6
    assert not any({"test", "tests", "site-packages"} & set(path.parts[-4:-1]) for path in files)
    assert {"argparse.py", "dataclasses.py"} <= {path.name for path in files}
    monkeypatch.setattr(_texts, "python_files", lambda: files[:60])
    train, validation, test = TextCorpusConfig(test=0.2, validation=0.1).load()
    assert validation is not None
    assert len(train) > len(test) > 0
    assert train.gather([0]).inputs.shape == (1, 512)


def test_wikitext_is_split_as_published(tmp_path: Path) -> None:
    article = " \n = Title {} = \n \n Some words . \n = = Section = = \n More words . \n"
    for name, numbers in (("train", (1, 2, 3)), ("valid", (4,)), ("test", (5, 6))):
        (tmp_path / f"wiki.{name}.raw").write_text("".join(map(article.format, numbers)))
    corpus = TextCorpusConfig(source="wikitext-103", path=tmp_path).read()
    found = {name: corpus.text(name).split(b"\0") for name in _texts.PARTS}
    assert {name: len(articles) for name, articles in found.items()} == {"train": 3, "validation": 1, "test": 2}
    assert b"".join(found["train"]).decode() == "".join(map(article.format, (1, 2, 3)))
    assert all(b"Title 6" in found["test"][1] for _ in found)
    (tmp_path / "wiki.valid.raw").unlink()
    with pytest.raises(DataError, match=r"no validation part of WikiText-103: expected wiki\.train\.raw"):
        TextCorpusConfig(source="wikitext-103", path=tmp_path).read()


def test_wikitext_in_parquet(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    lines = ["", " = One = \n", "", " words \n", " = Two = \n", " words \n"]
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001", "test-00000-of-00001"):
        parquet.write_table(arrow.table({"text": lines}), tmp_path / f"{name}.parquet")
    corpus = TextCorpusConfig(source="wikitext-103", path=tmp_path).read()
    assert corpus.text("train").count(b"\0") == 3
    assert corpus.text("test") == b" = One = \n words \n\0 = Two = \n words \n"


def test_folders_of_parquet(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [f"row {number}" for number in range(50)]
    parquet.write_table(arrow.table({"text": [*rows, "row 7", None]}), tmp_path / "all.parquet")
    corpus = read(tmp_path, pattern="*.parquet").read()
    found = [text.decode() for name in _texts.PARTS for text in corpus.text(name).split(b"\0")]
    assert sorted(found) == sorted(rows)
    parquet.write_table(arrow.table({"words": rows}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match=r"other\.parquet: has the columns words, not text"):
        read(tmp_path, pattern="*.parquet").read()
    parquet.write_table(arrow.table({"text": [1, 2]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match=r"other\.parquet: row 0 holds '1', which is no text"):
        read(tmp_path, pattern="*.parquet").read()
    (tmp_path / "other.parquet").write_text("no Parquet")
    with pytest.raises(DataError, match=r"other\.parquet: cannot be read .* fetch it again"):
        read(tmp_path, pattern="*.parquet").read()


@pytest.mark.parametrize("compression", ["snappy", "none"])
def test_a_parquet_file_that_is_damaged_inside(tmp_path: Path, compression: str) -> None:
    """Its ends, which are read when it is opened, are whole."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [f"row {number}" for number in range(5000)]
    for name in ("train", "validation", "test"):
        path = tmp_path / f"{name}-00000-of-00001.parquet"
        parquet.write_table(arrow.table({"text": rows}), path, compression=compression, use_dictionary=False)
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + b"\xff" * 200 + whole[middle + 200 :])
    with pytest.raises(DataError, match=r"test-00000-of-00001\.parquet: cannot be read .* fetch it again") as caught:
        TextCorpusConfig(source="wikitext-103", path=tmp_path).read()
    assert "https://huggingface.co/datasets/Salesforce/wikitext" in str(caught.value)
    with pytest.raises(
        DataError, match=r'fetch it again; expected a Parquet file with one text a row in the column "t'
    ):
        read(tmp_path, pattern="*.parquet").read()


def test_files_may_name_their_parts(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.txt").write_text(f"words of {name}")
    corpus = read(tmp_path).read()
    assert corpus.text("validation") == b"words of valid"
    assert corpus.text("test") == b"words of test"


@pytest.mark.parametrize("packed", [True, False])
def test_enwik8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    monkeypatch.setattr(_texts, "_ENWIK8", {"train": 90, "validation": 5, "test": 5})
    whole = bytes(range(100))
    if packed:
        with zipfile.ZipFile(tmp_path / "enwik8.zip", "w") as archive:
            archive.writestr("enwik8", whole)
    else:
        (tmp_path / "enwik8").write_bytes(whole)
    corpus = TextCorpusConfig(source="enwik8", path=tmp_path).read()
    assert [corpus.text(name) for name in _texts.PARTS] == [whole[:90], whole[90:95], whole[95:]]
    monkeypatch.setattr(_texts, "_ENWIK8", {"train": 90, "validation": 5, "test": 6})
    with pytest.raises(DataError, match="holds 100 bytes, enwik8 has 101"):
        _texts.enwik8(tmp_path)


def inside(whole: bytes) -> bytes:
    """Other bytes amid what is packed, as long."""
    middle = len(whole) // 2
    return whole[:middle] + bytes(30) + whole[middle + 30 :]


def other_method(whole: bytes) -> bytes:
    """A way of packing that there is not, in both places that tell it."""
    return whole.replace(b"\x08\x00", b"\x63\x00")


@pytest.mark.parametrize("damage", [inside, other_method, lambda whole: whole[:-9], lambda _: b"", lambda _: b"<html>"])
def test_a_damaged_archive_of_enwik8(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "enwik8.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("enwik8", np.random.default_rng(0).bytes(5000).hex())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        DataError, match=r"enwik8\.zip is damaged or no archive of enwik8 \(.+\), fetch it again; it is p"
    ):
        TextCorpusConfig(source="enwik8", path=tmp_path).read()


def test_published_size_of_enwik8() -> None:
    assert list(_texts._ENWIK8.values()) == [90_000_000, 5_000_000, 5_000_000]


# --------------------------------------------------------------------------------------------------------- packing


@pytest.mark.parametrize("length", [2, 7, 16, 1000])
@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_rows_hold_every_token_once(texts: Path, length: int, kind: str) -> None:
    """Compared with one readable loop over the texts."""
    if kind == "bpe":
        pytest.importorskip("tokenizers")
    corpus = read(texts, tokenizer=kind, vocabulary=300).read()
    tokenizer = corpus.tokenizer
    stream, begins = [], []
    for text in corpus.text("train").split(b"\0"):
        begins.append(len(stream))
        stream += [tokenizer.end, *tokenizer.encode(text).tolist()]
    stream.append(tokenizer.end)
    rows = corpus.rows("train", length)
    batch = rows.gather(range(len(rows)))
    valid = batch.targets != -100
    assert batch.inputs[valid].tolist() == stream[:-1]
    assert batch.targets[valid].tolist() == stream[1:]
    assert batch.resets[valid].nonzero()[:, 0].tolist() == begins
    assert not batch.resets[~valid].any()
    lengths = valid.sum(1) if batch.lengths is None else batch.lengths
    assert torch.equal(lengths, valid.sum(1))
    assert batch.inputs.dtype == batch.targets.dtype == torch.int64
    order = np.random.default_rng(0).permutation(len(rows)).tolist()
    again = rows.gather(order)
    assert torch.equal(again.inputs, batch.inputs[order])
    assert again.index.tolist() == order


def test_no_rows() -> None:
    rows = TextRows(np.empty(0, np.uint16), np.empty(0, np.int64), 4)
    assert len(rows) == 0
    assert rows.gather([]).inputs.shape == (0, 4)


def test_what_was_made_is_kept(texts: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = read(texts)
    first = config.read()
    made = sorted(path.name for path in cache.rglob("*.npy"))
    monkeypatch.setattr(TextCorpusConfig, "_prepare", lambda *_: pytest.fail("made again"))
    second = config.read()
    assert sorted(path.name for path in cache.rglob("*.npy")) == made
    assert isinstance(second.rows("train", 16).tokens, np.memmap)
    for name in _texts.PARTS:
        assert np.array_equal(first.rows(name, 16).tokens, second.rows(name, 16).tokens)


def test_signature(texts: Path) -> None:
    assert read(texts).signature.vocabulary == 257
    pytest.importorskip("tokenizers")
    signature = read(texts, tokenizer="bpe", vocabulary=280).signature
    assert signature.vocabulary == signature.outputs == 280
    assert signature.length == 16


# -------------------------------------------------------------------------------------------------------- tokenisers

TEXTS = [b"", b"the cat sat", "naïve Ünïcödé 漢字 🙂\r\n\t".encode(), f"a {END} b".encode(), bytes(range(1, 128)) * 2]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_texts_come_back(text: bytes) -> None:
    pytest.importorskip("tokenizers")
    trained = BpeTokenizer.train([b"the cat sat on the mat"] * 4, 270)
    again = BpeTokenizer.from_json(trained.to_json())
    for tokenizer in (ByteTokenizer(), trained, again):
        tokens = tokenizer.encode(text).tolist()
        assert tokenizer.end not in tokens
        assert all(0 <= token < tokenizer.vocabulary for token in tokens)
        assert tokenizer.decode([tokenizer.end, *tokens, tokenizer.end]) == text
    assert again.encode(text).tolist() == trained.encode(text).tolist()


def test_texts_come_back_token_by_token() -> None:
    """As they are generated: a character of several bytes may be spread over several tokens."""
    pytest.importorskip("tokenizers")
    text = "é漢🙂 – “q”"
    trained = BpeTokenizer.train(["über é “q” “é”".encode()] * 4, 270)
    for tokenizer in (ByteTokenizer(), trained):
        tokens = tokenizer.encode(text.encode()).tolist()
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        pieces = [decoder.decode(tokenizer.decode([token])) for token in tokens]
        assert "".join(pieces) + decoder.decode(b"", final=True) == text
        assert "" in pieces  # some token is a part of a character
        assert tokenizer.decode([tokenizer.end, 5000]) == b""  # a model may know more tokens than there are
    assert len(trained.encode(text.encode())) < len(text.encode())


def test_bpe_learns_from_training_texts_only(texts: Path) -> None:
    pytest.importorskip("tokenizers")
    corpus = read(texts, tokenizer="bpe", vocabulary=300).read()
    expected = BpeTokenizer.train(corpus.text("train").split(b"\0"), 300)
    assert corpus.tokenizer.to_json() == expected.to_json()
    assert len(corpus.rows("test", 8).tokens) < corpus.size("test") / 2


def test_bytes_as_a_tokenizer_of_transformers() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    raw = tokenizers.Tokenizer.from_str(ByteTokenizer().to_json())
    text = "naïve 漢字\n"
    assert raw.encode(text).ids == list(text.encode())
    assert raw.decode(list(text.encode())) == text
    assert raw.token_to_id(END) == ByteTokenizer.end
    assert raw.get_vocab_size() == ByteTokenizer.vocabulary


def test_a_tokenizer_of_ones_own(texts: Path, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    trained, file = BpeTokenizer.train([b"text number"] * 4, 262), tmp_path / "tokenizer.json"
    file.write_text(trained.to_json())
    assert read(texts, tokenizer="bpe", tokenizer_file=file).read().tokenizer.to_json() == trained.to_json()
    json = trained.to_json()
    file.write_text(json[: json.index('"decoder"')] + '"decoder":null,' + json[json.index('"model"') :])
    with pytest.raises(DataError, match=r"tokenizer\.json: the tokenizer is not byte-level"):
        read(texts, tokenizer="bpe", tokenizer_file=file).read()
    file.write_text("{}")
    with pytest.raises(DataError, match="no file of the tokenizers library"):
        read(texts, tokenizer="bpe", tokenizer_file=file).read()
    with pytest.raises(DataError, match="cannot be read"):
        read(texts, tokenizer="bpe", tokenizer_file=tmp_path / "none.json").read()
    with pytest.raises(ValueError, match="at least 257"):
        BpeTokenizer.train([], 100)


def test_wrong_values_are_refused(texts: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"needs data\.path"):
        TextCorpusConfig(source="enwik8")
    with pytest.raises(ValueError, match=r"takes no data\.path"):
        TextCorpusConfig(path=texts)
    with pytest.raises(ValueError, match="sum below 1"):
        read(texts, validation=0.5, test=0.5)
    with pytest.raises(ValueError, match="at least 2"):
        read(texts, length=1)
    with pytest.raises(ValueError, match=r"goes with data\.tokenizer"):
        read(texts, tokenizer_file=texts)
    with pytest.raises(DataError, match=r"no file of .* matches .*'\*\.csv'; it holds files ending in \.md, \.txt"):
        read(texts, pattern="*.csv").read()
    with pytest.raises(DataError, match="is no folder"):
        read(tmp_path / "nothing").read()
    with pytest.raises(DataError, match="neither enwik8 nor a folder"):
        TextCorpusConfig(source="enwik8", path=texts).read()
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.txt").write_text("a single text")
    with pytest.raises(DataError, match="part has no text: there are 1 different ones"):
        read(tmp_path / "one").read()
