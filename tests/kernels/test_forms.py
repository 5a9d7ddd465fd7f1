from __future__ import annotations

import pytest
import torch

from transferfn.core.lattice_system import rotate
from transferfn.kernels.forms import lattice_chunk

F64 = torch.float64


@pytest.mark.parametrize("order", [1, 2, 5])
@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (6, 2), (16, 16), (38, 19)])
@pytest.mark.parametrize("ends", [None, (40, 0, 7)])
@pytest.mark.parametrize("with_resets", [False, True])
def test_chunks_of_a_lattice_are_its_rotations(order, channels, groups, ends, with_resets, dtype) -> None:
    generator = torch.Generator().manual_seed(channels)
    draw = lambda *shape: torch.randn(*shape, dtype=F64, generator=generator)  # noqa: E731
    raw, v, h0, u, x = (
        draw(groups, order),
        draw(channels, order),
        draw(channels),
        draw(3, 40, channels),
        draw(3, channels, order),
    )
    u, x = u.to(dtype), x.to(dtype)
    k, c = raw.tanh(), 1 / raw.cosh()
    resets = torch.rand(3, 40, generator=generator) < 0.2 if with_resets else None
    lengths = None if ends is None else torch.tensor(ends)
    y, after = lattice_chunk(u, x, k, c, v, h0, lengths=lengths, resets=resets)
    assert y.dtype == after.dtype == F64
    sines, cosines = (z.repeat_interleave(channels // groups, 0) for z in (k, c))
    state = x.to(F64)
    for t, u_t in enumerate(u.to(F64).unbind(1)):
        valid = torch.ones(3, dtype=torch.bool) if lengths is None else t < lengths
        before = state if resets is None else torch.where(resets[:, t, None, None], 0, state)
        expected = torch.where(valid[:, None], h0 * u_t + (v * before).sum(-1), 0)
        assert torch.allclose(y[:, t], expected, atol=1e-12)
        state = torch.where(valid[:, None, None], rotate(u_t, before, sines, cosines), state)
    assert torch.allclose(after, state, atol=1e-12)


def test_nothing_is_left_as_it_is() -> None:
    angles, x = torch.zeros(2, 3), torch.ones(2, 2, 3)
    for shape in ((2, 0, 2), (0, 5, 2)):
        y, after = lattice_chunk(
            torch.ones(shape), x[: shape[0]], angles, angles, angles, angles[:, 0], lengths=None, resets=None
        )
        assert y.shape == shape
        assert torch.equal(after, x[: shape[0]].double())
