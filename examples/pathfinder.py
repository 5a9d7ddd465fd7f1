"""For those who doubt generated data: Pathfinder pictures of all sizes on one sheet, joined and not, with their paths.

python examples/pathfinder.py results/pathfinder-sheet.png
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from transferfn.analysis.plots import COLOURS
from transferfn.tasks import PathfinderConfig
from transferfn.tasks.pathfinder import Scene, scene

SIDES = (32, 64, 128)
SCENES = 20  # of each size, of which the first four are drawn; even ones are not joined, odd ones are


def show(ax: Axes, drawn: Scene) -> None:
    """The picture as a model reads it."""
    ax.imshow(drawn.image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set_axis_off()


def explain(ax: Axes, drawn: Scene) -> None:
    """The same scene: the long paths in two colours, distractors grey, the dots as rings."""
    side = len(drawn.image)
    colours = [COLOURS[path] if path < 2 else "0.7" for path in drawn.paths]
    ax.add_collection(LineCollection(list(drawn.dashes), colors=colours, linewidths=1.2))
    ax.plot(*np.transpose(drawn.dots), "o", markersize=6, markerfacecolor="none", color="black")
    ax.set(xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5), aspect="equal", xticks=[], yticks=[])


def sheet(rows: Sequence[list[Scene]]) -> Figure:
    """A row a size: two scenes that are not joined and two that are, the second of each with its paths beside."""
    figure = Figure(figsize=(9.0, 1.55 * len(rows) + 0.2), layout="constrained")
    axes = figure.subplots(len(rows), 6)
    for line, scenes in zip(axes, rows, strict=True):
        for begin, number in ((0, 0), (3, 1)):
            show(line[begin], scenes[number])
            show(line[begin + 1], scenes[number + 2])
            explain(line[begin + 2], scenes[number + 2])
        line[0].set_title(f"{len(scenes[0].image)} pixels, not joined", fontsize=8, loc="left")
        line[3].set_title("joined", fontsize=8, loc="left")
    return figure


def main() -> None:
    """Draw scenes of each size, tell what is in them, and put the first on a sheet where the caller says."""
    rows = [[scene(PathfinderConfig(side=side), "train", number) for number in range(SCENES)] for side in SIDES]
    for side, scenes in zip(SIDES, rows, strict=True):
        dashes = np.mean([len(drawn.dashes) for drawn in scenes])
        distractors = [len(set(drawn.paths.tolist())) - 2 for drawn in scenes]
        apart = [
            np.mean([np.linalg.norm(drawn.dots[0] - drawn.dots[1]) for drawn in scenes[label::2]]) for label in (0, 1)
        ]
        print(
            f"{side} x {side}: {dashes:.0f} dashes, {min(distractors)} to {max(distractors)} distractors; dots "
            f"{apart[0]:.1f} pixels apart where not joined, {apart[1]:.1f} where joined"
        )
    print(f"{SCENES} scenes of each size; even ones are not joined, odd ones are")
    if len(sys.argv) > 1:
        sheet(rows).savefig(sys.argv[1], dpi=150)


if __name__ == "__main__":
    main()
