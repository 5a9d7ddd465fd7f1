from __future__ import annotations

import numba

from transferfn.kernels import _compile


def test_loops_compile_where_nothing_can_be_written(monkeypatch) -> None:
    def njit(loop, *, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")  # what Numba says there
        return numba.njit(loop, **options)

    monkeypatch.setattr(_compile, "njit", njit)
    assert _compile.native(abs_of)(-2.0) == 2.0


def abs_of(x):
    return abs(x)
