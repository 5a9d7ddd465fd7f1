"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path


def machine(*packages: str) -> dict[str, str]:
    """Name the processor and the versions that a figure depends on.

    Args:
        packages: Names of the distributions whose versions matter.
    """
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    processor = f"{model} ({os.cpu_count()} cores), {platform.system()}"
    return {"processor": processor, "Python": platform.python_version(), **{name: version(name) for name in packages}}


def machine_line(found: Mapping[str, str]) -> str:
    """Write in a line what :func:`machine` has named.

    Args:
        found: Its result.

    Example:
        >>> machine_line({"processor": "AMD EPYC (2 cores), Linux", "Python": "3.11.7", "torch": "2.13.0"})
        'AMD EPYC (2 cores), Linux, Python 3.11.7, torch 2.13.0'
    """
    return ", ".join(value if key == "processor" else f"{key} {value}" for key, value in found.items())
