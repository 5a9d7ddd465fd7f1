from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from tasks.archives import write_parquet, write_tar
from transferfn.tasks import (
    DataError,
    DigitsConfig,
    ImageConfig,
    RetrievalConfig,
    SeriesConfig,
    SmnistConfig,
    SpeechCommandsConfig,
    Task,
    TextConfig,
)
from transferfn.tasks._published import Source, find, parquet_rows, tar_files

CONTENT = b"some words\n" * 1000
SOURCE = Source(
    task="Words",
    expected="expected words.tar.gz from https://example.org",
    sizes={"train": 1},
    digests={"words.tar.gz": f"md5:{hashlib.md5(CONTENT).hexdigest()}"},
)


@pytest.mark.parametrize(
    "config",
    [DigitsConfig, ImageConfig, RetrievalConfig, SeriesConfig, SmnistConfig, SpeechCommandsConfig, TextConfig],
)
def test_every_configuration_is_a_task(config: type) -> None:
    assert isinstance(config(), Task)
    assert config().signature == config().signature


def read(path: Path) -> dict[str, bytes]:
    with SOURCE.reading(path):
        return {name: file.read() for name, file in tar_files(path, lambda name: name.endswith(".txt"))}


@pytest.mark.parametrize("compress", [True, False])
def test_wanted_files_are_read_in_order_whether_compressed_or_not(tmp_path: Path, compress: bool) -> None:
    path = write_tar(tmp_path / "words.tar.gz", {"./b/2.txt": b"two", "a/1.txt": b"one", "a/x.jpg": b"picture"})
    if not compress:
        path.write_bytes(gzip.decompress(path.read_bytes()))
    assert list(read(path).items()) == [("b/2.txt", b"two"), ("a/1.txt", b"one")]


def test_links_are_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "words.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        link = tarfile.TarInfo("secret.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        entry = tarfile.TarInfo("real.txt")
        entry.size = 4
        tar.addfile(entry, io.BytesIO(b"real"))
    assert read(path) == {"real.txt": b"real"}


@pytest.mark.parametrize("keep", [10, 600, 1500, -9])
def test_a_cut_archive_is_noticed_wherever_it_is_cut(tmp_path: Path, keep: int) -> None:
    text = hashlib.shake_128(b"seed").hexdigest(1000).encode()
    path = write_tar(tmp_path / "words.tar.gz", {"a.txt": text, "b.txt": text[::-1]})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"words\.tar\.gz: cannot be read .*expected words\.tar\.gz from https"):
        read(path)


def test_an_error_that_says_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read \(EOFError\), fetch"), SOURCE.reading(tmp_path / "x"):
        raise EOFError


def test_digests_are_compared(tmp_path: Path) -> None:
    path = tmp_path / "words.tar.gz"
    path.write_bytes(CONTENT)
    SOURCE.verify(path)
    path.write_bytes(CONTENT + b"!")
    with pytest.raises(DataError, match=f"MD5 {hashlib.md5(CONTENT + b'!').hexdigest()}"):
        SOURCE.verify(path)
    SOURCE.verify(path.rename(tmp_path / "unknown.tar.gz"))
    with pytest.raises(DataError, match="cannot be read"):
        SOURCE.verify(path)


def test_sizes_are_compared(tmp_path: Path) -> None:
    SOURCE.check_sizes(tmp_path, {"train": 1})
    with pytest.raises(DataError, match="holds 2,000 train, published are 1 train"):
        SOURCE.check_sizes(tmp_path, {"train": 2000})


def test_names_are_looked_for_in_order(tmp_path: Path) -> None:
    for name in ("b", "c"):
        (tmp_path / name).write_text("")
    assert find(tmp_path, ("a", "c", "b")) == tmp_path / "c"
    assert find(tmp_path / "b", ("a", "b")) == tmp_path / "b"
    assert find(tmp_path / "b", ("a",)) is None
    assert find(tmp_path / "nowhere", ("a",)) is None
    assert find(None, ("a",)) is None


def test_rows_of_a_parquet_file(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", {"a": list(range(2500)), "b": ["x"] * 2500, "c": [0.0] * 2500})
    rows = list(parquet_rows(path, ["b", "a"], SOURCE))
    assert rows == [("x", number) for number in range(2500)]
