"""Digits: 1,797 handwritten digits of 8 x 8 pixels, read pixel by pixel, that come with scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transferfn.tasks.dataset import DataError, Signature, Splits
from transferfn.tasks.signals import SignalSequences, fixed_permutation
from transferfn.tasks.splits import check_seed, check_share, hold_out, split_by_class

SIDE = 8
CLASSES = 10
_COUNT, _TEST_PER_CLASS = 1797, 36
_WHITE = 16.0
# Mean and standard deviation of all pixels, for pixels in 0..1.
_MEAN, _STD = 0.3053, 0.3760


@dataclass(frozen=True, kw_only=True, slots=True)
class DigitsConfig:
    """The small digits of scikit-learn: 360 to test on, 36 of each class, the others to learn from.

    Source:
        Alpaydin and Kaynak 1998, UCI Machine Learning Repository, doi:10.24432/C50P49 (its test images).

    Example:
        >>> train, validation, test = DigitsConfig().load()
        >>> len(train), len(validation), len(test)
        (1297, 140, 360)
        >>> train.gather([0, 1]).inputs.shape
        torch.Size([2, 64, 1])
    """

    permuted: bool = False
    """Read the pixels in a fixed random order, the same for all images."""

    validation: float = 0.1
    """Share of the training images, as many of each class, held out to choose the best epoch; 0 to 0.5."""

    seed: int = 0
    """Seed of the split."""

    def __post_init__(self) -> None:
        check_share(self.validation, "training images")
        check_seed(self.seed)

    @property
    def signature(self) -> Signature:
        """One channel of 64 pixels, and a class of ten."""
        return Signature(length=SIDE**2, channels=1, outputs=CLASSES)

    def load(self) -> Splits:
        """Read the images and split them.

        Raises:
            DataError: if scikit-learn is not installed or holds other images, or too few are to be held out.
        """
        try:
            from sklearn.datasets import load_digits
        except ModuleNotFoundError as error:
            raise DataError(
                f"the digits come with scikit-learn, but {error.name} is not installed: pip install 'transferfn[train]'"
            ) from None
        images, classes = map(np.asarray, load_digits(return_X_y=True))
        if images.shape != (_COUNT, SIDE**2):
            raise DataError(f"scikit-learn holds {len(images)} digits, this task is defined on {_COUNT}")
        values, labels = images.astype(np.uint8), classes.astype(np.int64)

        def digits(rows: np.ndarray) -> SignalSequences:
            order = fixed_permutation(SIDE**2) if self.permuted else None
            return SignalSequences(values, labels, rows=rows, unit=_WHITE, mean=_MEAN, std=_STD, order=order)

        train, test = split_by_class(labels, _TEST_PER_CLASS, seed=self.seed, of="images")
        kept, held = hold_out(labels[train], self.validation, classes=CLASSES, seed=self.seed + 1, of="training images")
        return Splits(digits(train[kept]), None if held is None else digits(train[held]), digits(test))
