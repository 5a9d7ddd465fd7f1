"""`filtfilt` and `sosfiltfilt` against scipy's, and their derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import torch
from torch import Tensor
from torch.autograd import gradcheck

from ops.naive import error
from transferfn.ops import filtfilt, sosfiltfilt


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize(
    ("padtype", "padlen"), [("odd", None), ("even", None), ("constant", 5), ("odd", 0), (None, None)]
)
def test_both_are_scipys(axis: int, padtype, padlen: int | None) -> None:
    b, a = scipy.signal.butter(3, 0.2)
    sos = scipy.signal.ellip(5, 1, 40, 0.3, output="sos")
    x = draw(30, 40, 50)
    for signal in (x, torch.complex(x, draw(30, 40, 50, seed=1))):
        given = (signal.numpy(), axis, padtype, padlen)
        found = filtfilt(torch.from_numpy(b), torch.from_numpy(a), signal, axis, padtype, padlen)
        assert error(found, torch.from_numpy(np.ascontiguousarray(scipy.signal.filtfilt(b, a, *given)))) <= 1
        found = sosfiltfilt(torch.from_numpy(sos), signal, axis, padtype, padlen)
        assert error(found, torch.from_numpy(np.ascontiguousarray(scipy.signal.sosfiltfilt(sos, *given)))) <= 1


def test_derivatives() -> None:
    b, a = (torch.from_numpy(c).requires_grad_() for c in scipy.signal.butter(2, 0.4))
    sos = torch.from_numpy(scipy.signal.butter(3, 0.4, output="sos")).requires_grad_()
    x = draw(2, 14).requires_grad_()
    assert gradcheck(filtfilt, (b, a, x))
    assert gradcheck(lambda sos, x: sosfiltfilt(sos, x, -1, "odd", 9), (sos, x))


@pytest.mark.compile  # without the type-checking hook, which would speak first
def test_what_does_not_fit_is_named() -> None:
    b, a = torch.ones(2), torch.tensor([1.0, -0.5])
    with pytest.raises(ValueError, match=r"padtype='odd' and 6 samples for padlen=6"):
        filtfilt(b, a, torch.ones(6))
    with pytest.raises(ValueError, match=r"got padtype='odds'"):
        filtfilt(b, a, torch.ones(60), padtype="odds")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"one filter, b \(nb\) and a \(na\), got \(3, 2\)"):
        filtfilt(torch.ones(3, 2), a, torch.ones(60))
    with pytest.raises(ValueError, match=r"one filter, sos \(sections, 6\), got \(2, 1, 6\)"):
        sosfiltfilt(torch.tensor([0.5, 0, 0, 1, 0.5, 0]).expand(2, 1, 6), torch.ones(60))
    with pytest.raises(TypeError, match=r"x must be a floating-point tensor, real or complex, got torch\.int64"):
        filtfilt(b, a, torch.ones(60, dtype=torch.long))
    with pytest.raises(ValueError, match="pole at z = 1"):
        filtfilt(b, torch.tensor([1.0, -1.0]), torch.ones(60))
    with pytest.raises(TypeError, match=r"b must be a tensor, got list; torch\.as_tensor converts"):
        filtfilt([0.5, 0.5], a, torch.ones(60))  # pyright: ignore[reportArgumentType]
