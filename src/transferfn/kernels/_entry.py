"""How C threads enter native loops: one function of one pointer, which no thread needs the interpreter for.

The pointer is that of a block of 64-bit integers: the first and the last job, the thread's number, the addresses of
OpenMP's functions that tell it and how many there are (0 outside of OpenMP), and then what the loop itself asks for:
addresses, sizes and strides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, no_type_check

from llvmlite import ir
from numba import cfunc, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.numpy_support import carray

from transferfn.kernels._compile import optimized, part

HEAD = 5  # entries of a block that come before those of the loop


@intrinsic
def _pointer(typingctx, address):
    """An address as a pointer."""

    def codegen(context, builder, sig, args):
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), codegen


@intrinsic
def _call(typingctx, address):
    """What the C function ``int f(void)`` at an address returns."""

    def codegen(context, builder, sig, args):
        function = ir.FunctionType(ir.IntType(32), [])
        found = builder.call(builder.inttoptr(args[0], function.as_pointer()), [])
        return builder.sext(found, ir.IntType(64))

    return types.int64(types.int64), codegen


@intrinsic
def invoke(typingctx, address, a, b, c, d, e):
    """Call the C function ``void f(int64_t, int64_t, int64_t, int64_t, int64_t)`` at an address.

    What is called so is compiled once, however many loops call it, and not into each of them.

    Args:
        typingctx: Given by Numba.
        address: Where the function is.
        a: Its first argument.
        b: Its second argument.
        c: Its third argument.
        d: Its fourth argument.
        e: Its fifth argument.
    """

    def codegen(context, builder, sig, args):
        function = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * 5)
        builder.call(builder.inttoptr(args[0], function.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 6), codegen


@part
@no_type_check
def array(address, size, kind):
    """The array at an address, of one axis; an empty one if the address is 0.

    Args:
        address: Where it is.
        size: Number of elements, which nobody checks.
        kind: A NumPy type.
    """
    return carray(_pointer(address), (size if address != 0 else 0,), kind)


@part
@no_type_check
def share(block):
    """The first and last job of this thread, and its number, where all of a team enter with the same block."""
    first, last, thread = block[0], block[1], block[2]
    if block[3] == 0:
        return first, last, thread
    thread, threads = _call(block[3]), _call(block[4])
    jobs = last - first
    return first + jobs * thread // threads, first + jobs * (thread + 1) // threads, thread


def entry(loop: Callable) -> Any:
    """Compile a loop that takes a block, when this is called, and keep the result on disk.

    Args:
        loop: A function of the block, an array of 64-bit integers.

    Returns:
        An object whose ``address`` is that of the compiled function, ``void f(int64_t *block)``.
    """
    return _compiled(loop, types.void(types.CPointer(types.int64)))


def subroutine(loop: Callable) -> Any:
    """Compile what loops call by ``invoke``, when this is called, and keep the result on disk.

    Args:
        loop: A function of five 64-bit integers.

    Returns:
        An object whose ``address`` is that of the compiled function.
    """
    return _compiled(loop, types.void(*(types.int64,) * 5))


def _compiled(loop: Callable, signature: Any) -> Any:
    options: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract"}}
    with optimized():
        try:
            return cfunc(signature, cache=True, **options)(loop)
        except RuntimeError:  # neither the package nor a home directory can be written: every process compiles anew
            return cfunc(signature, **options)(loop)
