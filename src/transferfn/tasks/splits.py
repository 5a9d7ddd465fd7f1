"""Parts of a data set that are held out, as many of each class, drawn at random; what seeds and shares may be."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferfn.tasks.dataset import DataError


def split_by_class(
    labels: NDArray[Any], per_class: int, *, seed: int, of: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hold out the same number of each class, drawn at random.

    Args:
        labels: Classes, (N,).
        per_class: How many of each class are held out.
        seed: Seed of the draw.
        of: What is held out, a plural such as "images", for the error.

    Returns:
        Indices of those kept and of those held out, each ascending.

    Raises:
        DataError: if a class would have none left.

    Example:
        >>> kept, held = split_by_class(np.array([0, 1, 0, 1, 1]), 1, seed=0, of="images")
        >>> kept.tolist(), held.tolist()
        ([2, 3, 4], [0, 1])
    """
    # A bit generator's raw stream is frozen for all versions of numpy, unlike Generator.permutation.
    draw = np.random.Philox(key=seed).random_raw(len(labels))
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) <= per_class:
            raise DataError(f"class {label} has {len(members)} {of}, too few to hold out {per_class} of them")
        held[members[np.argsort(draw[members], kind="stable")[:per_class]]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def hold_out(
    labels: NDArray[Any], share: float, *, classes: int, seed: int, of: str
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Hold out a share to choose the best epoch by, as many of each class; none only if none was asked for.

    Args:
        labels: Classes, (N,).
        share: Share held out, rounded to a whole number of each class.
        classes: Number of classes.
        seed: Seed of the draw.
        of: What is held out, a plural such as "images", for the error.

    Returns:
        Indices of those kept and of those held out, each ascending; None instead of the latter if the share is 0.

    Raises:
        DataError: if the share comes to none of each class, or a class would have none left.
    """
    if share == 0:
        return np.arange(len(labels)), None
    per_class = round(share * len(labels) / classes)
    if per_class < 1:
        raise DataError(
            f"holding out {share:g} of {len(labels)} {of} leaves none of each of the {classes} classes for validation: "
            f"raise data.validation, give more {of}, or set data.validation to 0"
        )
    return split_by_class(labels, per_class, seed=seed, of=of)


def check_seed(seed: int) -> None:
    """Refuse seeds that the generators do not take.

    Args:
        seed: The field ``seed`` of a task's configuration.

    Raises:
        ValueError: if it is out of range.
    """
    if not 0 <= seed < 2**63:
        raise ValueError(f"data.seed must lie in 0..2^63 - 1, got {seed}")


def check_share(share: float, of: str) -> None:
    """Refuse shares that leave less to learn from than to choose the best epoch by.

    Args:
        share: The field ``validation`` of a task's configuration.
        of: What is held out, a plural such as "images", for the error.

    Raises:
        ValueError: if it is out of range.
    """
    if not 0 <= share <= 0.5:
        raise ValueError(f"data.validation must lie in 0..0.5, the share of {of} held out; got {share}")
