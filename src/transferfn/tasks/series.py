"""Series: whole multivariate time series, of different lengths, and their class; real data that comes with sktime."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from transferfn.tasks.dataset import DataError, Signature, Splits
from transferfn.tasks.signals import SignalSequences
from transferfn.tasks.splits import check_seed, check_share, hold_out

Problem = Literal["JapaneseVowels", "BasicMotions", "PLAID"]
"""Names in the archive of time series."""


class _Facts(NamedTuple):
    channels: int
    length: int
    classes: int
    train: int
    test: int


_PROBLEMS: dict[Problem, _Facts] = {
    "JapaneseVowels": _Facts(channels=12, length=29, classes=9, train=270, test=370),
    "BasicMotions": _Facts(channels=6, length=100, classes=4, train=40, test=40),
    "PLAID": _Facts(channels=1, length=1344, classes=11, train=537, test=537),
}
_PACKAGES = ("sktime", "aeon")  # both ship the files, at the same place


@dataclass(frozen=True, kw_only=True, slots=True)
class SeriesConfig:
    """Time series classification on small real data.

    ``JapaneseVowels``: nine men say /ae/, which of them is it; 12 coefficients of linear prediction, 7 to 29 steps.
    ``BasicMotions``: accelerometer and gyroscope of a watch, six channels, 100 steps at 10 Hz, four activities.
    ``PLAID``: the electric current of an appliance, one of eleven kinds, a waveform of 100 to 1,344 samples (sktime
    alone ships it). Each channel is scaled to mean 0 and standard deviation 1 on the training series of the archive.

    Source:
        https://www.timeseriesclassification.com; Kudo et al. 1999 (JapaneseVowels); Gao et al. 2014 (PLAID).

    Example:
        >>> SeriesConfig(problem="JapaneseVowels").signature
        Signature(length=29, outputs=9, target='class', channels=12, vocabulary=None)
        >>> batch = SeriesConfig().load().train.gather([0, 1])  # doctest: +SKIP
        >>> batch.inputs.shape, batch.lengths  # doctest: +SKIP
        (torch.Size([2, 26, 12]), tensor([26, 20]))
    """

    problem: Problem = "JapaneseVowels"
    """Which data."""

    path: Path | None = None
    """Folder with NAME_TRAIN.ts and NAME_TEST.ts; None takes those that come with sktime or aeon."""

    validation: float = 0.1
    """Share of the training series, as many of each class, held out to choose the best epoch; 0 to 0.5."""

    seed: int = 0
    """Seed of the split."""

    def __post_init__(self) -> None:
        if self.problem not in get_args(Problem):
            raise ValueError(f"data.problem must be one of {', '.join(get_args(Problem))}; got {self.problem!r}")
        check_share(self.validation, "training series")
        check_seed(self.seed)

    @property
    def signature(self) -> Signature:
        """Channels of the series, and its classes."""
        facts = _PROBLEMS[self.problem]
        return Signature(length=facts.length, channels=facts.channels, outputs=facts.classes)

    def load(self) -> Splits:
        """Read the series and split them.

        Raises:
            DataError: if a file is missing, damaged or not what it should be, or a class has too few series.
        """
        facts = _PROBLEMS[self.problem]
        folder = _find(self.path, self.problem)
        (train, train_labels), (test, test_labels) = (
            read_ts(folder / f"{self.problem}_{split}.ts", channels=facts.channels) for split in ("TRAIN", "TEST")
        )
        for split, found, expected in (("TRAIN", len(train), facts.train), ("TEST", len(test), facts.test)):
            if found != expected:
                raise DataError(
                    f"{folder / f'{self.problem}_{split}.ts'} holds {found} series, published are {expected}: take the "
                    "published file"
                )
        names = sorted(set(train_labels))
        if unknown := set(test_labels) - set(names):
            raise DataError(f"{folder / f'{self.problem}_TEST.ts'} holds the class {min(unknown)}, no training series")
        together = np.concatenate(train)
        mean, std = together.mean(axis=0), together.std(axis=0)
        values, lengths = _pad([*train, *test])
        labels = np.asarray([names.index(name) for name in (*train_labels, *test_labels)], np.int64)

        def series(rows: NDArray[np.int64]) -> SignalSequences:
            return SignalSequences(values, labels, rows=rows, lengths=lengths, mean=mean, std=std)

        kept, held = hold_out(
            labels[: len(train)], self.validation, classes=len(names), seed=self.seed, of="training series"
        )
        test_rows = np.arange(len(train), len(labels))
        return Splits(series(kept), None if held is None else series(held), series(test_rows))


def read_ts(path: Path, *, channels: int) -> tuple[list[NDArray[np.float64]], list[str]]:
    """Read a file of the time series archive: one series a line, channels parted by colons, its class last.

    Args:
        path: The file, with lines that begin with ``#`` or ``@`` before the data.
        channels: How many channels each series must have.

    Returns:
        The series, each (L, D), and the names of their classes.

    Raises:
        DataError: if the file is missing, damaged or has other channels.
    """
    try:
        head, mark, body = path.read_text(encoding="utf-8").lower().partition("@data")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if not mark:
        raise DataError(f"{path} has no line @data: expected a .ts file of https://www.timeseriesclassification.com")
    if "@timestamps true" in head:
        raise DataError(f"{path} holds series with time stamps, expected evenly sampled ones")
    series, labels = [], []
    for number, line in enumerate(body.strip().splitlines(), start=1):
        *parts, label = line.strip().split(":")
        try:
            columns = [np.array(part.split(","), np.float64) for part in parts]
        except ValueError as error:
            raise DataError(f"{path}, series {number}: {error}") from None
        lengths = sorted({len(column) for column in columns})
        if len(parts) != channels or len(lengths) != 1:
            raise DataError(
                f"{path}, series {number} has {len(parts)} channels of {' or '.join(map(str, lengths)) or 'no'} "
                f"samples, expected {channels} of the same length, then the class"
            )
        series.append(np.stack(columns, axis=1))
        if not np.isfinite(series[-1]).all():
            raise DataError(f"{path}, series {number} has missing samples")
        labels.append(label.strip())
    if not series:
        raise DataError(f"{path} holds no series")
    return series, labels


def _find(path: Path | None, problem: Problem) -> Path:
    files = " and ".join(f"{problem}_{split}.ts" for split in ("TRAIN", "TEST"))
    expected = (
        f"expected {files}, from https://www.timeseriesclassification.com/description.php?Dataset={problem}; they come "
        "with sktime: pip install sktime"
    )
    if path is not None:
        for folder in (path, path / problem):
            if (folder / f"{problem}_TRAIN.ts").is_file():
                return folder
        raise DataError(f"{path} {'holds no ' + problem if path.exists() else 'is missing'}: {expected}")
    for package in _PACKAGES:
        # Found without an import, which takes seconds and is not needed.
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            folder = Path(place) / "datasets" / "data" / problem
            if (folder / f"{problem}_TRAIN.ts").is_file():
                return folder
    raise DataError(f"{problem} is not here; name where it is with --data.path, or install sktime: {expected}")


def _pad(series: list[NDArray[np.float64]]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    lengths = np.asarray([len(one) for one in series], np.int64)
    values = np.zeros((len(series), lengths.max(), series[0].shape[1]), np.float32)
    for row, one in zip(values, series, strict=True):
        row[: len(one)] = one
    return values, lengths
