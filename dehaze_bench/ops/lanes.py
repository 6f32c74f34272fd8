"""Sixteen float32 channels as one value inside Numba code, so that speed does not hang on the auto-vectoriser.

A `Lanes` value is LLVM's `<16 x float>`: a cache line, one register of AVX-512, two of AVX2, four of NEON. More
channels at once would spill registers, and LLVM interleaves independent chains no better for it. The functions below
are only callable from Numba-compiled code. Importing this module imports numba; `dehaze_bench.ops` does not.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

WIDTH = 16

_F32 = ir.FloatType()
_I32 = ir.IntType(32)
VECTOR = ir.VectorType(_F32, WIDTH)
BITS = ir.VectorType(_I32, WIDTH)

NEAR = 126.0  # how far from 0 `exp2_near` may be asked

FUNCTIONS = str(Path(__file__).with_name("lane_functions.py"))  # what kernels call on lanes
OPTIONS = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}


class LanesType(types.Type):
    """The type of such a value."""

    def __init__(self) -> None:
        super().__init__(name=f"Lanes{WIDTH}")


LANES = LanesType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, VECTOR)


def compile_kernel(signature: Any, *helpers: str) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit` for one signature, without the GIL, cached on disk where a cache folder can be written.

    `helpers` are further files whose code the kernel contains: the cache watches its own file only, so that the name
    under which it keeps a kernel, made of the qualified name, has to know the others and this one.
    """
    code = b"".join(Path(file).read_bytes() for file in (__file__, FUNCTIONS, *helpers))
    digest = hashlib.sha256(code).hexdigest()[:8]

    def decorate(function: Callable[..., Any]) -> Any:
        function.__qualname__ += f"-{digest}"
        try:
            return njit(signature, cache=True, **OPTIONS)(function)
        except RuntimeError as error:  # no writable cache folder
            logging.getLogger(__name__).debug("numba cache off: %s", error)
            return njit(signature, **OPTIONS)(function)

    return decorate


def constant(value: float) -> ir.Constant:
    return ir.Constant(VECTOR, [ir.Constant(_F32, float(np.float32(value)))] * WIDTH)


def whole(value: int) -> ir.Constant:
    return ir.Constant(BITS, [ir.Constant(_I32, value)] * WIDTH)


def _splat(builder: ir.IRBuilder, value: ir.Value, vector: ir.VectorType) -> ir.Value:
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, undefined, whole(0))


def call(builder: ir.IRBuilder, name: str, result: ir.Type, args: list[ir.Value]) -> ir.Value:
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


def fused(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    return call(builder, f"llvm.fmuladd.v{WIDTH}f32", VECTOR, [a, b, c])


def _pointer(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    """Where array[index] is; args are (array, index, ...)."""
    array_type, index_type = sig.args[:2]
    array = context.make_array(array_type)(context, builder, args[0])
    numbers = cgutils.unpack_tuple(builder, args[1], count=len(index_type))
    numbers = [context.cast(builder, n, kind, types.intp) for n, kind in zip(numbers, index_type, strict=True)]
    first = cgutils.get_item_pointer(context, builder, array_type, array, numbers, wraparound=False)
    return builder.bitcast(first, VECTOR.as_pointer())


def _mask(context: Any, builder: ir.IRBuilder, kind: Any, count: ir.Value) -> ir.Value:
    """Which lanes are among the first `count`."""
    limit = _splat(builder, context.cast(builder, count, kind, types.int32), BITS)
    numbers = ir.Constant(BITS, [ir.Constant(_I32, lane) for lane in range(WIDTH)])
    return builder.icmp_signed("<", numbers, limit)


@intrinsic
def keep_apart(typing: Any) -> Any:
    """Forbid inlining the function that calls this: its loops then have all registers to themselves."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """`WIDTH` neighbours from array[index] on."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_pointer(context, builder, sig, args), align=4)

    return LANES(array, index), codegen


@intrinsic
def store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Write `WIDTH` neighbours from array[index] on."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], _pointer(context, builder, sig, args), align=4)
        return context.get_dummy_value()

    return types.void(array, index, LANES), codegen


def _row(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    """Where row number args[1] of the scratch memory args[0] is; a constant stride makes for few instructions."""
    data = context.make_array(sig.args[0])(context, builder, args[0]).data
    number = context.cast(builder, args[1], sig.args[1], types.intp)
    return builder.gep(builder.bitcast(data, VECTOR.as_pointer()), [number])


@intrinsic
def get(typing: Any, memory: Any, row: Any) -> Any:
    """A row of `scratch` memory."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_row(context, builder, sig, args), align=64)

    return LANES(memory, row), codegen


@intrinsic
def put(typing: Any, memory: Any, row: Any, value: Any) -> Any:
    """Write a row of `scratch` memory."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], _row(context, builder, sig, args), align=64)
        return context.get_dummy_value()

    return types.void(memory, row, LANES), codegen


@intrinsic
def splat_at(typing: Any, memory: Any, index: Any) -> Any:
    """A number of `scratch` memory in every lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        number = context.cast(builder, args[1], sig.args[1], types.intp)
        return _splat(builder, builder.load(builder.gep(data, [number])), VECTOR)

    return LANES(memory, index), codegen


@intrinsic
def _load_masked(typing: Any, array: Any, index: Any, count: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        mask = _mask(context, builder, sig.args[2], args[2])
        operands = [_pointer(context, builder, sig, args), ir.Constant(_I32, 4), mask, constant(0.0)]
        return call(builder, f"llvm.masked.load.v{WIDTH}f32.p0", VECTOR, operands)

    return LANES(array, index, count), codegen


@intrinsic
def _store_masked(typing: Any, array: Any, index: Any, value: Any, count: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        mask = _mask(context, builder, sig.args[3], args[3])
        operands = [args[2], _pointer(context, builder, sig, args), ir.Constant(_I32, 4), mask]
        call(builder, f"llvm.masked.store.v{WIDTH}f32.p0", ir.VoidType(), operands)
        return context.get_dummy_value()

    return types.void(array, index, LANES, count), codegen


@njit(forceinline=True)
def load_first(array, index, count):  # type: ignore[no-untyped-def]
    """As `load` for lanes 0 .. count-1; the others are not read and hold 0."""
    if count >= WIDTH:  # masked access takes many times as long on some processors
        return load(array, index)
    return _load_masked(array, index, count)


@njit(forceinline=True)
def store_first(array, index, value, count):  # type: ignore[no-untyped-def]
    """As `store` for lanes 0 .. count-1; other memory is not touched."""
    if count >= WIDTH:
        store(array, index, value)
    else:
        _store_masked(array, index, value, count)


@njit(forceinline=True)
def put_first(array, index, value, count, adds):  # type: ignore[no-untyped-def]
    """As `store_first`, or add the value to what is there."""
    if adds:
        value = add(value, load_first(array, index, count))
    store_first(array, index, value, count)


def _prefetch(num_lines: int, write: int) -> Any:
    @intrinsic
    def operation(typing: Any, array: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            hints = [ir.Constant(_I32, value) for value in (write, 3, 1)]  # 3: keep in all levels, 1: data
            first = _pointer(context, builder, sig, args)
            for line in range(num_lines):
                pointer = builder.gep(first, [ir.Constant(_I32, line)])
                call(builder, "llvm.prefetch.p0", ir.VoidType(), [pointer, *hints])
            return context.get_dummy_value()

        return types.void(array, index), codegen

    return operation


# Ask for one cache line or for those of 48 channels from array[index] on; these never fault.
prefetch_line = _prefetch(1, write=0)
prefetch_read = _prefetch(3, write=0)
prefetch_write = _prefetch(3, write=1)


@intrinsic
def splat(typing: Any, value: Any) -> Any:
    """The same number in every lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _splat(builder, context.cast(builder, args[0], sig.args[0], types.float32), VECTOR)

    return LANES(value), codegen


def _binary(method: str) -> Any:
    @intrinsic
    def operation(typing: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return getattr(builder, method)(*args)

        return LANES(LANES, LANES), codegen

    return operation


add = _binary("fadd")
sub = _binary("fsub")
mul = _binary("fmul")
div = _binary("fdiv")


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, fused where the processor can."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return fused(builder, *args)

    return LANES(LANES, LANES, LANES), codegen


@intrinsic
def where_less(typing: Any, a: Any, b: Any, then: Any, otherwise: Any) -> Any:
    """Per lane: then where a < b, else otherwise (also where a or b is NaN)."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", args[0], args[1]), args[2], args[3])

    return LANES(LANES, LANES, LANES, LANES), codegen


@intrinsic
def farther(typing: Any, a: Any, b: Any) -> Any:
    """Per lane: |b| or a, whichever is farther from 0; a is not negative. NaN is farther than infinity."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        old = builder.bitcast(args[0], BITS)
        new = builder.and_(builder.bitcast(args[1], BITS), whole(0x7FFFFFFF))
        return builder.bitcast(builder.select(builder.icmp_signed(">", new, old), new, old), VECTOR)

    return LANES(LANES, LANES), codegen


@intrinsic
def all_near(typing: Any, x: Any) -> Any:
    """Whether every lane is at most `NEAR`; NaN is not."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.bitcast(builder.fcmp_ordered("<=", args[0], constant(NEAR)), ir.IntType(WIDTH))
        return builder.icmp_unsigned("==", bits, ir.Constant(ir.IntType(WIDTH), (1 << WIDTH) - 1))

    return types.boolean(LANES), codegen


@intrinsic
def row_sums(typing: Any, memory: Any, row: Any) -> Any:
    """Lane i is the sum over the lanes of row + i of `scratch` memory.

    Sums while it transposes: a pair of vectors becomes one, four times over, and no lane is idle.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        first = _row(context, builder, sig, args)

        def combine(start: int, step: int) -> ir.Value:
            """Rows start, start + step ...; lanes whose bits below `step` choose the row hold its partial sum."""
            if step == WIDTH:
                return builder.load(builder.gep(first, [ir.Constant(_I32, start)]), align=64)
            a, b = combine(start, 2 * step), combine(start + step, 2 * step)
            low = [(lane & ~step) + (WIDTH if lane & step else 0) for lane in range(WIDTH)]
            halves = [
                builder.shuffle_vector(a, b, ir.Constant(BITS, [ir.Constant(_I32, lane + side) for lane in low]))
                for side in (0, step)
            ]
            return builder.fadd(*halves)

        return combine(0, 1)

    return LANES(memory, row), codegen


@njit(forceinline=True)
def scratch(num_rows: int) -> np.ndarray:
    """Zeroed rows of `WIDTH` numbers, one behind the other, that start at a cache line.

    A register that straddles two lines would cost half the speed.
    """
    memory = np.zeros((num_rows + 1) * WIDTH, np.float32)
    first = (-(memory.ctypes.data // 4)) % WIDTH
    return memory[first : first + num_rows * WIDTH]
