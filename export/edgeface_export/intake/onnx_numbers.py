"""Whole numbers that a graph computes of the sizes of its maps, as exporters write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

__all__ = ["computed", "shape_of"]

_Array: TypeAlias = npt.NDArray[Any]

# Of a map whose pictures are not counted.
_ANY_COUNT = -1
# A shape has few numbers; more is no arithmetic on shapes.
_LARGEST = 64
_ARITHMETIC = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}


def shape_of(node: onnx.NodeProto, sides: Sequence[int]) -> _Array:
    """Return what the Shape node gives for maps of ``sides``, the number of maps being -1."""
    of = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    whole = np.array([_ANY_COUNT, *sides], np.int64)
    return whole[of.get("start", 0) : of.get("end", len(whole))]


def computed(node: onnx.NodeProto, inputs: Sequence[_Array]) -> _Array | None:
    """Return what ``node`` makes of whole numbers; None where it is no arithmetic on a few."""
    few = all(values.dtype.kind == "i" and values.size <= _LARGEST for values in inputs)
    if not inputs or not few:
        return None
    if node.op_type in _ARITHMETIC:
        # Of sizes that no graph has, whatever they overflow to.
        with np.errstate(all="ignore"):
            return np.asarray(_ARITHMETIC[node.op_type](*inputs))
    return _rearranged(node, *inputs)


def _rearranged(node: onnx.NodeProto, first: _Array, *others: _Array) -> _Array | None:
    of = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    match node.op_type:
        case "Gather":
            return np.asarray(np.take(first, others[0], axis=of.get("axis", 0)))
        case "Div":
            return np.asarray(first // others[0]) if others[0].all() else None
        case "Cast":
            return first if of["to"] in (TensorProto.INT32, TensorProto.INT64) else None
        case "Squeeze":
            return np.asarray(first.reshape(-1)[0])
        case "Unsqueeze":
            return first.reshape(-1)
        case "Concat":
            return np.concatenate([values.reshape(-1) for values in (first, *others)])
    return None
