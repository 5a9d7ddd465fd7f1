from __future__ import annotations

import gc

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
