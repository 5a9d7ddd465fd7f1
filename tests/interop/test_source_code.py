"""The text of a filter's step, compiled and run, is the filter."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch

from transferfn.core import TransferFunction
from transferfn.core.constrain import step_up
from transferfn.core.doubt import IllConditionedWarning
from transferfn.interop.scipy_signal import from_ba
from transferfn.interop.source_code import filter_as_c, filter_as_numpy
from transferfn.nn.realize import true_output

COMPILER = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
SAMPLES = 10_000


def bank(order: int) -> TransferFunction:
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=generator)  # noqa: E731
    return TransferFunction(draw(4, order), step_up(torch.tanh(0.4 * draw(2, order))), draw(4))


def noise() -> torch.Tensor:
    return torch.randn(SAMPLES, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def assert_filters(found: np.ndarray, system: TransferFunction) -> None:
    truth = true_output(system, noise()).numpy()
    # Sections amplify rounding less than the direct form, whose kappa is the bound of all paths.
    allowed = 20 * np.finfo(float).eps * float(system.conditioning(4096).max())
    assert np.abs(found - truth).max() <= allowed * np.abs(truth).max()


@pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")
@pytest.mark.parametrize("order", [1, 5, 8])
def test_c(order: int, tmp_path: Path) -> None:
    system = bank(order)
    source, library = tmp_path / "equalizer.c", tmp_path / "equalizer.so"
    source.write_text(filter_as_c(system, name="equalizer"))
    assert COMPILER is not None
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O2", "-ffp-contract=off"]
    subprocess.run([COMPILER, *strict, "-shared", "-fPIC", "-o", library, source], check=True)
    code = ctypes.CDLL(str(library))
    state = ctypes.create_string_buffer(8 * 4 * -(-order // 2) * 2)
    state.raw = b"\xff" * len(state)  # what init clears
    code.equalizer_init(state)
    u, y = noise().numpy(), np.full((SAMPLES, 4), np.nan)
    size = u.strides[0]
    for t in range(SAMPLES):
        code.equalizer_step(state, ctypes.c_void_p(u.ctypes.data + t * size), ctypes.c_void_p(y.ctypes.data + t * size))
    assert_filters(y, system)


def test_numpy_without_anything_else(tmp_path: Path) -> None:
    """In a process that has NumPy and neither PyTorch nor this package."""
    system = bank(5)
    (tmp_path / "equalizer.py").write_text(filter_as_numpy(system, name="equalizer"))
    np.save(tmp_path / "u.npy", noise().numpy())
    script = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'transferfn', 'scipy', 'numba')))\n"
        "import numpy as np, equalizer\n"
        "state, ys = equalizer.equalizer_init(1), []\n"
        "for u_t in np.load('u.npy'):\n"
        "    y, state = equalizer.equalizer_step(state, u_t[None])\n"
        "    ys.append(y[0])\n"
        "np.save('y.npy', np.array(ys))\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
    assert_filters(np.load(tmp_path / "y.npy"), system)


def test_a_clustered_filter_is_refused_as_coefficients_and_written_as_sections() -> None:
    """A narrow band-pass of order 32, which coefficients of one polynomial do not hold."""
    butter: Any = scipy.signal.butter
    sos = butter(16, [0.1, 0.12], "bandpass", output="sos")
    with pytest.warns(IllConditionedWarning):
        coefficients = from_ba(*butter(16, [0.1, 0.12], "bandpass"))
    with pytest.raises(ArithmeticError, match=r"differ from these filters by .*Pass the second-order sections"):
        filter_as_numpy(coefficients)
    text = filter_as_numpy(sos, name="narrow")
    (told,) = re.findall(r"samples of noise: (\S+) of the largest", text)
    assert 0 < float(told) < 1e-9
    program: dict = {}
    exec(text, program)
    u = noise()[:2000, :1].numpy()
    state, found = program["narrow_init"](1), []
    for sample in u:
        y, state = program["narrow_step"](state, sample[None])
        found.append(y[0, 0])
    expected = scipy.signal.sosfilt(sos, u[:, 0])
    assert np.abs(np.array(found) - expected).max() <= 1e-9 * np.abs(expected).max()


def test_two_filters_share_a_namespace() -> None:
    program: dict = {}
    for name, gain in (("first", 1.0), ("second", 3.0)):
        exec(filter_as_numpy([[gain, 0, 0, 2, 0, 0]], name=name), program)
    assert program["first_step"](program["first_init"](1), [[1.0]])[0].tolist() == [[0.5]]
    assert program["second_step"](program["second_init"](1), [[1.0]])[0].tolist() == [[1.5]]


def test_names_and_banks_are_checked() -> None:
    with pytest.raises(ValueError, match=r"or sections \(S, 6\) or \(D, S, 6\), got \(5,\)"):
        filter_as_c(np.ones(5))
    with pytest.raises(ValueError, match="a0 of a section must not be zero"):
        filter_as_c(np.zeros((1, 6)))
    with pytest.raises(ValueError, match="begins with no digit, got '2nd'"):
        filter_as_c(bank(2), name="2nd")
    system = bank(2)
    two = TransferFunction(*(torch.stack((x, x)) for x in (system.b, system.a, system.h0)))
    with pytest.raises(ValueError, match="expected one bank"):
        filter_as_numpy(two)
