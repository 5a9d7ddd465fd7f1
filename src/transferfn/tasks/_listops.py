"""Expressions of nested operations on digits, made and evaluated in compiled loops. Imported on first use."""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit

from transferfn.tasks._splitmix import below, start, uniform

# Tokens; 0 is padding.
DIGIT, OPERATOR, CLOSE = 1, 11, 15
_MIN, _MAX, _MED = 11, 12, 13  # and 14, the sum modulo 10

_OPERATION = 0.25
"""Probability that a node is an operation and not a digit, unless it is as deep as nodes may be."""


@njit(cache=True, nogil=True)
@no_type_check
def make(seed, split, indices, draw, depth, arguments, shorter, longer, trials, tokens, lengths, labels):
    """Draw an expression of shorter < tokens < longer for each of the indices; length 0 if none is found.

    Args:
        seed: Seed of all samples, a 64-bit unsigned integer.
        split: Number of the split, likewise.
        indices: Numbers of the samples in the split, (N,), likewise.
        draw: Number of the draw, likewise: more than 0 for samples drawn anew.
        depth: Deepest level of nodes; the outermost is 1.
        arguments: Most arguments of an operation.
        shorter: Expressions have more tokens than that.
        longer: Expressions have fewer tokens than that.
        trials: Most expressions tried for a sample.
        tokens: Where to write the tokens, (N, longer).
        lengths: Where to write their number, (N,).
        labels: Where to write the values, (N,).
    """
    state = np.zeros(1, np.uint64)
    digits = np.zeros((depth + 1, arguments), np.int64)
    counts, wanted, operators = (
        np.zeros(depth + 1, np.int64),
        np.zeros(depth + 1, np.int64),
        np.zeros(depth + 1, np.int64),
    )
    for row in range(len(indices)):
        start(state, seed, split, indices[row], draw)
        lengths[row] = 0
        for _ in range(trials):
            length, value = _expression(
                state, depth, arguments, longer, tokens[row], digits, counts, wanted, operators
            )  # fmt: skip
            if shorter < length < longer:
                lengths[row], labels[row] = length, value
                break


@njit(cache=True)
@no_type_check
def _expression(state, depth, arguments, longer, tokens, digits, counts, wanted, operators):
    """Draw one expression and return its number of tokens and its value; give up once it is too long."""
    length, level, open_ones = 0, 1, 0
    while True:
        if level < depth and uniform(state) < _OPERATION:
            if length >= longer:
                return longer, -1
            wanted[level], counts[level] = 2 + below(state, arguments - 1), 0
            operators[level] = OPERATOR + below(state, 4)
            tokens[length] = operators[level]
            length, open_ones, level = length + 1, open_ones + 1, level + 1
            if length + open_ones + wanted[level - 1] >= longer:
                return longer, -1
            continue
        value = below(state, 10)
        if length >= longer:
            return longer, -1
        tokens[length] = DIGIT + value
        length += 1
        while level > 1:
            level -= 1
            digits[level, counts[level]] = value
            counts[level] += 1
            if counts[level] < wanted[level]:
                level += 1
                break
            if length >= longer:
                return longer, -1
            tokens[length] = CLOSE
            length, open_ones = length + 1, open_ones - 1
            value = _apply(operators[level], digits[level, : counts[level]])
        if level == 1:
            return length, value


@njit(cache=True)
@no_type_check
def _apply(operator, digits):
    if operator == _MIN:
        return digits.min()
    if operator == _MAX:
        return digits.max()
    if operator == _MED:  # of an even number the mean of the middle two, rounded down
        ordered = np.sort(digits)
        return (ordered[(len(digits) - 1) // 2] + ordered[len(digits) // 2]) // 2
    return digits.sum() % 10


@njit(cache=True, nogil=True)
@no_type_check
def evaluate(tokens):
    """Return the value of an expression, (L,) tokens, or -1 if it is none."""
    n = len(tokens)
    digits = np.zeros(n, np.int64)
    begins, operators = np.zeros(n, np.int64), np.zeros(n, np.int64)
    count, level = 0, 0
    for i in range(n):
        token = tokens[i]
        if i and level == 0:  # it ended before
            return -1
        if DIGIT <= token < OPERATOR:
            digits[count] = token - DIGIT
            count += 1
        elif OPERATOR <= token < CLOSE:
            begins[level], operators[level] = count, token
            level += 1
        elif token == CLOSE:
            level -= 1
            if count == begins[level]:
                return -1
            digits[begins[level]] = _apply(operators[level], digits[begins[level] : count])
            count = begins[level] + 1
        else:
            return -1
    return digits[0] if level == 0 and count == 1 else -1
