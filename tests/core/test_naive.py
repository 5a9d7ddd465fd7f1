"""The definitions against scipy, so that what is compared with them is compared with something right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import signal
from torch.testing import assert_close

from core.banks import F64, bank
from transferfn.core import naive


def in_scipys_convention(order: int, groups: int):
    b, a, h0 = bank(order, groups=groups)
    for d in range(4):
        whole_a = np.concatenate(([1], a[d * groups // 4]))
        yield float(h0[d]) * whole_a + np.concatenate(([0], b[d])), whole_a


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("order", [1, 4])
def test_filtering_is_lfilter(order: int, groups: int) -> None:
    u = random(2, 20, 4)
    y, state = naive.filter_signal(u, *bank(order, groups=groups))
    for d, (b, a) in enumerate(in_scipys_convention(order, groups)):
        assert_close(y[..., d], torch.tensor(signal.lfilter(b, a, u[..., d])))
        w = torch.tensor(signal.lfilter([1.0], a, u[..., d]))
        assert_close(state[:, d], w[:, -order:].flip(-1))


def test_a_state_goes_on_where_it_was_left() -> None:
    u, coefficients = random(2, 20, 4), bank(3)
    y, state = naive.filter_signal(u, *coefficients)
    first, middle = naive.filter_signal(u[:, :7], *coefficients)
    second, end = naive.filter_signal(u[:, 7:], *coefficients, middle)
    assert torch.equal(torch.cat((first, second), 1), y)
    assert torch.equal(end, state)
    nothing, same = naive.filter_signal(u[:, :0], *coefficients, middle)
    assert nothing.shape == (2, 0, 4)
    assert torch.equal(same, middle)


def test_lengths_end_rows_and_resets_begin_them() -> None:
    u, coefficients = random(3, 10, 4), bank(3)
    lengths = torch.tensor([0, 4, 10])
    resets = torch.zeros(3, 10, dtype=torch.bool)
    resets[2, 6] = True
    y, state = naive.filter_signal(u, *coefficients, lengths=lengths, resets=resets)
    assert not y[0].any()
    assert not state[0].any()
    expected, final = naive.filter_signal(u[1:2, :4], *coefficients)
    assert torch.equal(y[1, :4], expected[0])
    assert torch.equal(state[1], final[0])
    assert not y[1, 4:].any()
    for piece in (slice(0, 6), slice(6, 10)):
        expected, final = naive.filter_signal(u[2:, piece], *coefficients)
        assert torch.equal(y[2, piece], expected[0])
    assert torch.equal(state[2], final[0])


@pytest.mark.parametrize("order", [1, 4])
def test_responses_are_scipys(order: int) -> None:
    found = naive.impulse_response(*bank(order), 15)
    for d, (b, a) in enumerate(in_scipys_convention(order, 2)):
        _, (expected,) = signal.dimpulse((b, a, 1), n=15)
        assert_close(found[d], torch.tensor(expected[:, 0]), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("period", [6, 7])
def test_kernels_fold_scipys_response(period: int) -> None:
    found = naive.aliased_kernel(*bank(4), period)
    for d, (b, a) in enumerate(in_scipys_convention(4, 2)):
        _, (long,) = signal.dimpulse((b, a, 1), n=100 * period)
        assert_close(found[d], torch.tensor(long.reshape(100, period).sum(0)), rtol=1e-11, atol=1e-12)


def test_truncation_takes_the_tail_away() -> None:
    b, a, h0 = bank(4)
    found = naive.aliased_kernel(*_in_order(naive.truncate(b, a, h0, 9), a), 9)
    assert_close(found, naive.impulse_response(b, a, h0, 9), rtol=1e-12, atol=1e-12)


def _in_order(truncated, a):
    return truncated[0], a, truncated[1]
