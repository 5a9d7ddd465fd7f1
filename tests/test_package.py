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


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter in which any warning is an error."""
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=300)


def test_import_is_silent() -> None:
    # Torch is imported first: its own warnings are not ours to judge.
    done = run_python(
        "import warnings; warnings.simplefilter('ignore'); import torch; warnings.simplefilter('error')\n"
        "import transferfn"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_import_leaves_global_state_alone() -> None:
    done = run_python(
        "import random, numpy, torch\n"
        "def state():\n"
        "    return (torch.get_rng_state().tolist(), random.getstate(), str(numpy.random.get_state()),\n"
        "            torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled())\n"
        "before = state(); import transferfn; assert state() == before"
    )
    assert done.returncode == 0, done.stderr


def test_import_is_light() -> None:
    done = run_python(f"import sys, transferfn; print(*[name for name in {HEAVY} if name in sys.modules])")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [], "import these inside the functions that need them"


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
