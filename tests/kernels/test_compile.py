from __future__ import annotations

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


def abs_of(x):
    return abs(x)
