"""Where the pictures of CIFAR-10 come from: pickled or binary batches, packed or not, or Parquet files."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from io import BufferedReader, BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferfn.tasks._published import Source, find, find_parquet, parquet_rows, tar_files

SIDE = 32
CLASSES = 10
_ARCHIVES = ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz")
_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_BATCHES = (*_TRAIN, "test_batch")
SOURCE = Source(
    task="CIFAR-10",
    expected=(
        f"expected {_ARCHIVES[0]} or {_ARCHIVES[1]} from https://www.cs.toronto.edu/~kriz/cifar.html, their folders "
        "cifar-10-batches-py or cifar-10-batches-bin, or train-*.parquet and test-*.parquet from "
        "https://huggingface.co/datasets/uoft-cs/cifar10 (plain_text)"
    ),
    sizes={"train": 50_000, "test": 10_000},
    digests={
        _ARCHIVES[0]: "md5:c58f30108f718f92721af3b95e74349a",
        _ARCHIVES[1]: "md5:c32a1d4ab5d03f1284b67883e8d87530",
    },
)

Pictures = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Pixels (N, 1024, 3), row by row, and classes (N,)."""

# The function that pickled arrays are made with; its module has another name in old files.
_RECONSTRUCT = np.zeros(0).__reduce__()[0]
_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Reads arrays, dictionaries, lists, numbers and bytes, and refuses all else, so that no file can run code."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        try:
            return _ALLOWED[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}, which is no array") from None


def find_pictures(path: Path | None) -> tuple[Path, list[Path], Callable[[Path], Iterator[tuple[str, Pictures]]]]:
    """Return where the pictures are, the files they are in, and what reads their batches, each with its name.

    Args:
        path: An archive, a folder with batches or Parquet files, or a folder with one of them.

    Raises:
        DataError: if there is none.
    """
    if archive := find(path, _ARCHIVES):
        return archive, [archive], _read_archive
    if path is not None and path.is_dir():
        for folder in (path, path / "cifar-10-batches-py", path / "cifar-10-batches-bin"):
            for suffix in ("", ".bin"):
                files = [folder / f"{name}{suffix}" for name in _BATCHES]
                if present := [file for file in files if file.is_file()]:
                    if missing := [file.name for file in files if file not in present]:
                        raise SOURCE.damaged(folder, f"holds some batches but not {', '.join(missing)}")
                    return folder, files, _read_folder
        if parquet := find_parquet(path, SOURCE):
            return path, [file for files in parquet.values() for file in files], _read_parquet
    raise SOURCE.nothing_at(path)


def _read_archive(path: Path) -> Iterator[tuple[str, Pictures]]:
    def wanted(name: str) -> bool:
        return PurePosixPath(name).name.removesuffix(".bin") in _BATCHES

    for name, file in tar_files(path, wanted):
        yield PurePosixPath(name).name, _read_batch(path, PurePosixPath(name).name, file)


def _read_folder(folder: Path) -> Iterator[tuple[str, Pictures]]:
    for path in sorted(folder.iterdir()):
        if path.name.removesuffix(".bin") in _BATCHES:
            with path.open("rb") as file:
                yield path.name, _read_batch(path, path.name, file)


def _read_batch(path: Path, name: str, file: BufferedReader) -> Pictures:
    data = file.read()
    planes, labels = _from_binary(path, name, data) if name.endswith(".bin") else _from_pickle(path, name, data)
    if len(labels) and not (labels.min() >= 0 and labels.max() < CLASSES):
        raise SOURCE.damaged(path, f"{name} holds classes from {labels.min()} to {labels.max()}, expected 0 to 9")
    # From three planes a picture to three colours a pixel.
    return np.ascontiguousarray(planes.reshape(-1, 3, SIDE**2).transpose(0, 2, 1)), labels


def _from_binary(path: Path, name: str, data: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Rows of one byte for the class and 3,072 for the pixels, plane by plane."""
    width = 1 + 3 * SIDE**2
    if not data or len(data) % width:
        raise SOURCE.damaged(path, f"{name} has {len(data)} bytes, expected some times {width}: fetch it again")
    rows = np.frombuffer(data, np.uint8).reshape(-1, width)
    return rows[:, 1:], rows[:, 0].astype(np.int64)


def _from_pickle(path: Path, name: str, data: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A dictionary written by Python 2, with ``data`` (N, 3072), plane by plane, and ``labels``."""
    try:
        found = _ArrayUnpickler(BytesIO(data), encoding="bytes").load()
    except Exception as error:  # noqa: BLE001 - a damaged pickle raises nearly anything
        raise SOURCE.damaged(path, f"{name} cannot be read as a batch ({str(error) or type(error).__name__})") from None
    found = found if isinstance(found, dict) else {}
    planes, labels = found.get(b"data"), found.get(b"labels")
    if (
        isinstance(planes, np.ndarray)
        and planes.dtype == np.uint8
        and planes.ndim == 2
        and planes.shape[1] == 3 * SIDE**2
        and isinstance(labels, list)
        and len(labels) == len(planes)
        and all(isinstance(label, int) for label in labels)
    ):
        return planes, np.asarray(labels, np.int64)
    raise SOURCE.damaged(
        path,
        f"{name} is no batch of CIFAR-10: expected a dictionary with data (N, 3072), bytes, and labels, N integers",
    )


def _read_parquet(folder: Path) -> Iterator[tuple[str, Pictures]]:
    for split, files in (find_parquet(folder, SOURCE) or {}).items():
        for path in files:
            pixels: list[NDArray[np.uint8]] = []
            labels: list[int] = []
            for row, (image, label) in enumerate(parquet_rows(path, ["img", "label"], SOURCE)):
                if label not in range(CLASSES):
                    raise SOURCE.damaged(path, f"row {row} has the class {label}, expected 0 to {CLASSES - 1}")
                pixels.append(_decode(image, path, row))
                labels.append(label)
            if labels:
                yield f"{split}-{path.name}", (np.stack(pixels), np.asarray(labels, np.int64))


def _decode(image: Any, path: Path, row: int) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(BytesIO(image["bytes"])) as picture:
            pixels = np.asarray(picture.convert("RGB"), np.uint8)
    except (UnidentifiedImageError, OSError, SyntaxError, TypeError, KeyError, ValueError) as error:
        raise SOURCE.damaged(path, f"the picture in row {row} cannot be decoded ({error}), fetch it again") from None
    if pixels.shape != (SIDE, SIDE, 3):
        raise SOURCE.damaged(path, f"the picture in row {row} has {pixels.shape[1]} x {pixels.shape[0]} pixels, not 32")
    return pixels.reshape(-1, 3)
