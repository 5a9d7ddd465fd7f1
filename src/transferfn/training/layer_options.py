"""Where state-space layers start, and how they are discretized: what the layers offer to a model's configuration."""

from __future__ import annotations

from dataclasses import dataclass

from transferfn.core.discretize import Discretization
from transferfn.core.hippo import Measure, S4DInit
from transferfn.nn.s5 import OutputInit


@dataclass(frozen=True, kw_only=True, slots=True)
class S4Options:
    """Options of S4, for --mixer s4 alone."""

    measure: tuple[Measure, ...] = ("legs",)
    """HiPPO measures that the copies of the state matrix start from, in turn."""

    dt_min: float = 1e-3
    """Least initial step size; steps are log-uniform between the two."""

    dt_max: float = 0.1
    """Largest initial step size."""

    groups: int | None = None
    """Copies of the state matrix, n_ssm in the official code; None gives every channel its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class S4DOptions:
    """Options of S4D, for --mixer s4d alone."""

    init: S4DInit = "lin"
    """Which eigenvalues the state matrix starts with."""

    discretization: Discretization = "zoh"
    """How continuous time becomes discrete."""

    dt_min: float = 1e-3
    """Least initial step size; steps are log-uniform between the two."""

    dt_max: float = 0.1
    """Largest initial step size."""

    groups: int | None = None
    """Copies of the state matrix, n_ssm in the official code; None gives every channel its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class S5Options:
    """Options of S5, for --mixer s5 alone."""

    blocks: int = 1
    """Equal HiPPO blocks that the state matrix starts as; they must divide the order."""

    discretization: Discretization = "zoh"
    """How continuous time becomes discrete."""

    output_init: OutputInit = "truncated_normal"
    """How the output matrix is drawn."""

    dt_min: float = 1e-3
    """Least initial step size; steps are log-uniform between the two."""

    dt_max: float = 0.1
    """Largest initial step size."""

    clip_eigenvalues: bool = False
    """Whether the layer is kept stable wherever training leads."""
