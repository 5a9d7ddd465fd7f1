"""What every test gets: one thread a worker, memory poisoned with NaN, and explicit devices, dtypes and seeds."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

if "PYTEST_XDIST_WORKER" in os.environ:  # before anything starts its threads; subprocesses inherit it
    os.environ["OMP_NUM_THREADS"] = "1"

import hypothesis
import pytest
import torch
from torch import Tensor

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)

# No deadline: the first call of a kernel compiles it, and the machine may be shared.
hypothesis.settings.register_profile(
    "dev", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
hypothesis.settings.register_profile("ci", parent=hypothesis.settings.get_profile("dev"), derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")

DEVICES = ["cpu"]
if torch.cuda.is_available():
    DEVICES.append("cuda")
if torch.backends.mps.is_available():
    DEVICES.append("mps")


# Of session scope, so that property-based tests may use them too.
@pytest.fixture(scope="session", params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device of this machine in turn."""
    return torch.device(request.param)


@pytest.fixture(scope="session", params=[torch.float32, torch.float64], ids=["f32", "f64"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    """Float32 and float64 in turn, as far as the device of the test has them."""
    if request.param == torch.float64 and "device" in request.fixturenames:
        device = request.getfixturevalue("device")
        if device.type == "mps":
            pytest.skip("mps has no float64")
    return request.param


@pytest.fixture
def generator() -> torch.Generator:
    """A generator with a fixed seed, on the CPU: the only source of randomness in a test."""
    return torch.Generator().manual_seed(0)


# PyTorch keeps a table of its factory functions, made when it is first needed: that must be before they are replaced.
with torch.device("cpu"):
    torch.empty(0)


@pytest.fixture(autouse=True)
def poison(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill with NaN what torch.empty and its kin return, so that reading memory before writing it shows.

    Tests of torch.compile are left alone: the tracer has to recognise these functions.
    """
    if request.node.get_closest_marker("compile") is None:
        for name in ("empty", "empty_like", "empty_strided", "empty_permuted"):
            monkeypatch.setattr(torch, name, _poisoned(getattr(torch, name)))
        for name in ("new_empty", "new_empty_strided"):
            monkeypatch.setattr(Tensor, name, _poisoned(getattr(Tensor, name)))


def _poisoned(allocate: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @functools.wraps(allocate)
    def wrapper(*args: object, **kwargs: object) -> Tensor:
        memory = allocate(*args, **kwargs)
        if (memory.is_floating_point() or memory.is_complex()) and memory.layout == torch.strided:
            memory.detach().fill_(torch.nan)
        return memory

    return wrapper
