"""Four float32 at once in compiled code, and how functions are compiled.

What numba keeps on disk is renewed where the file of a function changes. Functions of other files
have these and BLOCK built in: after a change here, remove `__pycache__/*.nbi` beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, models, register_model

BLOCK = 128
"""The most pixels of a row that a tile has, which are worked on together."""


Kernel = Callable[..., Any]


def compiled(function: Kernel) -> Kernel:
    """Compile a function at its first call, and keep it on disk where numba finds a place to."""
    settings: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        kernel: Kernel = njit(cache=True, **settings)(function)
    except RuntimeError:  # neither the package nor the user's cache can be written
        kernel = njit(**settings)(function)
    return kernel


class _Lanes(types.Type):
    """Four float32 side by side."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


_LANES = _Lanes()
_FOUR = ir.VectorType(ir.FloatType(), 4)
_INDEX = ir.IntType(64)


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: types.Type) -> None:
        super().__init__(manager, kind, _FOUR)


def _row_of(context: Any, builder: ir.IRBuilder, kind: types.Array, array: Any, row: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    at = builder.gep(data, [builder.shl(row, ir.Constant(_INDEX, 2))])
    return builder.bitcast(at, _FOUR.as_pointer())


@intrinsic
def load(context, array, row):
    """Return row `row` of a float32 [rows, 4]."""

    def code(context, builder, signature, given):
        lanes = builder.load(_row_of(context, builder, signature.args[0], *given))
        lanes.align = 4
        return lanes

    return _LANES(array, types.int64), code


@intrinsic
def store(context, array, row, lanes):
    """Write row `row` of a float32 [rows, 4]."""

    def code(context, builder, signature, given):
        at = _row_of(context, builder, signature.args[0], *given[:2])
        builder.store(given[2], at, align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, lanes), code


@intrinsic
def zero(context):
    """Return four zeros."""
    return _LANES(), lambda context, builder, signature, given: ir.Constant(_FOUR, [0.0] * 4)


@intrinsic
def add(context, total, scale, lanes):
    """Return total + scale x lanes."""

    def code(context, builder, signature, given):
        undefined, zero = ir.Constant(_FOUR, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        one = builder.insert_element(undefined, given[1], zero)
        places = ir.Constant(ir.VectorType(ir.IntType(32), 4), [0] * 4)
        scales = builder.shuffle_vector(one, undefined, places)
        return builder.fadd(given[0], builder.fmul(scales, given[2]))

    return _LANES(total, types.float32, lanes), code
