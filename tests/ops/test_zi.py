from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import torch

from transferfn.core import TransferFunction
from transferfn.ops import linear_filter, state_to_zi, zi_to_state


@pytest.fixture
def system(generator: torch.Generator) -> TransferFunction:
    b = torch.randn(4, 5, dtype=torch.float64, generator=generator)
    a = torch.rand(2, 5, dtype=torch.float64, generator=generator) / 5 - 0.1
    return TransferFunction(b, a, torch.randn(4, dtype=torch.float64, generator=generator))


def test_state_gives_the_conditions_scipy_ends_with(system: TransferFunction, generator: torch.Generator) -> None:
    u = torch.randn(3, 20, 4, dtype=torch.float64, generator=generator)
    _, state = linear_filter(u, system)
    zi = state_to_zi(state, system)
    for d in range(4):
        den = np.r_[1, system.a[d // 2].numpy()]
        num = np.r_[0, system.b[d].numpy()] + system.h0[d].item() * den
        _, zf = scipy.signal.lfilter(num, den, u[..., d].numpy(), axis=1, zi=np.zeros((3, 5)))
        np.testing.assert_allclose(zi[:, d].numpy(), zf, rtol=0, atol=1e-13)


def test_conversions_undo_each_other(system: TransferFunction, generator: torch.Generator) -> None:
    state = torch.randn(3, 4, 5, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(zi_to_state(state_to_zi(state, system), system), state, rtol=0, atol=1e-11)


def test_cancelled_pole_is_refused() -> None:
    # (1 - z^-1/2) over itself: nothing of the state reaches the output.
    system = TransferFunction(*(torch.tensor(x, dtype=torch.float64) for x in ([[0.0]], [[-0.5]], [1.0])))
    with pytest.raises(ArithmeticError, match="common pole and zero"):
        zi_to_state(torch.ones(1, 1, 1, dtype=torch.float64), system)
