"""Dashed paths that keep clear of each other, and their picture, in compiled loops. Imported on first use.

Points are (x, y) in pixels, the middle of the first pixel is (0, 0). Directions are whole degrees, whose cosines and
sines come from a table, so that every machine draws the same.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit

from transferfn.tasks._splitmix import below, start, uniform

_TURNS = 100
"""Directions tried for a dash."""

_PLACES = 200
"""Places tried for the first dash of a distractor."""

_RETRIALS = 5
"""Times that a distractor is begun."""


@njit(cache=True, nogil=True)
@no_type_check
def make(seed, split, begin, end, sizes, pen, compass, turns, trials, images, dashes, tips):
    """Draw pictures begin..end-1 into images (N, side, side), bytes; return the first that could not be, or -1.

    The label of a picture is its number modulo 2. Those of ``dashes`` and ``tips`` are left of the last picture.

    Args:
        seed: Seed of all pictures, a 64-bit unsigned integer.
        split: Number of the split, likewise.
        begin: First picture.
        end: Picture after the last.
        sizes: How much is drawn, ``pathfinder._Sizes``.
        pen: How it is drawn, ``pathfinder._Style``.
        compass: Cosine and sine of each whole degree, (360, 2).
        turns: Probabilities of turns by -90, -89, ... 90 degrees, summed up, (181,).
        trials: Most scenes tried for a picture.
        images: Where to draw.
        dashes: Ends x0, y0, x1, y1 of dashes, the number of their path and their margin, (K, 6); first the long paths'.
        tips: First and last point of each of the two long paths, then of the two dots, (6, 2).
    """
    state = np.zeros(1, np.uint64)
    for index in range(begin, end):
        start(state, seed, split, np.uint64(index), np.uint64(0))
        count = 0
        for _ in range(trials):
            margin = np.float64(pen.least_margin + below(state, pen.most_margin - pen.least_margin + 1))
            count = _long_paths(state, sizes, pen, margin, compass, turns, dashes, tips)
            if count and _place_dots(state, index % 2, pen.distance / 2, tips):
                break
            count = 0
        if count == 0:
            return index
        for path in range(sizes.distractors):
            for _ in range(_RETRIALS):
                more = _distractor(state, count, path + 2, sizes, pen, margin, compass, turns, dashes)
                if more:
                    count += more
                    break
        dashes[count:, 4] = -1
        _draw(images[index - begin], dashes[:count], tips, pen)
    return -1


@njit(cache=True)
@no_type_check
def _long_paths(state, sizes, pen, margin, compass, turns, dashes, tips):
    """Draw two long paths dash by dash, in turns; return the number of dashes, 0 if one has no way to go."""
    side, length, distance = sizes.side, sizes.dashes, pen.distance
    low, high = 2 * distance, side - 1 - 2 * distance
    direction = np.zeros(2, np.int64)
    for path in range(2):
        if path == 0:
            x, y = low + uniform(state) * (high - low), low + uniform(state) * (high - low)
        else:
            around = below(state, 360)
            x, y = tips[0, 0] + distance * compass[around, 0], tips[0, 1] + distance * compass[around, 1]
        direction[path] = below(state, 360)
        cos, sin = compass[direction[path], 0], compass[direction[path], 1]
        if not _dash(x - margin * cos, y - margin * sin, cos, sin, path, path, path, side, pen, margin, dashes):
            return 0
        tips[2 * path, 0], tips[2 * path, 1] = dashes[path, 0], dashes[path, 1]
    for i in range(2, 2 * length):
        path = i % 2
        direction[path] = _extend(state, i - 2, i, path, direction[path], side, pen, margin, compass, turns, dashes)
        if direction[path] < 0:
            return 0
        if i >= 2 * length - 2:
            tips[2 * path + 1, 0], tips[2 * path + 1, 1] = dashes[i, 2], dashes[i, 3]
    return 2 * length


@njit(cache=True)
@no_type_check
def _distractor(state, count, path, sizes, pen, margin, compass, turns, dashes):
    """Draw a distractor after ``count`` dashes; return its number of dashes, 0 if it has no way to go."""
    side, length = sizes.side, sizes.distractor_dashes
    direction = -1
    for _ in range(_PLACES):
        way = below(state, 360)
        x, y = uniform(state) * side, uniform(state) * side
        if _dash(x, y, compass[way, 0], compass[way, 1], count, count, path, side, pen, margin, dashes):
            direction = way
            break
    for i in range(count + 1, count + length):
        if direction >= 0:
            direction = _extend(state, i - 1, i, path, direction, side, pen, margin, compass, turns, dashes)
    return length if direction >= 0 else 0


@njit(cache=True)
@no_type_check
def _extend(state, last, i, path, direction, side, pen, margin, compass, turns, dashes):
    """Put dash i after dash ``last`` of the same path; return its direction, -1 if there is no way to go."""
    x = dashes[last, 2] + margin * compass[direction, 0]
    y = dashes[last, 3] + margin * compass[direction, 1]
    for _ in range(_TURNS):
        way = (direction - 90 + np.searchsorted(turns, uniform(state), side="right")) % 360
        if _dash(x, y, compass[way, 0], compass[way, 1], i, last, path, side, pen, margin, dashes):
            return way
    return -1


@njit(cache=True)
@no_type_check
def _dash(x, y, cos, sin, i, last, path, side, pen, margin, dashes):
    """Put dash i a margin ahead of (x, y) if it lies in the picture and clear of all before it but ``last``."""
    length = pen.dash
    x0, y0 = x + margin * cos, y + margin * sin
    x1, y1 = x0 + length * cos, y0 + length * sin
    low, high = pen.padding + margin - 0.5, side - 0.5 - pen.padding - margin
    if min(x0, y0, x1, y1) < low or max(x0, y0, x1, y1) > high:
        return False
    clear = 2 * margin + pen.thickness - 0.5
    for j in range(i):
        if j == last:
            continue
        a0, b0, a1, b1 = dashes[j, 0], dashes[j, 1], dashes[j, 2], dashes[j, 3]
        far = 2 * (clear + length)
        if abs(a0 + a1 - x0 - x1) > far or abs(b0 + b1 - y0 - y1) > far:
            continue
        # Dashes are no longer than 2 clear: where two cross, an end is near enough to be found.
        if (
            _near(x0, y0, a0, b0, a1, b1, clear)
            or _near(x1, y1, a0, b0, a1, b1, clear)
            or _near(a0, b0, x0, y0, x1, y1, clear)
            or _near(a1, b1, x0, y0, x1, y1, clear)
        ):
            return False
    dashes[i, 0], dashes[i, 1], dashes[i, 2], dashes[i, 3], dashes[i, 4] = x0, y0, x1, y1, path
    dashes[i, 5] = margin
    return True


@njit(cache=True)
@no_type_check
def _near(x, y, x0, y0, x1, y1, clear):
    """Say whether a point is less than ``clear`` from a dash."""
    along = ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2)
    along = min(max(along, 0.0), 1.0)
    return (x - x0 - along * (x1 - x0)) ** 2 + (y - y0 - along * (y1 - y0)) ** 2 < clear**2


@njit(cache=True)
@no_type_check
def _place_dots(state, label, leeway, tips):
    """Put a dot at the start of a long path and one at the end of the same (label 1) or of the other (label 0).

    False if that would change their distance by more than ``leeway``.
    """
    path = below(state, 2)
    origin, same, other = tips[2 * path], tips[2 * path + 1], tips[3 - 2 * path]
    one = np.sqrt((origin[0] - same[0]) ** 2 + (origin[1] - same[1]) ** 2)
    two = np.sqrt((origin[0] - other[0]) ** 2 + (origin[1] - other[1]) ** 2)
    if abs(one - two) > leeway:
        return False
    tips[4] = origin
    tips[5] = same if label else other
    return True


@njit(cache=True)
@no_type_check
def _draw(image, dashes, tips, pen):
    """Draw dashes and dots; what lies on each other is as bright as the brightest."""
    side = len(image)
    length, thickness, radius = pen.dash, pen.thickness, pen.radius
    image[:] = 0
    reach = thickness + 2
    for i in range(len(dashes)):
        x0, y0, x1, y1 = dashes[i, 0], dashes[i, 1], dashes[i, 2], dashes[i, 3]
        cos, sin = (x1 - x0) / length, (y1 - y0) / length
        contrast = pen.contrast if dashes[i, 4] < 2 else pen.distractor_contrast
        for row in range(max(0, int(min(y0, y1) - reach)), min(side, int(max(y0, y1) + reach) + 1)):
            for column in range(max(0, int(min(x0, x1) - reach)), min(side, int(max(x0, x1) + reach) + 1)):
                along = (column - x0) * cos + (row - y0) * sin
                across = (row - y0) * cos - (column - x0) * sin
                # A quarter of a pixel longer at both ends: the published dashes end in pixels drawn at double size.
                cover = min(along + 0.5, length + 0.25) - max(along - 0.5, -0.25)
                wide = min(across + 0.5, thickness / 2) - max(across - 0.5, -thickness / 2)
                if cover > 0 and wide > 0:
                    _brighten(image, row, column, cover * wide * contrast)
    for dot in range(4, 6):
        x, y = tips[dot]
        for row in range(max(0, int(y - radius - 1)), min(side, int(y + radius + 1) + 1)):
            for column in range(max(0, int(x - radius - 1)), min(side, int(x + radius + 1) + 1)):
                _brighten(image, row, column, radius + 0.5 - np.sqrt((column - x) ** 2 + (row - y) ** 2))


@njit(cache=True)
@no_type_check
def _brighten(image, row, column, light):
    image[row, column] = max(np.int64(image[row, column]), np.int64(255 * min(max(light, 0.0), 1.0) + 0.5))
