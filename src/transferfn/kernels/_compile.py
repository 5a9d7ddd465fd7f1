"""How the loops are compiled, and parts that several of them are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, no_type_check

from numba import config as _untyped
from numba import njit
from numba.core.compiler import Compiler
from numba.core.compiler_lock import global_compiler_lock

OPTIMIZATION = 2  # LLVM's level: a third one makes these loops no faster and takes three times as long to compile

config: Any = _untyped  # its values have no types

_BARE: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


@contextmanager
def optimized() -> Iterator[None]:
    """Compile at our level, which is Numba's setting for the whole process, while nobody else can compile."""
    with global_compiler_lock:
        before, config.OPT = config.OPT, type(config.OPT)(OPTIMIZATION)
        try:
            yield
        finally:
            config.OPT = before


class _Compiler(Compiler):
    def _compile_core(self) -> Any:
        with optimized():
            return super()._compile_core()


def _forget_outdated() -> None:
    """Delete compiled loops older than any source here: Numba knows the file of a loop, not those of its parts."""
    folder = Path(__file__).parent
    newest = max(source.stat().st_mtime for source in folder.glob("_*.py"))
    for compiled in folder.glob("__pycache__/*.nb[ic]"):
        try:
            if compiled.stat().st_mtime < newest:
                compiled.unlink()
        except OSError:  # another process was faster, or the folder cannot be written
            return


_forget_outdated()


def native(loop: Callable, *, fastmath: frozenset[str] = frozenset({"contract"})) -> Any:
    """Compile a loop when it is first called, without the interpreter lock, and keep the result on disk.

    Args:
        loop: What to compile.
        fastmath: Liberties that LLVM may take with arithmetic.
    """
    return _compiled(loop, nogil=True, error_model="numpy", fastmath=set(fastmath), no_cfunc_wrapper=True)


def part(loop: Callable, *, fastmath: frozenset[str] = frozenset({"contract"})) -> Any:
    """Compile what only other loops call, each type once. Python cannot call it, which saves a third of the time.

    Args:
        loop: What to compile.
        fastmath: Liberties that LLVM may take with arithmetic.
    """
    return _compiled(loop, error_model="numpy", fastmath=set(fastmath), **_BARE)


def _compiled(loop: Callable, **options: Any) -> Any:
    options["pipeline_class"] = _Compiler
    try:
        return njit(loop, cache=True, **options)
    except RuntimeError:  # neither the package nor a home directory can be written: every process compiles anew
        return njit(loop, **options)


def inline(loop: Callable) -> Any:
    """Compile a part of loops into each of them, so that its registers do not go through memory.

    Args:
        loop: What to compile.
    """
    return njit(loop, error_model="numpy", fastmath={"contract"}, forceinline=True, **_BARE)


def once(loop: Callable) -> Any:
    """Compile a loop into the one function that calls it: on its own it would be compiled and optimised twice.

    Args:
        loop: What to compile.
    """
    return njit(loop, inline="always", error_model="numpy")


@part
@no_type_check
def clear(x, begin, end, W):
    """Clear rows begin..end. Written out: slices of arrays bring checks and copies of their own."""
    for i in range(begin * W, end * W):
        x[i] = 0
