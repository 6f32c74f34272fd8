"""Forty-eight float32 channels as one value inside Numba code, so that speed does not hang on the auto-vectoriser.

A `Lanes` value is three of LLVM's `<16 x float>`: three AVX-512 registers, six of AVX2, twelve of NEON. Three
independent chains hide the latency of one, and most published channel counts are multiples of 48. The functions below
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

PART = 16  # one cache line
NUM_PARTS = 3
WIDTH = PART * NUM_PARTS

_F32 = ir.FloatType()
_I32 = ir.IntType(32)
_VECTOR = ir.VectorType(_F32, PART)
_BITS = ir.VectorType(_I32, PART)
_LANES = ir.ArrayType(_VECTOR, NUM_PARTS)

# 2**f on [-1/2, 1/2], highest power first: weighted least squares driven to the smallest maximum relative error (2e-9
# before rounding) with 2**0 = 1 exactly, because decays near 1 are multiplied many times over.
_EXP2 = (
    1.5353361863535263e-4,
    1.339887478503637e-3,
    9.618437360874872e-3,
    5.550332470157655e-2,
    0.24022647913573203,
    0.6931472028555455,
    1.0,
)
_ROUNDER = 12582912.0  # 1.5 * 2**23: adding it rounds to an integer and leaves that integer in the low mantissa bits

_DIGEST = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]


class LanesType(types.Type):
    """The type of such a value."""

    def __init__(self) -> None:
        super().__init__(name=f"Lanes{WIDTH}")


LANES = LanesType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _LANES)


def compile_kernel(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit` for one signature, without the GIL, cached on disk where a cache folder can be written."""

    def decorate(function: Callable[..., Any]) -> Any:
        # Numba's cache watches the kernel's own file; its name, made of the qualified name, must know this file too.
        function.__qualname__ += f"-{_DIGEST}"
        options = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
        try:
            return njit(signature, cache=True, **options)(function)
        except RuntimeError as error:  # no writable cache folder
            logging.getLogger(__name__).debug("numba cache off: %s", error)
            return njit(signature, **options)(function)

    return decorate


def _each(builder: ir.IRBuilder, operation: Callable[..., ir.Value], *values: ir.Value) -> ir.Value:
    """Apply an operation on `<16 x float>` to every part: one after the other, so that their chains interleave."""
    result = ir.Constant(_LANES, ir.Undefined)
    for part in range(NUM_PARTS):
        piece = operation(*[builder.extract_value(value, part) for value in values])
        result = builder.insert_value(result, piece, part)
    return result


def _constant(value: float) -> ir.Constant:
    return ir.Constant(_VECTOR, [ir.Constant(_F32, float(np.float32(value)))] * PART)


def _splat(builder: ir.IRBuilder, value: ir.Value, vector: ir.VectorType) -> ir.Value:
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(_BITS, [ir.Constant(_I32, 0)] * PART))


def _call(builder: ir.IRBuilder, name: str, result: ir.Type, args: list[ir.Value]) -> ir.Value:
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


def _fma(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    return _call(builder, f"llvm.fmuladd.v{PART}f32", _VECTOR, [a, b, c])


def _pointers(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> list[ir.Value]:
    """Where each part of array[index] begins; args are (array, index, ...)."""
    array_type, index_type = sig.args[:2]
    array = context.make_array(array_type)(context, builder, args[0])
    numbers = cgutils.unpack_tuple(builder, args[1], count=len(index_type))
    numbers = [context.cast(builder, n, kind, types.intp) for n, kind in zip(numbers, index_type, strict=True)]
    first = cgutils.get_item_pointer(context, builder, array_type, array, numbers, wraparound=False)
    base = builder.bitcast(first, _VECTOR.as_pointer())
    return [builder.gep(base, [ir.Constant(_I32, part)]) for part in range(NUM_PARTS)]


def _masks(context: Any, builder: ir.IRBuilder, kind: Any, count: ir.Value) -> list[ir.Value]:
    """Which lanes of each part are among the first `count`."""
    limit = _splat(builder, context.cast(builder, count, kind, types.int32), _BITS)
    numbers = [[ir.Constant(_I32, part * PART + lane) for lane in range(PART)] for part in range(NUM_PARTS)]
    return [builder.icmp_signed("<", ir.Constant(_BITS, lanes), limit) for lanes in numbers]


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """`WIDTH` neighbours from array[index] on."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        result = ir.Constant(_LANES, ir.Undefined)
        for part, pointer in enumerate(_pointers(context, builder, sig, args)):
            result = builder.insert_value(result, builder.load(pointer, align=4), part)
        return result

    return LANES(array, index), codegen


@intrinsic
def store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Write `WIDTH` neighbours from array[index] on."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        for part, pointer in enumerate(_pointers(context, builder, sig, args)):
            builder.store(builder.extract_value(args[2], part), pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, index, LANES), codegen


@intrinsic
def load_first(typing: Any, array: Any, index: Any, count: Any) -> Any:
    """As `load` for lanes 0 .. count-1; the others are not read and hold 0."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        result = ir.Constant(_LANES, ir.Undefined)
        masks = _masks(context, builder, sig.args[2], args[2])
        for part, pointer in enumerate(_pointers(context, builder, sig, args)):
            operands = [pointer, ir.Constant(_I32, 4), masks[part], _constant(0.0)]
            piece = _call(builder, f"llvm.masked.load.v{PART}f32.p0", _VECTOR, operands)
            result = builder.insert_value(result, piece, part)
        return result

    return LANES(array, index, count), codegen


@intrinsic
def store_first(typing: Any, array: Any, index: Any, value: Any, count: Any) -> Any:
    """As `store` for lanes 0 .. count-1; other memory is not touched."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        masks = _masks(context, builder, sig.args[3], args[3])
        for part, pointer in enumerate(_pointers(context, builder, sig, args)):
            operands = [builder.extract_value(args[2], part), pointer, ir.Constant(_I32, 4), masks[part]]
            _call(builder, f"llvm.masked.store.v{PART}f32.p0", ir.VoidType(), operands)
        return context.get_dummy_value()

    return types.void(array, index, LANES, count), codegen


def _prefetch(num_lines: int, write: int) -> Any:
    @intrinsic
    def operation(typing: Any, array: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            hints = [ir.Constant(_I32, value) for value in (write, 3, 1)]  # 3: keep in all levels, 1: data
            for pointer in _pointers(context, builder, sig, args)[:num_lines]:
                _call(builder, "llvm.prefetch.p0", ir.VoidType(), [pointer, *hints])
            return context.get_dummy_value()

        return types.void(array, index), codegen

    return operation


# Ask for the cache lines from array[index] on; these never fault.
prefetch_line = _prefetch(1, write=0)
prefetch_read = _prefetch(NUM_PARTS, write=0)
prefetch_write = _prefetch(NUM_PARTS, write=1)


@intrinsic
def splat(typing: Any, value: Any) -> Any:
    """The same number in every lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        same = _splat(builder, context.cast(builder, args[0], sig.args[0], types.float32), _VECTOR)
        return _each(builder, lambda: same)

    return LANES(value), codegen


def _binary(method: str) -> Any:
    @intrinsic
    def operation(typing: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return _each(builder, getattr(builder, method), *args)

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
        return _each(builder, lambda *parts: _fma(builder, *parts), *args)

    return LANES(LANES, LANES, LANES), codegen


@intrinsic
def where_less(typing: Any, a: Any, b: Any, then: Any, otherwise: Any) -> Any:
    """Per lane: then where a < b, else otherwise (also where a or b is NaN)."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def choose(a: Any, b: Any, then: Any, otherwise: Any) -> Any:
            return builder.select(builder.fcmp_ordered("<", a, b), then, otherwise)

        return _each(builder, choose, *args)

    return LANES(LANES, LANES, LANES, LANES), codegen


@intrinsic
def exp2(typing: Any, x: Any) -> Any:
    """2**x to 1.2e-7 relative; x is clamped to [-126, 127], NaN stays NaN."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        low, high, rounder = _constant(-126.0), _constant(127.0), _constant(_ROUNDER)
        shift = ir.Constant(_BITS, [ir.Constant(_I32, 23)] * PART)
        x = _each(builder, lambda x: builder.select(builder.fcmp_ordered("<", x, low), low, x), args[0])
        x = _each(builder, lambda x: builder.select(builder.fcmp_ordered(">", x, high), high, x), x)
        rounded = _each(builder, lambda x: builder.fadd(x, rounder), x)
        fraction = _each(builder, lambda x, r: builder.fsub(x, builder.fsub(r, rounder)), x, rounded)
        result = _each(builder, lambda: _constant(_EXP2[0]))
        for coefficient in _EXP2[1:]:
            step = _constant(coefficient)
            result = _each(builder, lambda p, f, c=step: _fma(builder, p, f, c), result, fraction)

        def scale(power: Any, r: Any) -> Any:
            exponent = builder.shl(builder.bitcast(r, _BITS), shift)
            return builder.bitcast(builder.add(builder.bitcast(power, _BITS), exponent), _VECTOR)

        return _each(builder, scale, result, rounded)

    return LANES(LANES), codegen


@intrinsic
def total(typing: Any, x: Any) -> Any:
    """The sum over lanes."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        summed = builder.extract_value(args[0], 0)
        for part in range(1, NUM_PARTS):
            summed = builder.fadd(summed, builder.extract_value(args[0], part))
        kind = ir.FunctionType(_F32, [_F32, _VECTOR])
        reduce = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{PART}f32")
        return builder.call(reduce, [ir.Constant(_F32, -0.0), summed], fastmath=("reassoc",))

    return types.float32(LANES), codegen


@njit(forceinline=True)
def scratch(num_rows: int) -> np.ndarray:
    """Zeroed rows of lanes that start at a cache line: a register that straddles two lines costs half the speed."""
    flat = np.zeros((num_rows + 1) * WIDTH, np.float32)
    first = (-(flat.ctypes.data // 4)) % PART
    return flat[first : first + num_rows * WIDTH].reshape(num_rows, WIDTH)
