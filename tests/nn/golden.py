"""The numbers of the official implementations, case by case; see tests/golden/README.md."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

GOLDEN = Path(__file__).parents[1] / "golden"
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-4}  # of tests/golden/README.md


@cache
def cases(name: str) -> dict[str, dict[str, Tensor]]:
    """Arrays of every case of a file."""
    found: dict[str, dict[str, Tensor]] = {}
    with np.load(GOLDEN / f"{name}.npz") as file:
        for case in file["cases"]:
            prefix = f"{case}/"
            found[str(case)] = {
                k.removeprefix(prefix): torch.from_numpy(file[k]) for k in file.files if k.startswith(prefix)
            }
    return found


def pairs(z: Tensor) -> Tensor:
    """Complex numbers as parameters hold them."""
    return torch.view_as_real(z.resolve_conj())
