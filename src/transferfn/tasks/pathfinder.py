"""Pathfinder and Path-X: whether two dots are the ends of one dashed path, read pixel by pixel."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from transferfn.tasks._parallel import for_blocks
from transferfn.tasks._pathfinder_files import read_folder
from transferfn.tasks._published import refuse_unused
from transferfn.tasks.cache import Prepared, prepare
from transferfn.tasks.dataset import LATER, DataError, Signature, Splits
from transferfn.tasks.signals import SignalSequences
from transferfn.tasks.splits import check_seed

_SPLITS = ("train", "validation", "test")
_TRIALS = 100_000


class _Sizes(NamedTuple):
    """How much is drawn."""

    side: int
    """Pixels of a side of the picture."""

    dashes: int
    """Dashes of a long path."""

    distractors: int
    """Most distractors."""

    distractor_dashes: int
    """Dashes of a distractor."""


class _Style(NamedTuple):
    """How pictures of one size are drawn; lengths in pixels."""

    dash: float
    """Length of a dash."""

    least_margin: int
    """Half of the gap between dashes of a path, at least; drawn for each picture."""

    most_margin: int
    """The same at most."""

    thickness: float
    """Thickness of a dash."""

    padding: float
    """Width of the frame that is kept clear."""

    distance: float
    """Between the starts of the two long paths; half of it is the most by which the dots' distance may depend on the
    label."""

    radius: float
    """Of a dot."""

    contrast: float
    """Brightness of long paths."""

    distractor_contrast: float
    """Brightness of distractors."""

    continuity: float
    """How straight paths go."""

    distractor_dashes: int
    """Dashes of all distractors together."""


# As the Long Range Arena lists them in lra_benchmarks/data/pathfinder.py, but for the dashes of 64 x 64 pixels: of its
# dashes, 5 pixels long, 14 hardly ever find room.
_STYLES = {
    32: _Style(2.0, 1, 1, 0.5, 1.0, 7.0, 1.5, 1.5, 2.0, 1.0, 20),
    64: _Style(3.0, 1, 1, 1.0, 1.0, 12.0, 2.5, 0.8, 0.8, 1.8, 22),
    128: _Style(5.0, 2, 3, 1.5, 1.0, 20.0, 3.0, 0.9, 0.9, 1.8, 35),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PathfinderConfig:
    """Pathfinder (32 x 32 pixels) and Path-X (128 x 128): are the two dots the ends of one dashed path?

    Two long paths grow dash by dash from starts near the middle; the next dash turns by an angle d with probability
    proportional to cos^2(continuity d), and keeps clear of all others. Then come distractors, paths of a third of the
    length, as many as find room. One dot lies at the start of a long path, the other at its end (label 1) or at the end
    of the other long path (label 0); both labels are equally frequent. Nothing but the position of the second dot
    depends on the label, and pictures where the two positions differ much in their distance from the first dot are
    drawn again, so that the distance of the dots does not tell the label.

    Raises:
        ValueError: if a number is out of range.

    Source:
        Linsley et al. 2018, Learning long-range spatial dependencies with horizontal gated recurrent units, NeurIPS,
        arXiv:1805.08315; numbers as in Tay et al. 2021, Long Range Arena, ICLR, arXiv:2011.04006.

    Example:
        >>> drawn = scene(PathfinderConfig(), "train", 1)  # odd samples have label 1
        >>> drawn.image.shape, drawn.label
        ((32, 32), 1)
        >>> path, = {int(path) for path, dash in zip(drawn.paths, drawn.dashes) if (dash[0] == drawn.dots[0]).all()}
        >>> bool((drawn.dashes[drawn.paths == path][-1, 1] == drawn.dots[1]).all())
        True
    """

    path: Path | None = None
    """Folder with published pictures, such as ``pathfinder32``; None draws them: the numbers below say how many."""

    side: int = 32
    """Pictures have side x side pixels: 32, 64 or 128."""

    train: int = 160_000
    """Pictures to learn from; even, as are the next two."""

    validation: int = 20_000
    """Pictures that choose the best epoch; 0 for none."""

    test: int = 20_000
    """Pictures of the final figure."""

    contour_length: int = 14
    """Dashes of each long path; published are 6, 9 and 14."""

    distractors: int | None = None
    """Most distractors; None takes the published number, 5 at 32 x 32 pixels."""

    continuity: float | None = None
    """How straight paths go; None takes the published value, 1.0 at 32 x 32 pixels and else 1.8."""

    seed: int = 0
    """Seed of the pictures."""

    published: bool = field(default=True, metadata=LATER)
    """Insist on the published number of pictures in folders, known for paths of 14 dashes alone; False takes what is
    there, such as a part of them."""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.side not in _STYLES:
            raise ValueError(f"data.side must be one of {', '.join(map(str, _STYLES))}, got {self.side}")
        counts = self.train, self.validation, self.test
        if self.train < 2 or self.test < 2 or self.validation < 0 or any(count % 2 for count in counts):
            raise ValueError(
                "data.train, data.validation and data.test must be even, as many of each label, and only "
                f"data.validation may be 0; got train={self.train}, validation={self.validation}, test={self.test}"
            )
        if self.contour_length < 2:
            raise ValueError(f"data.contour_length must be at least 2 dashes, got {self.contour_length}")
        if self.distractors is not None and self.distractors < 0:
            raise ValueError(f"data.distractors must be at least 0, got {self.distractors}")
        if self.continuity is not None and not 0.5 <= self.continuity <= 20:
            raise ValueError(f"data.continuity must lie in 0.5..20, got {self.continuity}")

    @property
    def signature(self) -> Signature:
        """One channel of side x side pixels between -1 (black) and 1, and a class of two."""
        return Signature(length=self.side**2, channels=1, outputs=2)

    def load(self) -> Splits:
        """Draw or read the pictures; they are kept in the cache folder.

        Raises:
            DataError: if a file is missing or damaged, numbers of what is drawn are given beside files, or the paths
                find no room.
        """
        if self.path is None:
            prepared = _drawn(self)
        else:
            refuse_unused(self, ("train", "validation", "test", "distractors", "continuity", "seed"))
            prepared = read_folder(
                self.path, side=self.side, contour_length=self.contour_length, published=self.published
            )
        train, validation, test = (
            SignalSequences(prepared[f"{name}-images"], prepared[f"{name}-labels"], unit=127.5, mean=1.0)
            for name in _SPLITS
        )
        return Splits(train, validation if len(validation) else None, test)


# ---------------------------------------------------------------------------------------------------- drawing


class Scene(NamedTuple):
    """A picture and what is drawn in it."""

    image: NDArray[np.uint8]
    """The picture, (side, side)."""

    label: int
    """Whether the dots are the ends of one path."""

    dashes: NDArray[np.float64]
    """First and last point (x, y) of each dash, (K, 2, 2), in pixels from the middle of the first one."""

    paths: NDArray[np.int64]
    """Which path each dash belongs to, (K,): 0 and 1 are the long ones, the others distractors."""

    dots: NDArray[np.float64]
    """Where the two dots are, (2, 2)."""

    margin: float
    """Half of the gap between dashes of a path."""


def scene(config: PathfinderConfig, split: Literal["train", "validation", "test"], index: int) -> Scene:
    """Draw one picture; a pure function of the configuration's numbers, the split and the index.

    Args:
        config: How pictures are drawn.
        split: Which split.
        index: Number of the picture in the split.

    Raises:
        DataError: if the paths find no room.
    """
    image = np.zeros((1, config.side, config.side), np.uint8)
    dashes, tips = _draw(config, _SPLITS.index(split), index, image)
    dashes = dashes[dashes[:, 4] >= 0]
    points, paths = dashes[:, :4].reshape(-1, 2, 2), dashes[:, 4].astype(np.int64)
    return Scene(image[0], index % 2, points, paths, tips[4:], float(dashes[0, 5]))


def _draw(
    config: PathfinderConfig, split: int, begin: int, images: NDArray[np.uint8]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw pictures from number ``begin`` on into images (N, side, side); return what is left of the last of them."""
    from transferfn.tasks import _pathfinder

    style = _STYLES[config.side]
    continuity = style.continuity if config.continuity is None else config.continuity
    short = max(1, config.contour_length // 3)
    distractors = style.distractor_dashes // short if config.distractors is None else config.distractors
    sizes = _Sizes(config.side, config.contour_length, distractors, short)
    # Rounded, so that the last digit of a machine's cosine does not matter.
    angles = np.deg2rad(np.arange(360))
    compass = np.round(np.stack([np.cos(angles), np.sin(angles)], axis=1) * 2**30) / 2**30
    weights = np.cos(np.minimum(np.abs(np.deg2rad(np.arange(-90, 91))) * continuity, np.pi / 2)) ** 2
    turns = np.round(np.cumsum(weights) / weights.sum() * 2**30) / 2**30
    dashes, tips = np.zeros((2 * config.contour_length + distractors * short, 6)), np.zeros((6, 2))
    failed = _pathfinder.make(
        np.uint64(config.seed),
        np.uint64(split),
        begin,
        begin + len(images),
        sizes,
        style,
        compass,
        turns,
        _TRIALS,
        images,
        dashes,
        tips,
    )
    if failed >= 0:
        raise DataError(
            f"two paths of {config.contour_length} dashes find no room in {config.side} x {config.side} pixels "
            f"({_TRIALS} trials for picture {failed}): lower contour_length or continuity, or raise side"
        )
    return dashes, tips


def _drawn(config: PathfinderConfig) -> Prepared:
    key = {name: number for name, number in asdict(config).items() if name not in ("path", "published")}

    def make(folder: Path) -> None:
        side = config.side
        for split, name in enumerate(_SPLITS):
            count = (config.train, config.validation, config.test)[split]
            path = folder / f"{name}-images.npy"
            if count == 0:
                np.save(path, np.zeros((0, side * side), np.uint8))
            else:
                images = np.lib.format.open_memmap(path, "w+", np.uint8, (count, side * side))

                def work(begin: int, end: int, split: int = split, images: NDArray[np.uint8] = images) -> None:
                    _draw(config, split, begin, np.asarray(images[begin:end]).reshape(-1, side, side))

                for_blocks(count, work, title=f"pathfinder {name}", block=64)
                images.flush()
            np.save(folder / f"{name}-labels.npy", (np.arange(count) % 2).astype(np.uint8))

    return prepare("pathfinder", key, make)
