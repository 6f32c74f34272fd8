"""The exponential in float64 for Numba loops: no calls and no branches, so that the loops around it vectorise."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

from dehaze_bench.ops import lanes

LOG2_E = math.log2(math.e)
ROUNDER = 1.5 * 2.0**52  # adding it rounds to an integer and leaves that integer in the low mantissa bits
POWERS = tuple(math.log(2.0) ** power / math.factorial(power) for power in range(12))  # 2**f, |f| <= 1/2: 1e-14

_DIGEST = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]


def compile_kernel(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """As `lanes.compile_kernel`, but the cached kernel is also made anew when this file changes."""

    def decorate(function: Callable[..., Any]) -> Any:
        function.__qualname__ += f"-{_DIGEST}"
        return lanes.compile_kernel(signature)(function)

    return decorate


@intrinsic
def read_bits(typing: Any, x: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(64))

    return types.int64(types.float64), codegen


@intrinsic
def make_float(typing: Any, bits: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), codegen


@njit(forceinline=True, fastmath={"contract"})
def exp(x):  # type: ignore[no-untyped-def]
    """e**x for x <= 0 or moderate, to 1e-14 relative, without a call: libm's would keep the loop scalar."""
    y = x * LOG2_E
    y = -1020.0 if y < -1020.0 else y  # in this form NaN stays NaN
    y = 1020.0 if y > 1020.0 else y
    rounded = y + ROUNDER
    f = y - (rounded - ROUNDER)
    p = POWERS[11]
    p = p * f + POWERS[10]
    p = p * f + POWERS[9]
    p = p * f + POWERS[8]
    p = p * f + POWERS[7]
    p = p * f + POWERS[6]
    p = p * f + POWERS[5]
    p = p * f + POWERS[4]
    p = p * f + POWERS[3]
    p = p * f + POWERS[2]
    p = p * f + POWERS[1]
    p = p * f + 1.0
    return make_float(read_bits(p) + (read_bits(rounded) << 52))


@njit(forceinline=True, fastmath={"contract"})
def exp_bounded(x):  # type: ignore[no-untyped-def]
    """e**x for |x| < 700, to 1e-11 relative and in two thirds of the time; NaN stays NaN."""
    y = x * LOG2_E
    rounded = y + ROUNDER
    f = y - (rounded - ROUNDER)
    p = POWERS[9]
    p = p * f + POWERS[8]
    p = p * f + POWERS[7]
    p = p * f + POWERS[6]
    p = p * f + POWERS[5]
    p = p * f + POWERS[4]
    p = p * f + POWERS[3]
    p = p * f + POWERS[2]
    p = p * f + POWERS[1]
    p = p * f + 1.0
    return make_float(read_bits(p) + (read_bits(rounded) << 52))
