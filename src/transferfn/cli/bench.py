"""What `transferfn bench` can measure, and with which options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transferfn.cli.usage import require


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """Time and memory of one layer beside RTF as published and beside the floor; 15 minutes."""

    out: Path = Path("results") / "layer"
    """Where the figures go: with .json, .md and, of the pictures, -*.png at its end."""

    quick: bool = False
    """Whether one shape and three orders are enough; a minute."""

    seconds: float = 0.5
    """How long to measure each cell, forward and training."""

    retain: bool = False
    """Whether freed memory is kept by the allocator, which spares all sides the page faults."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Numerics:
    """How accurate each path is, against 60 digits; half a minute, needs mpmath."""

    out: Path = Path("results") / "numerics.json"
    """File for the figures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Constraints:
    """What each way to keep filters stable costs; 7 minutes."""

    out: Path = Path("results") / "constraints.json"
    """File for the figures."""

    quick: bool = False
    """Whether order 8 and a handful of steps are enough; figures of training then mean little."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibrate:
    """Measure what each way to filter costs on this machine, so that method="auto" chooses well here; 3 minutes."""

    seconds: float = 0.15
    """How long to measure each of some 180 cells."""

    save: bool = True
    """Whether all programs to come use what was measured; else it is only shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Peers:
    """Time of a layer beside S4D, S5 and attention over the order, time and memory over the length; 5 minutes."""

    out: Path = Path("results") / "peers"
    """Where the figures go: with .json, .md and, of the pictures, -*.png at its end."""

    seconds: float = 1.0
    """How long to measure each order and each length."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lfilter:
    """Time of lfilter and sosfilt beside scipy's, over channels, orders and sections; a minute."""

    out: Path = Path("results") / "lfilter"
    """Where the figures go: with .json and .md at its end."""

    seconds: float = 0.5
    """How long to measure each cell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixers:
    """Costs of all layers of the library at equal width, over the state size and over the length; 6 minutes."""

    out: Path = Path("results") / "mixers"
    """Where the figures go: with .json, .md and, of the pictures, -*.png at its end."""

    seconds: float = 2.0
    """How long to measure all layers at a shape, forward, in training and in prefill each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Realizations:
    """What each form of a filter loses over a million samples; a minute."""

    out: Path = Path("results") / "realizations"
    """Where the figures go: with .json, .md and .png at its end."""

    quick: bool = False
    """Whether ten thousand samples are enough; some seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Identification:
    """Systems identified from records, beside what is installed of ARX, ERA, N4SID and FROLS; some minutes."""

    out: Path = Path("results") / "identification"
    """Where the figures go: with .json, .md and .png at its end."""

    quick: bool = False
    """Whether one seed is enough; a minute."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """Decoding beside the Mamba and GPT-2 of transformers over the context; 11 minutes; the same command continues."""

    out: Path = Path("results") / "generation"
    """Where the figures go: with .json, .md and .png at its end."""

    quick: bool = False
    """Whether tiny models and two contexts are enough."""

    overwrite: bool = False
    """Whether what was measured before is measured anew."""


BENCHMARKS: dict[str, type] = {
    "layer": Layer,
    "peers": Peers,
    "mixers": Mixers,
    "lfilter": Lfilter,
    "numerics": Numerics,
    "constraints": Constraints,
    "realizations": Realizations,
    "identification": Identification,
    "generation": Generation,
    "calibrate": Calibrate,
}
"""What can be measured, by the names that the command line has for it."""


def bench(asked: Any) -> None:
    """Measure and print.

    Args:
        asked: What, and with which options.

    Raises:
        UsageError: if a package is missing that it needs.
    """
    match asked:
        case Layer():
            require("matplotlib", extra="plots")
            from transferfn.bench import layer

            layer.report(out=asked.out, quick=asked.quick, seconds=asked.seconds, retain=asked.retain)
        case Peers():
            require("matplotlib", extra="plots")
            from transferfn.bench import peers

            peers.report(out=asked.out, seconds=asked.seconds)
        case Mixers():
            require("matplotlib", extra="plots")
            from transferfn.bench import mixers

            mixers.report(out=asked.out, seconds=asked.seconds)
        case Lfilter():
            from transferfn.bench import lfilter

            lfilter.report(out=asked.out, seconds=asked.seconds)
        case Numerics():
            require("mpmath", extra="dev")
            from transferfn.bench import numerics

            numerics.report(out=asked.out)
        case Constraints():
            require("mlxtend", extra="train")
            from transferfn.bench import constraints

            constraints.report(out=asked.out, quick=asked.quick)
        case Realizations():
            require("matplotlib", extra="plots")
            from transferfn.bench import realizations

            realizations.report(quick=asked.quick, out=asked.out)
        case Identification():
            require("matplotlib", extra="plots")
            from transferfn.bench import identification

            identification.report(out=asked.out, quick=asked.quick)
        case Generation():
            require("matplotlib", extra="plots")
            require("transformers", extra="lm")
            from transferfn.bench import generation

            generation.report(out=asked.out, quick=asked.quick, overwrite=asked.overwrite)
        case Calibrate():
            from transferfn.bench import calibrate

            calibrate.report(seconds=asked.seconds, save=asked.save)
