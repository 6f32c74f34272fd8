"""Elementary functions on lanes: exponential, logarithm, sigmoid, softplus, to full float32 accuracy.

They are only callable from Numba-compiled code, as `ops.lanes` is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit
from numba.extending import intrinsic

from dehaze_bench.ops.lanes import (
    BITS,
    LANES,
    OPTIONS,
    VECTOR,
    WIDTH,
    add,
    call,
    constant,
    div,
    fma,
    fused,
    get,
    keep_apart,
    mul,
    put,
    splat,
    where_less,
    whole,
)

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
# log(1 + e) / e on [0, 1], highest power first: smallest maximum relative error (5e-9) with the value 1 at 0.
_LOG1P = (
    -0.003318474014661365,
    0.020204589273096936,
    -0.05766444754565446,
    0.1068055528766187,
    -0.15355395783689718,
    0.1969540020141565,
    -0.24958587318639025,
    0.33330511305683863,
    -0.49999932762878163,
    1.0,
)
_ROUNDER = 12582912.0  # 1.5 * 2**23: adding it rounds to an integer and leaves that integer in the low mantissa bits
_LOG2_E = np.float32(1.4426950408889634)


def _polynomial(builder: ir.IRBuilder, x: ir.Value, coefficients: tuple[float, ...]) -> ir.Value:
    result: ir.Value = constant(coefficients[0])
    for coefficient in coefficients[1:]:
        result = fused(builder, result, x, constant(coefficient))
    return result


def _add_exponent(builder: ir.IRBuilder, x: ir.Value, exponent: ir.Value) -> ir.Value:
    """x * 2**exponent, the low bits of an integer, where neither is out of range."""
    bits = builder.add(builder.bitcast(x, BITS), builder.shl(exponent, whole(23)))
    return builder.bitcast(bits, VECTOR)


@intrinsic
def exp2(typing: Any, x: Any) -> Any:
    """2**x to 1.2e-7 relative; x is clamped to [-126, 127], NaN stays NaN."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        low, high, rounder = constant(-126.0), constant(127.0), constant(_ROUNDER)
        x = builder.select(builder.fcmp_ordered("<", args[0], low), low, args[0])
        x = builder.select(builder.fcmp_ordered(">", x, high), high, x)
        rounded = builder.fadd(x, rounder)
        fraction = builder.fsub(x, builder.fsub(rounded, rounder))
        return _add_exponent(builder, _polynomial(builder, fraction, _EXP2), builder.bitcast(rounded, BITS))

    return LANES(LANES), codegen


@intrinsic
def exp2_near(typing: Any, x: Any) -> Any:
    """As `exp2`, to the bit, and a fifth faster, for |x| <= `NEAR`; undefined elsewhere."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rounded = call(builder, f"llvm.rint.v{WIDTH}f32", VECTOR, [args[0]])
        fraction = builder.fsub(args[0], rounded)
        return _add_exponent(builder, _polynomial(builder, fraction, _EXP2), builder.fptosi(rounded, BITS))

    return LANES(LANES), codegen


@intrinsic
def _log1p_over(typing: Any, e: Any) -> Any:
    """log(1 + e) / e for e in [0, 1]."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _polynomial(builder, args[0], _LOG1P)

    return LANES(LANES), codegen


@intrinsic
def _minus_abs(typing: Any, x: Any) -> Any:
    """-|x|."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(builder.or_(builder.bitcast(args[0], BITS), whole(-0x80000000)), VECTOR)

    return LANES(LANES), codegen


@njit(forceinline=True)
def sigmoid(x):  # type: ignore[no-untyped-def]
    """1 / (1 + exp(-x))."""
    one = splat(1.0)
    return div(one, add(one, exp2(mul(x, splat(-_LOG2_E)))))


@njit(forceinline=True)
def exp_minus(x):  # type: ignore[no-untyped-def]
    """exp(-|x|), what `softplus` and its slope are made of."""
    return exp2(mul(_minus_abs(x), splat(_LOG2_E)))


@njit(forceinline=True)
def softplus(x, e):  # type: ignore[no-untyped-def]
    """log(1 + exp(x)) with e = `exp_minus(x)`; above 20 this rounds to x. Accurate relative to its value everywhere."""
    return fma(_log1p_over(e), e, where_less(splat(0.0), x, x, splat(0.0)))


@njit(forceinline=True)
def softplus_slope(x, e):  # type: ignore[no-untyped-def]
    """The derivative of `softplus`, the sigmoid, with e = `exp_minus(x)`; above 20 this rounds to 1."""
    one = splat(1.0)
    return div(where_less(x, splat(0.0), e, one), add(one, e))


@njit(**OPTIONS)
def soften(memory, source, target, exps, stride, count):  # type: ignore[no-untyped-def]
    """Take the softplus of `count` rows, `stride` apart, and leave exp(-|x|) in others.

    Two loops: one chain of operations twice as long would have the processor wait for itself.
    """
    keep_apart()
    for t in range(count):
        put(memory, exps + t * stride, exp_minus(get(memory, source + t * stride)))
    for t in range(count):
        row = t * stride
        put(memory, target + row, softplus(get(memory, source + row), get(memory, exps + row)))
