"""A SIMD register as a value inside Numba loops: sixteen float32 or eight float64 side by side, or half as many.

Numba leaves it to the optimiser whether a loop is vectorised; loops whose accumulators must stay in registers say it.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

# pyright: reportOptionalCall=false, reportCallIssue=false
# Numba's decorators have no types.

BYTES = 64 if binding.get_host_cpu_features().get("avx512f") else 32


class Lanes(types.Type):
    """The Numba type of a register.

    Args:
        dtype: Type of an element.
    """

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        self.width = 8 * BYTES // dtype.bitwidth
        super().__init__(name=f"Lanes({dtype})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        element = ir.FloatType() if lanes.dtype == types.float32 else ir.DoubleType()
        super().__init__(manager, lanes, ir.VectorType(element, lanes.width))


def _define(operation: Any, instruction: str) -> None:
    @infer_global(operation)
    class _(AbstractTemplate):
        def generic(self, args, kws):
            if len(args) == 2 and isinstance(args[0], Lanes) and args[0] == args[1]:
                return signature(args[0], *args)
            return None

    @lower_builtin(operation, Lanes, Lanes)
    def _(context, builder, sig, args):
        return getattr(builder, instruction)(*args, flags=("contract",))  # a * b + c may be one instruction


_define(operator.add, "fadd")
_define(operator.sub, "fsub")
_define(operator.mul, "fmul")
_define(operator.truediv, "fdiv")


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any, lanes: Lanes) -> Any:
    data = data_of(context, builder, array_type, array)
    return builder.bitcast(builder.gep(data, [index]), context.get_value_type(lanes).as_pointer())


def data_of(context: Any, builder: Any, array_type: Any, array: Any) -> Any:
    """The pointer to an array's first element."""
    return context.data_model_manager[array_type].get(builder, array, "data")


@intrinsic
def load(typingctx, array, index):
    """Read a register from a contiguous array of one axis, starting at element ``index``, which is not checked.

    Args:
        typingctx: Given by Numba.
        array: Where to read.
        index: First element.
    """
    lanes = Lanes(array.dtype)

    def codegen(context, builder, sig, args):
        value = builder.load(_address(context, builder, sig.args[0], *args, lanes))
        value.align = array.dtype.bitwidth // 8
        return value

    return lanes(array, types.intp), codegen


@intrinsic
def store(typingctx, array, index, value):
    """Write a register to a contiguous array of one axis, starting at element ``index``, which is not checked.

    Args:
        typingctx: Given by Numba.
        array: Where to write.
        index: First element.
        value: What to write.
    """

    def codegen(context, builder, sig, args):
        written = builder.store(args[2], _address(context, builder, sig.args[0], args[0], args[1], value))
        written.align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@intrinsic
def splat(typingctx, x):
    """A register that holds a number in every lane.

    Args:
        typingctx: Given by Numba.
        x: The number, float32 or float64.
    """
    lanes = Lanes(x)

    def codegen(context, builder, sig, args):
        return _everywhere(context, builder, lanes, args[0])

    return lanes(x), codegen


def _everywhere(context: Any, builder: Any, lanes: Lanes, x: Any) -> Any:
    anything = ir.Constant(context.get_value_type(lanes), ir.Undefined)
    first = builder.insert_element(anything, x, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes.width), [0] * lanes.width)
    return builder.shuffle_vector(first, anything, zeros)


@intrinsic
def spread(typingctx, array, index):
    """A register that holds an element of a contiguous array of one axis in every lane; the index is not checked.

    Args:
        typingctx: Given by Numba.
        array: Where to read.
        index: Which element.
    """
    lanes = Lanes(array.dtype)

    def codegen(context, builder, sig, args):
        data = data_of(context, builder, sig.args[0], args[0])
        return _everywhere(context, builder, lanes, builder.load(builder.gep(data, [args[1]])))

    return lanes(array, types.intp), codegen


@intrinsic
def width(typingctx, array):
    """How many elements of an array's type a register holds, a constant of the compiled loop.

    Args:
        typingctx: Given by Numba.
        array: Any array of float32 or float64.
    """
    lanes = Lanes(array.dtype)

    def codegen(context, builder, sig, args):
        return context.get_constant(types.intp, lanes.width)

    return types.intp(array), codegen


@intrinsic
def join(typingctx, array, low, high):
    """Two registers of float64 as one of an array's type; one of float64 is ``low`` alone.

    Args:
        typingctx: Given by Numba.
        array: Any array of float32 or float64.
        low: The first half.
        high: The second half.
    """
    lanes = Lanes(array.dtype)

    def codegen(context, builder, sig, args):
        _, low, high = args
        if lanes.dtype == types.float64:
            return low
        half = ir.VectorType(ir.FloatType(), lanes.width // 2)
        both = ir.Constant(ir.VectorType(ir.IntType(32), lanes.width), list(range(lanes.width)))
        return builder.shuffle_vector(builder.fptrunc(low, half), builder.fptrunc(high, half), both)

    return lanes(array, low, high), codegen


@intrinsic
def halves(typingctx, value):
    """A register as two of float64; what ``join`` takes them from.

    Args:
        typingctx: Given by Numba.
        value: A register of float32 or float64. The second half of the latter is zero.
    """
    doubles = Lanes(types.float64)

    def codegen(context, builder, sig, args):
        wide = context.get_value_type(doubles)
        if value == doubles:
            both = [args[0], ir.Constant(wide, [0.0] * doubles.width)]
        else:
            places = [range(doubles.width), range(doubles.width, value.width)]
            indices = [ir.Constant(ir.VectorType(ir.IntType(32), doubles.width), list(p)) for p in places]
            both = [builder.fpext(builder.shuffle_vector(args[0], args[0], i), wide) for i in indices]
        return context.make_tuple(builder, sig.return_type, both)

    return types.UniTuple(doubles, 2)(value), codegen


@intrinsic
def where_less(typingctx, x, bound, then, otherwise):
    """Lane by lane, ``then`` where x < bound, else ``otherwise``.

    Args:
        typingctx: Given by Numba.
        x: A register.
        bound: What it is compared with.
        then: Taken where it is less.
        otherwise: Taken elsewhere, not-a-number included.
    """

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered("<", args[0], args[1]), args[2], args[3])

    return x(x, bound, then, otherwise), codegen


def _mask(builder: Any, count: Any, lanes: Lanes) -> Any:
    """True in the first ``count`` lanes."""
    whole = ir.VectorType(ir.IntType(64), lanes.width)
    first = builder.insert_element(ir.Constant(whole, ir.Undefined), count, ir.Constant(ir.IntType(32), 0))
    everywhere = ir.Constant(ir.VectorType(ir.IntType(32), lanes.width), [0] * lanes.width)
    counts = builder.shuffle_vector(first, ir.Constant(whole, ir.Undefined), everywhere)
    return builder.icmp_signed("<", ir.Constant(whole, list(range(lanes.width))), counts)


def _masked(builder: Any, name: str, result: Any, vector: Any, lanes: Lanes, args: list[Any]) -> Any:
    short = f"v{lanes.width}f{lanes.dtype.bitwidth}"
    kinds = [value.type for value in args]
    function = builder.module.globals.get(f"llvm.masked.{name}.{short}.p0")
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(result, kinds), f"llvm.masked.{name}.{short}.p0")
    return builder.call(function, args)


@intrinsic
def load_part(typingctx, array, index, count):
    """Read the first lanes of a register, the others zero; nothing behind them is touched.

    Args:
        typingctx: Given by Numba.
        array: Where to read.
        index: First element.
        count: How many lanes.
    """
    lanes = Lanes(array.dtype)

    def codegen(context, builder, sig, args):
        vector = context.get_value_type(lanes)
        address = _address(context, builder, sig.args[0], args[0], args[1], lanes)
        align = ir.Constant(ir.IntType(32), array.dtype.bitwidth // 8)
        zero = ir.Constant(vector, None)
        operands = [address, align, _mask(builder, args[2], lanes), zero]
        return _masked(builder, "load", vector, vector, lanes, operands)

    return lanes(array, types.intp, types.intp), codegen


@intrinsic
def store_part(typingctx, array, index, value, count):
    """Write the first lanes of a register; nothing behind them is touched.

    Args:
        typingctx: Given by Numba.
        array: Where to write.
        index: First element.
        value: What to write.
        count: How many lanes.
    """

    def codegen(context, builder, sig, args):
        vector = args[2].type
        address = _address(context, builder, sig.args[0], args[0], args[1], value)
        align = ir.Constant(ir.IntType(32), array.dtype.bitwidth // 8)
        operands = [args[2], address, align, _mask(builder, args[3], value)]
        _masked(builder, "store", ir.VoidType(), vector, value, operands)
        return context.get_dummy_value()

    return types.void(array, types.intp, value, types.intp), codegen


@intrinsic
def total(typingctx, x):
    """The sum of all lanes, added in pairs.

    Args:
        typingctx: Given by Numba.
        x: A register.
    """

    def codegen(context, builder, sig, args):
        value, width = args[0], sig.args[0].width
        while width > 1:
            width //= 2
            halves = [
                builder.shuffle_vector(
                    value,
                    ir.Constant(value.type, ir.Undefined),
                    ir.Constant(ir.VectorType(ir.IntType(32), width), part),
                )
                for part in (list(range(width)), list(range(width, 2 * width)))
            ]
            value = builder.fadd(*halves)
        return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

    return x.dtype(x), codegen
