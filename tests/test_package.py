"""The package as an installed thing: what its import does, what it ships, and what its files may not hold."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata, resources
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

HEAVY = ("numba", "scipy.signal", "lightning", "matplotlib", "tyro", "pandas", "sklearn", "transformers", "control")


CODE = f"""
import sys, warnings
warnings.simplefilter("ignore")  # what Torch warns of is not ours to judge
import random, numpy, torch
warnings.simplefilter("error")
def state():
    return (torch.get_rng_state().tolist(), random.getstate(), str(numpy.random.get_state()),
            torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled())
before = state()
import transferfn
assert state() == before, "changed"
assert not (loaded := [name for name in {HEAVY} if name in sys.modules]), loaded
"""


def test_import_is_silent_and_light_and_leaves_global_state_alone() -> None:
    """What is heavy is imported inside the functions that need it."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", CODE], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_version_is_that_of_the_project() -> None:
    import transferfn

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert transferfn.__version__ == metadata.version("transferfn") == project["version"]


def test_types_are_shipped() -> None:
    assert resources.files("transferfn").joinpath("py.typed").is_file()


def test_development_environment_is_pinned() -> None:
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        assert re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), f"not an exact public version: {line}"


def test_no_file_names_a_path_of_one_machine() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout to know which files belong to the project")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    home = re.compile(r"(?<![\w.])/(?:home|root|Users|tmp|work|mnt)/\w|\b[A-Z]:\\Users\b")
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        content = path.read_bytes() if path.is_file() else b""
        if b"\0" not in content:
            lines = content.decode("utf-8", errors="replace").splitlines()
            found += [f"{name}:{i}: {line.strip()}" for i, line in enumerate(lines, 1) if home.search(line)]
    assert found == []
