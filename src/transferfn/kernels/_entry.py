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
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from transferfn.kernels._compile import optimized, part
from transferfn.kernels._simd import data_of

HEAD = 5  # entries of a block that come before those of the loop


@intrinsic
def _call(typingctx, address):
    """What the C function ``int f(void)`` at an address returns."""

    def codegen(context, builder, sig, args):
        function = ir.FunctionType(ir.IntType(32), [])
        found = builder.call(builder.inttoptr(args[0], function.as_pointer()), [])
        return builder.sext(found, ir.IntType(64))

    return types.int64(types.int64), codegen


@intrinsic
def invoke(typingctx, table, z, a, b, c):
    """Call the C function ``void f(int64_t, int64_t, int64_t, int64_t, int64_t)`` whose address a table begins with.

    What is called so is compiled once, however many loops call it, and not into each of them.

    Args:
        typingctx: Given by Numba.
        table: An array of 64-bit integers, whose address is the last argument.
        z: An array whose address is the first argument.
        a: The second argument.
        b: The third argument.
        c: The fourth argument.
    """

    def codegen(context, builder, sig, args):
        table, z = (data_of(context, builder, kind, value) for kind, value in zip(sig.args[:2], args[:2], strict=True))
        word = ir.IntType(64)
        function = ir.FunctionType(ir.VoidType(), [word] * 5).as_pointer()
        addresses = builder.ptrtoint(z, word), builder.ptrtoint(table, word)
        builder.call(builder.inttoptr(builder.load(table), function), [addresses[0], *args[2:], addresses[1]])
        return context.get_dummy_value()

    return types.void(table, z, *(types.int64,) * 3), codegen


@intrinsic
def array(typingctx, address, size, kind):
    """The array at an address, of one axis; an empty one if the address is 0.

    Args:
        typingctx: Given by Numba.
        address: Where it is.
        size: Number of elements, which nobody checks.
        kind: A NumPy type.
    """
    made = types.Array(kind.dtype, 1, "C")

    def codegen(context, builder, sig, args):
        address, size, _ = args
        size = builder.select(builder.icmp_unsigned("!=", address, address.type(0)), size, size.type(0))
        return _made(context, builder, made, address, size)

    return made(types.int64, types.int64, kind), codegen


@intrinsic
def view(typingctx, memory, like):
    """An array of one axis as one of another array's type. Who has the memory must outlive it.

    Args:
        typingctx: Given by Numba.
        memory: What to look at.
        like: An array of the type.
    """
    made = types.Array(like.dtype, 1, "C")

    def codegen(context, builder, sig, args):
        address = builder.ptrtoint(data_of(context, builder, memory, args[0]), ir.IntType(64))
        size = builder.extract_value(context.data_model_manager[memory].get(builder, args[0], "shape"), 0)
        size = builder.mul(size, size.type(memory.dtype.bitwidth))
        return _made(context, builder, made, address, builder.sdiv(size, size.type(like.dtype.bitwidth)))

    return made(memory, like), codegen


def _made(context: Any, builder: Any, kind: Any, address: Any, size: Any) -> Any:
    made = context.make_array(kind)(context, builder)
    step = size.type(context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    populate_array(made, builder.inttoptr(address, made.data.type), [size], [step], step, None)
    return made._getvalue()


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
