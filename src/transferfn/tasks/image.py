"""Image: what does a picture show, read pixel by pixel? CIFAR-10 in grey, as in the Long Range Arena, or in colour."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from transferfn.tasks._cifar import CLASSES, SIDE, SOURCE, Pictures, find_pictures
from transferfn.tasks.cache import fingerprint, prepare
from transferfn.tasks.dataset import DataError, Signature, Splits
from transferfn.tasks.signals import SignalSequences, fixed_permutation
from transferfn.tasks.splits import check_seed, check_share

# Mean and standard deviation of the training pixels, for pixels in 0..1, as in the loaders of S4 and RTF.
_GREY = (122.6 / 255, 61.0 / 255)
_COLOUR = (np.array([0.4914, 0.4822, 0.4465]), np.array([0.247, 0.243, 0.261]))


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageConfig:
    """CIFAR-10: pictures of 32 x 32 pixels, row by row, and one of ten classes; 45,000, 5,000 and 10,000.

    With the default seed the 5,000 held out are those of the loaders of S4 and RTF.

    Source:
        Krizhevsky 2009 (the data); Tay et al. 2021, arXiv:2011.04006; state-spaces/s4, src/dataloaders/basic.py.

    Example:
        >>> config = ImageConfig(path=Path("cifar-10-python.tar.gz"))
        >>> config.signature
        Signature(length=1024, outputs=10, target='class', channels=1, vocabulary=None)
        >>> config.load().train.gather([0, 1]).inputs.shape  # doctest: +SKIP
        torch.Size([2, 1024, 1])
    """

    path: Path | None = None
    """The archive cifar-10-python.tar.gz or cifar-10-binary.tar.gz, the folder that is in it, a folder with Parquet
    files, or a folder with one of them."""

    colour: bool = False
    """Three channels, red, green and blue, instead of one, grey."""

    permuted: bool = False
    """Read the pixels in a fixed random order, the same for all pictures."""

    validation: float = 0.1
    """Share of the training pictures held out to choose the best epoch; 0 to 0.5."""

    seed: int = 42
    """Seed of the split."""

    published: bool = True
    """Insist on the published checksum and number of pictures; False takes what is there, such as a part of it."""

    def __post_init__(self) -> None:
        check_share(self.validation, "training pictures")
        check_seed(self.seed)

    @property
    def signature(self) -> Signature:
        """One or three channels of 1,024 pixels, and a class of ten."""
        return Signature(length=SIDE**2, channels=3 if self.colour else 1, outputs=CLASSES)

    def load(self) -> Splits:
        """Read the pictures, the first time into the cache, and split them.

        Raises:
            DataError: if a file is missing, damaged or not what it should be.
        """
        place, files, read = find_pictures(self.path)
        key = {"published": self.published, "files": fingerprint(files)}
        prepared = prepare("image", key, lambda folder: self._write(place, read, folder))
        count = len(prepared["train-labels"])
        # As torch.utils.data.random_split draws, which the published loaders use.
        order = torch.randperm(count, generator=torch.Generator().manual_seed(self.seed)).numpy()
        kept = int(count * (1 - self.validation))
        if self.validation and not 0 < kept < count:
            raise DataError(f"holding out {self.validation:g} of {count} pictures leaves none: give more of them")
        mean, std = _COLOUR if self.colour else _GREY

        def pictures(split: str, rows: np.ndarray | None = None) -> SignalSequences:
            return SignalSequences(
                prepared[f"{split}-{'colour' if self.colour else 'grey'}"],
                prepared[f"{split}-labels"],
                rows=rows,
                unit=255.0,
                mean=mean,
                std=std,
                order=fixed_permutation(SIDE**2) if self.permuted else None,
            )

        held = pictures("train", order[kept:]) if self.validation else None
        return Splits(pictures("train", order[:kept]), held, pictures("test"))

    def _write(self, place: Path, read: Callable[[Path], Iterator[tuple[str, Pictures]]], folder: Path) -> None:
        if self.published and place.is_file():
            SOURCE.verify(place)
        with SOURCE.reading(place):
            parts = sorted(read(place), key=lambda part: part[0])  # batches in the order of their names
        batches = {
            split: [batch for name, batch in parts if (name.startswith("test")) == (split == "test")]
            for split in SOURCE.sizes
        }
        if self.published:
            SOURCE.check_sizes(place, {split: sum(len(y) for _, y in part) for split, part in batches.items()})
        for split, part in batches.items():
            if not part:
                raise SOURCE.damaged(place, f"holds no {split} pictures")
            colours = np.concatenate([pixels for pixels, _ in part])
            np.save(folder / f"{split}-colour.npy", colours)
            np.save(folder / f"{split}-grey.npy", to_grey(colours))
            np.save(folder / f"{split}-labels.npy", np.concatenate([labels for _, labels in part]))


def to_grey(colours: np.ndarray) -> np.ndarray:
    """Return grey pixels as Pillow's ``convert("L")`` rounds them, ITU-R BT.601 luma.

    Args:
        colours: Red, green and blue, (*D, 3), bytes.

    Example:
        >>> to_grey(np.array([[255, 0, 0], [0, 255, 0], [255, 255, 255]], np.uint8)).tolist()
        [76, 150, 255]
    """
    weights = np.array([19595, 38470, 7471], np.uint32)  # 0.299, 0.587 and 0.114 times 2^16
    grey = np.empty(colours.shape[:-1], np.uint8)
    for start in range(0, len(colours), 1000):  # in parts, so that the sums need little memory
        part = slice(start, start + 1000)
        grey[part] = (colours[part] @ weights + 0x8000) >> 16
    return grey
