"""Choosing a few rows of many options so that any two options meet."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any


def pairwise(*options: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Rows, one value of each option, such that any two values of two options occur together in some row.

    >>> len(pairwise((1, 2, 3), "ab", "cd", "ef"))  # of 24
    6
    """
    rows = _covering(tuple(len(values) for values in options))
    return [tuple(values[k] for values, k in zip(options, row, strict=True)) for row in rows]


@cache
def _covering(sizes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Take the row that brings most new pairs, as long as there are any."""
    product = list(itertools.product(*map(range, sizes)))
    missing = set().union(*map(_pairs, product))
    rows = []
    while missing:
        rows.append(max(product, key=lambda row: len(_pairs(row) & missing)))
        missing -= _pairs(rows[-1])
    return rows


@cache
def _pairs(row: tuple[int, ...]) -> frozenset[Any]:
    return frozenset(itertools.combinations(enumerate(row), 2))
