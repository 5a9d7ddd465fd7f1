from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numba
import pytest

from transferfn.kernels import _compile


def test_loops_compile_where_nothing_can_be_written(monkeypatch) -> None:
    def njit(loop, *, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")  # what Numba says there
        return numba.njit(loop, **options)

    monkeypatch.setattr(_compile, "njit", njit)
    assert _compile.native(abs_of)(-2.0) == 2.0


def test_others_keep_their_level_of_optimization(monkeypatch) -> None:
    levels = []
    compiled = _compile.Compiler._compile_core

    def spied(self):
        levels.append(int(numba.config.OPT))
        return compiled(self)

    monkeypatch.setattr(_compile.Compiler, "_compile_core", spied)
    monkeypatch.setattr(_compile, "njit", lambda loop, *, cache=False, **options: numba.njit(loop, **options))
    before = numba.config.OPT
    _compile.native(abs_of)(-2.0)
    numba.njit(abs_of)(-2.0)
    with pytest.raises(KeyError), _compile.optimized():
        raise KeyError
    assert numba.config.OPT is before
    assert levels == [_compile.OPTIMIZATION, int(before)]


def test_parts_are_linked_into_their_callers_and_others_compile_as_ever(monkeypatch) -> None:
    monkeypatch.setattr(_compile, "njit", lambda loop, *, cache=False, **options: numba.njit(loop, **options))
    assert _compile.KNOWN[0] <= numba.version_info.short <= _compile.KNOWN[1], (
        "read its finalize(), try, and raise KNOWN"
    )
    inner = _compile.part(abs_of)

    def twice(x):
        return inner(x) + inner(x)

    assert _compile.native(twice)(-2.0) == 4.0
    theirs = numba.njit(abs_of)

    @numba.njit
    def outer(x):
        return theirs(x) + 1

    assert (outer(-2.0), theirs(-3.0)) == (3.0, 3.0)  # code of their own, that Python can call


@pytest.mark.parametrize("collects", [True, False])
def test_garbage_is_collected_afterwards_if_it_was_before(collects: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if collects else gc.disable)()
        with _compile.optimized():
            assert not gc.isenabled()
        assert gc.isenabled() == collects
    finally:
        (gc.enable if before else gc.disable)()


def abs_of(x):
    return abs(x)


def test_compiled_loops_of_other_sources_are_forgotten(tmp_path: Path) -> None:
    """A loop is made of parts in other files, whose times may be those of an archive."""
    sources, kept = tmp_path / "sources", tmp_path / "kept"
    for folder in (sources, kept):
        folder.mkdir()
    part, compiled = sources / "_part.py", kept / "loop.1.nbc"

    def start_with(text: str) -> bool:
        part.write_text(text)
        os.utime(part, (0, 0))
        _compile.forget_outdated(kept, sources)
        found = compiled.exists()
        compiled.touch()
        return found

    assert [start_with(text) for text in ("1", "1", "2", "2", "1")] == [False, True, False, True, False]
    assert len(list(kept.glob("*.sources"))) == 1


def test_numba_keeps_loops_where_outdated_ones_are_looked_for(tmp_path: Path) -> None:
    """Wherever ``NUMBA_CACHE_DIR`` says."""
    run_python("from transferfn.kernels import _compile", NUMBA_CACHE_DIR=str(tmp_path))
    (mark,) = tmp_path.glob("*/*.sources")
    (mark.parent / "other.nbi").touch()
    mark.unlink()
    run_python(
        "import torch; from transferfn.kernels.step import step; o = torch.ones(1, 1)\n"
        "assert step(o, o[None], o, o, o[0])[0].item() == 2",
        NUMBA_CACHE_DIR=str(tmp_path),
    )
    assert mark.exists()
    assert {path.suffix for path in mark.parent.iterdir()} == {".sources", ".nbi", ".nbc"}
    assert not (mark.parent / "other.nbi").exists()


def test_a_version_of_numba_that_nobody_knows_compiles_parts_as_ever(tmp_path: Path) -> None:
    """Slower, but nothing of its internals is touched."""
    run_python(
        "import numba; numba.version_info = numba.version_info._replace(short=(9, 0))\n"
        "from transferfn.kernels import _compile\n"
        "_compile._PartCompiler = None\n"
        "import torch; from transferfn.kernels.step import step; o = torch.ones(1, 1)\n"
        "assert step(o, o[None], o, o, o[0])[0].item() == 2",
        NUMBA_CACHE_DIR=str(tmp_path),
    )


def test_without_compiling_the_error_names_the_variable() -> None:
    found = run_python("from transferfn.kernels import _compile", fails=True, NUMBA_DISABLE_JIT="1")
    assert "NUMBA_DISABLE_JIT, which is set" in found


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_fork_waits_until_other_threads_have_compiled() -> None:
    """The child would wait for a lock that no thread of its own holds, without collecting garbage."""
    inside, leave = threading.Event(), threading.Event()

    def compiling() -> None:
        with _compile.optimized():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=compiling)
    thread.start()
    inside.wait(10)
    threading.Timer(0.2, leave.set).start()
    child = os.fork()
    if not child:  # pragma: no cover, which nobody counts here
        signal.alarm(10)
        with _compile.optimized():
            pass
        os._exit(0 if gc.isenabled() else 1)
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def run_python(code: str, *, fails: bool = False, **variables: str) -> str:
    """Run a program in a process of its own, and return what it says of errors."""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert (done.returncode != 0) == fails, done.stderr
    return done.stderr
