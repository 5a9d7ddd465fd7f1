"""How the loops are compiled, and parts that several of them are made of."""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, no_type_check

from numba import _dynfunc, njit, version_info  # pyright: ignore[reportAttributeAccessIssue] (a module in C)
from numba import config as _untyped
from numba.core.caching import FunctionCache
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.compiler_lock import global_compiler_lock

OPTIMIZATION = 2  # LLVM's level: a third one makes these loops no faster and takes three times as long to compile
KNOWN = (0, 63), (0, 68)  # Numba's versions, first and last, whose way to link code was read and tried

config: Any = _untyped  # its values have no types

if config.DISABLE_JIT:
    raise RuntimeError(
        "transferfn filters by compiled loops, and NUMBA_DISABLE_JIT, which is set, forbids to compile: unset it"
    )
if hasattr(os, "register_at_fork"):  # a child forked while another thread compiles could never compile
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )


@contextmanager
def optimized() -> Iterator[None]:
    """Compile at our level, which is Numba's setting for the whole process, while nobody else can compile.

    What a compiler makes stays alive until it is done: looking for garbage meanwhile takes a sixth of the time.
    """
    with global_compiler_lock:
        before, config.OPT = config.OPT, type(config.OPT)(OPTIMIZATION)
        collects = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            config.OPT = before
            if collects:
                gc.enable()


class _Compiler(Compiler):
    def _compile_core(self) -> Any:
        with optimized():
            return super()._compile_core()


class _Linked(JITCodeLibrary):
    """Code that only other code calls: it is linked into that, and optimised and made machine code there alone."""

    def finalize(self) -> None:
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True


class _PartCompiler(_Compiler):
    def _compile_core(self) -> Any:
        target = self.state.targetctx  # a copy of Numba's, for what is compiled here
        target.get_executable = _no_executable
        self.state.library = _Linked(target.codegen(), self.state.func_id.func_qualname)
        return super()._compile_core()


def _no_executable(library: Any, description: Any, environment: Any) -> Any:
    """What a dispatcher knows a loop by, although nobody can call it."""
    return _dynfunc.make_function(description.lookup_module(), description.qualname, "", 0, environment, (library,))


def forget_outdated(kept: Path, sources: Path) -> None:
    """Delete compiled loops unless they are of these very sources: Numba knows a loop's own file, not its parts'.

    Args:
        kept: Folder of the compiled loops, which has a mark that names their sources.
        sources: Folder of the sources.
    """
    parts = sorted(sources.glob("_*.py"))
    digest = hashlib.sha256(b"".join(hashlib.sha256(part.read_bytes()).digest() for part in parts)).hexdigest()
    mark = kept / f"{digest[:16]}.sources"
    try:
        if not mark.exists():
            for outdated in (*kept.glob("*.nb[ic]"), *kept.glob("*.sources")):
                outdated.unlink(missing_ok=True)
            mark.touch()
    except OSError:  # the folder cannot be written, and then nobody else has changed it either
        return


def _forget_outdated() -> None:
    try:
        kept = FunctionCache(_forget_outdated).cache_path  # NUMBA_CACHE_DIR, beside the sources, or in the home
    except RuntimeError:  # nothing is kept
        return
    forget_outdated(Path(kept), Path(__file__).parent)


_forget_outdated()


def native(loop: Callable, *, fastmath: frozenset[str] = frozenset({"contract"})) -> Any:
    """Compile a loop when it is first called, without the interpreter lock, and keep the result on disk.

    Args:
        loop: What to compile.
        fastmath: Liberties that LLVM may take with arithmetic.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
    options |= {"fastmath": set(fastmath), "pipeline_class": _Compiler}
    try:
        return njit(loop, cache=True, **options)
    except RuntimeError:  # neither the package nor a home directory can be written: every process compiles anew
        return njit(loop, **options)


def part(loop: Callable, *, fastmath: frozenset[str] = frozenset({"contract"})) -> Any:
    """Compile what only other loops call, each type once. Python cannot call it, and the disk has it in its callers.

    Args:
        loop: What to compile.
        fastmath: Liberties that LLVM may take with arithmetic.
    """
    return _part(loop, fastmath=set(fastmath))


def inline(loop: Callable) -> Any:
    """Compile a part of loops into each of them, so that its registers do not go through memory.

    Args:
        loop: What to compile.
    """
    return _part(loop, fastmath={"contract"}, forceinline=True)


def _part(loop: Callable, **options: Any) -> Any:
    bare = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    known = KNOWN[0] <= version_info.short <= KNOWN[1]
    compiler = _PartCompiler if known else _Compiler  # the same code, that takes twice as long to compile
    return njit(loop, error_model="numpy", pipeline_class=compiler, **bare, **options)


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
