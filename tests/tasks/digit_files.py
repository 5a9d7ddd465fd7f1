"""Small files in the formats of the real data, with digits a model can tell apart."""

from __future__ import annotations

import gzip
import struct
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def digits(count: int, *, seed: int = 0, classes: int = 10) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (count, 28, 28) with a bright bar whose place tells the class, and labels."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.uint8) % classes
    images = draw.integers(0, 60, (count, 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label + 4 : 2 * label + 7] = 250
    return images, labels


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()


def write_idx(folder: Path, *, train: int = 200, test: int = 40, compress: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, count, seed in (("train", train, 0), ("t10k", test, 1)):
        images, labels = digits(count, seed=seed)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            data = idx_bytes(array)
            name = f"{split}-{kind}-ubyte"
            if compress:
                (folder / f"{name}.gz").write_bytes(gzip.compress(data))
            else:
                (folder / name).write_bytes(data)
    return folder


def png(image: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    file = BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def write_parquet(folder: Path, *, train: int = 40, test: int = 20, shards: int = 1) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    for split, count, seed in (("train", train, 0), ("test", test, 1)):
        images, labels = digits(count, seed=seed)
        rows = [{"bytes": png(image), "path": f"{row}.png"} for row, image in enumerate(images)]
        for shard, part in enumerate(np.array_split(np.arange(count), shards)):
            table = pa.table({"image": [rows[row] for row in part], "label": labels[part].astype(np.int64)})
            pq.write_table(table, folder / f"{split}-{shard:05}-of-{shards:05}.parquet")
    return folder
