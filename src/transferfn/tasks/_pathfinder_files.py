"""The published pictures of Pathfinder: lists of pictures with their labels, and PNG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from transferfn.tasks._published import Source
from transferfn.tasks.cache import Prepared, fingerprint, prepare
from transferfn.tasks.dataset import DataError

_PUBLISHED_AT = (
    "the published pictures are in lra_release.gz, folders pathfinder32, pathfinder64, pathfinder128, at "
    "https://github.com/google-research/long-range-arena"
)
_WHERE = f"{_PUBLISHED_AT[0].upper()}{_PUBLISHED_AT[1:]}."
_SOURCE = Source(
    task="Pathfinder",
    expected=_PUBLISHED_AT,
    sizes={"train": 160_000, "validation": 20_000, "test": 20_000},
    digests={},
)
_COUNTED = 14  # dashes of a long path in the pictures whose number the paper tells
_EMPTY = ("curv_baseline", "imgs/0", "sample_172.png")  # of pathfinder32; all loaders leave it out
_SPLIT_SEED = 42  # as in the loader of S4 and of RTF
_HELD_OUT = 0.1


def read_folder(folder: Path, *, side: int, contour_length: int, published: bool) -> Prepared:
    """Read the pictures of one difficulty, once, and split them as the official loader does.

    Args:
        folder: Such as ``pathfinder32``.
        side: Pictures have side x side pixels.
        contour_length: Dashes of a long path; 6 is called ``curv_baseline`` there.
        published: Whether to insist on the published number of pictures, where there is one.

    Raises:
        DataError: if a file is missing, damaged or of another size.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is {'no folder' if folder.exists() else 'missing'}. {_WHERE}")
    level = folder / ("curv_baseline" if contour_length == 6 else f"curv_contour_length_{contour_length}")
    lists = [path for path in (level / "metadata").glob("*.npy") if path.stem.isdigit()]
    lists.sort(key=lambda path: int(path.stem))
    if not lists:
        raise DataError(f"{level / 'metadata'} holds no list of pictures such as 0.npy. {_WHERE}")
    insist = published and contour_length == _COUNTED
    key = {
        "files": fingerprint(lists),
        "folder": str(folder.resolve()),
        "side": side,
        "contours": contour_length,
        "published": insist,
    }
    return prepare("pathfinder-files", key, lambda to: _write(to, level, lists, side, insist))


def _write(to: Path, level: Path, lists: list[Path], side: int, insist: bool) -> None:
    from tqdm import tqdm

    samples = [sample for path in lists for sample in _samples(path, level)]
    held = int(_HELD_OUT * len(samples))
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(_SPLIT_SEED)).tolist()
    train = len(samples) - 2 * held
    if held < 1:
        raise DataError(f"{level} lists {len(samples)} pictures, too few to hold out a tenth twice. {_WHERE}")
    parts = {"train": order[:train], "validation": order[train : train + held], "test": order[train + held :]}
    if insist:
        _SOURCE.check_sizes(level, {name: len(rows) for name, rows in parts.items()})
    for name, rows in parts.items():
        shape = (len(rows), side * side)
        images = np.lib.format.open_memmap(to / f"{name}-images.npy", "w+", np.uint8, shape)
        bar = tqdm(rows, desc=f"pathfinder {name}", unit="picture", leave=False, disable=None)
        for at, row in enumerate(bar):
            images[at] = _read_png(samples[row][0], side).reshape(-1)
        images.flush()
        np.save(to / f"{name}-labels.npy", np.array([samples[row][1] for row in rows], np.uint8))


def _samples(path: Path, level: Path) -> list[tuple[Path, int]]:
    """Read a list: a line a picture, with its folder, its name, its number and its label."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no list of pictures in text ({error}): fetch it again. {_WHERE}") from None
    samples = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if len(words) < 4 or words[3] not in ("0", "1"):
            raise DataError(
                f"{path}, line {number}: expected a folder, a name, a number and a label 0 or 1, found "
                f"{line[:60]!r}: fetch it again. {_WHERE}"
            )
        if (level.name, *words[:2]) != _EMPTY:
            samples.append((level / words[0] / words[1], int(words[3])))
    return samples


def _read_png(path: Path, side: int) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L"), np.uint8)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): fetch it again. {_WHERE}") from None
    if pixels.shape != (side, side):
        raise DataError(
            f"{path} has {pixels.shape[0]} x {pixels.shape[1]} pixels, expected {side} x {side}: set side, or name "
            f"the folder of that size. {_WHERE}"
        )
    return pixels
