from __future__ import annotations

import numpy as np
import pytest

from transferfn.analysis.stable_part import joined, stable_part
from transferfn.interop.arrays import from_ba


@pytest.mark.parametrize("poles", [[1.0, 0.9999, 0.5], [1.0, 0.999, 0.99, 0.3], [1.05, 0.9, 0.9, 0.9, 0.2]], ids=str)
def test_the_parts_add_up(poles: list[float]) -> None:
    h = from_ba([0, 1.0], np.poly(poles))
    stable, rest = stable_part(h)
    assert (stable.order, rest.order) == (len(poles) - 1, 1)
    truth = h.impulse_response(500)
    for whole in (
        stable.impulse_response(500) + rest.impulse_response(500),
        joined(stable, rest).impulse_response(500),
    ):
        assert float((whole - truth).abs().max()) < 1e-8 * float(truth.abs().max())
    assert bool(stable.stability().stable.all())
