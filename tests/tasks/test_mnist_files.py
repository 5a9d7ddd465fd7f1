from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from tasks.digit_files import digits, idx_bytes, png, write_idx, write_parquet
from transferfn.tasks import DataError
from transferfn.tasks._mnist import read_folder


def assert_digits(found, count: int, seed: int) -> None:
    images, labels = digits(count, seed=seed)
    np.testing.assert_array_equal(found[0], images.reshape(count, -1))
    np.testing.assert_array_equal(found[1], labels)


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("below", ["", "MNIST"])
def test_idx_files(tmp_path: Path, compress: bool, below: str) -> None:
    write_idx(tmp_path / below, train=30, test=20, compress=compress)
    train, test = read_folder(tmp_path)
    assert_digits(train, 30, 0)
    assert_digits(test, 20, 1)


def test_idx_files_with_a_dot_in_the_name(tmp_path: Path) -> None:
    write_idx(tmp_path, train=30, test=20)
    for path in list(tmp_path.iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert_digits(read_folder(tmp_path)[0], 30, 0)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("below", ["", "mnist"])
def test_parquet_files(tmp_path: Path, shards: int, below: str) -> None:
    write_parquet(tmp_path / below, train=40, test=20, shards=shards)
    train, test = read_folder(tmp_path)
    assert_digits(train, 40, 0)
    assert_digits(test, 20, 1)


def refusal(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_folder(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert "nowhere is missing" in refusal(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    assert "file is not a folder" in refusal(tmp_path / "file")


def test_a_folder_with_other_things(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"")
    message = refusal(tmp_path)
    assert "found holiday.jpg" in message
    assert "train-images-idx3-ubyte" in message
    assert "https://" in message


@pytest.mark.parametrize("split", ["train", "t10k"])
@pytest.mark.parametrize("kind", ["images-idx3", "labels-idx1"])
def test_each_missing_idx_file_is_named(tmp_path: Path, split: str, kind: str) -> None:
    path = write_idx(tmp_path) / f"{split}-{kind}-ubyte"
    path.unlink()
    message = refusal(tmp_path)
    assert f"{path} is missing" in message
    assert "https://" in message


def test_a_short_idx_file(tmp_path: Path) -> None:
    path = write_idx(tmp_path, train=30) / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1000])
    assert f"{path} has {30 * 784 - 1000} bytes of data, its header promises 30 x 28 x 28 = 23520" in refusal(tmp_path)
    path.write_bytes(b"\0\0")
    assert f"{path} has 2 bytes, an IDX header alone has 16" in refusal(tmp_path)


def test_a_damaged_gzip_file(tmp_path: Path) -> None:
    path = write_idx(tmp_path, compress=True) / "t10k-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert f"{path} cannot be read" in refusal(tmp_path)
    path.write_bytes(whole[:100] + bytes(50) + whole[150:])
    assert f"{path} cannot be read" in refusal(tmp_path)


def test_an_idx_file_of_another_kind(tmp_path: Path) -> None:
    folder = write_idx(tmp_path)
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes((folder / "train-labels-idx1-ubyte").read_bytes())
    assert "magic number 0x00000801, expected 0x00000803" in refusal(tmp_path)


def test_images_of_another_size(tmp_path: Path) -> None:
    path = write_idx(tmp_path) / "train-images-idx3-ubyte"
    path.write_bytes(idx_bytes(np.zeros((200, 32, 32), np.uint8)))
    assert "images of 32 x 32 pixels, expected 28 x 28" in refusal(tmp_path)


def test_labels_that_do_not_fit(tmp_path: Path) -> None:
    path = write_idx(tmp_path) / "train-labels-idx1-ubyte"
    path.write_bytes(idx_bytes(np.zeros(199, np.uint8)))
    assert "199 labels for the 200 images" in refusal(tmp_path)
    path.write_bytes(idx_bytes(np.full(200, 10, np.uint8)))
    assert f"{path} holds labels from 10 to 10" in refusal(tmp_path)


def test_a_missing_parquet_split(tmp_path: Path) -> None:
    write_parquet(tmp_path)
    (tmp_path / "test-00000-of-00001.parquet").unlink()
    assert "test-00000-of-00001.parquet is missing" in refusal(tmp_path)


def test_a_damaged_parquet_file(tmp_path: Path) -> None:
    path = write_parquet(tmp_path) / "train-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:500])
    assert f"{path} cannot be read as MNIST" in refusal(tmp_path)


def test_a_parquet_file_of_other_columns(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = write_parquet(tmp_path) / "train-00000-of-00001.parquet"
    pq.write_table(pa.table({"text": ["a"], "label": [1]}), path)
    assert f"{path} cannot be read as MNIST" in refusal(tmp_path)
    pq.write_table(pa.table({"image": ["a"], "label": [1]}), path)
    assert f"{path} cannot be read as MNIST" in refusal(tmp_path)
    pq.write_table(pa.table({"image": [{"bytes": b"no picture"}], "label": [1]}), path)
    assert f"{path}: the image in row 0 cannot be decoded" in refusal(tmp_path)
    pq.write_table(pa.table({"image": [{"bytes": png(np.zeros((8, 8), np.uint8))}], "label": [1]}), path)
    assert "row 0 has 8 x 8 pixels, expected 28 x 28" in refusal(tmp_path)


def test_gzip_is_known_by_content_not_by_name(tmp_path: Path) -> None:
    path = write_idx(tmp_path, train=30) / "train-images-idx3-ubyte"
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert_digits(read_folder(tmp_path)[0], 30, 0)
