"""How the loops are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def native(loop: Callable, *, fastmath: frozenset[str] = frozenset({"contract"})) -> Any:
    """Compile a loop when it is first called, without the interpreter lock, and keep the result on disk.

    Args:
        loop: What to compile.
        fastmath: Liberties that LLVM may take with arithmetic.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": set(fastmath)}
    try:
        return njit(loop, cache=True, **options)
    except RuntimeError:  # neither the package nor a home directory can be written: every process compiles anew
        return njit(loop, **options)
