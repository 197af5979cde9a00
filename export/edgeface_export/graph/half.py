"""Rewrites a float32 graph so that its arithmetic is float16, for engines that obey the graph.

TensorRT 11 takes the precision of every layer from the graph. Float16 begins at the input of the
first layer with weights and ends after the last: the picture is normalised and the embedding
brought to unit length in float32, because 255 steps of a channel and a sum of squares need more
than the 11 bits of float16. Q/DQ pairs between the two keep INT8 and get float16 scales, which
operator set 19 introduced.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference, version_converter

from edgeface.errors import InvalidInputError

__all__ = ["HALF_OPSET", "to_half"]

HALF_OPSET = 19
"""The first operator set with float16 scales of Q/DQ pairs; TensorRT 10.3 reads it."""

_WEIGHTED = ("Conv", "Gemm", "MatMul")
_FLOAT, _HALF = TensorProto.FLOAT, TensorProto.FLOAT16
_LARGEST = float(np.finfo(np.float16).max)
# Below the first, float16 loses digits, and the INT8 values are rounded again to make up for it.
# Below the second too few are left; scales that small belong to dead channels.
_EXACT_SCALE = np.float32(np.finfo(np.float16).smallest_normal)
_SMALLEST_SCALE = np.float32(2.0**-18)


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return ``model`` with float16 arithmetic from its first to its last weighted layer.

    Inputs and outputs keep their types. INT8 weights whose scale float16 cannot hold exactly enough
    are rounded again for one that it can.

    Raises:
        InvalidInputError: The model has no weighted layer, a weight or the scale of an activation
            is outside of what float16 can hold, or it has another type of graph than edgeface
            exports.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    if any(node.op_type == "DequantizeLinear" for node in model.graph.node):
        result = version_converter.convert_version(result, HALF_OPSET)
    _Halver(result).rewrite()
    onnx.checker.check_model(result, full_check=True)
    return result


class _Halver:
    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        inferred = shape_inference.infer_shapes(model, strict_mode=True).graph
        known = (*inferred.value_info, *inferred.input, *inferred.output)
        self._types = {entry.name: entry.type.tensor_type.elem_type for entry in known}
        self._constants = {tensor.name: tensor for tensor in self._graph.initializer}
        self._inside = self._half_nodes()
        # Which tensors exist as float16: made by a node inside, or cast for one.
        self._half_made = {
            name for node in self._inside for name in node.output if self._is_float(name)
        }
        self._cast: set[str] = set()
        self._added: list[onnx.TensorProto] = []

    def _half_nodes(self) -> list[onnx.NodeProto]:
        nodes = list(self._graph.node)
        weighted = [k for k, node in enumerate(nodes) if node.op_type in _WEIGHTED]
        if not weighted:
            raise InvalidInputError("the model has no layer with weights to compute in float16")
        first = weighted[0]
        # The pairs of the first layer's input and weight belong to it.
        while first and nodes[first - 1].op_type in ("QuantizeLinear", "DequantizeLinear"):
            first -= 1
        return nodes[first : weighted[-1] + 1]

    def _is_float(self, name: str) -> bool:
        if name in self._constants:
            return bool(self._constants[name].data_type == _FLOAT)
        return bool(self._types.get(name) == _FLOAT)

    def rewrite(self) -> None:
        inside = {node.name for node in self._inside}
        nodes: list[onnx.NodeProto] = []
        for node in self._graph.node:
            half = node.name in inside
            if half and node.op_type == "DequantizeLinear":
                self._raise_small_scales(node)
            for k, name in enumerate(node.input):
                node.input[k] = self._read(name, nodes, half=half)
            nodes.append(node)
            for k, name in enumerate(node.output):
                if half and self._is_float(name):
                    node.output[k] = _half_name(name)
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        del self._graph.value_info[:]
        self._collect_constants()

    def _read(self, name: str, nodes: list[onnx.NodeProto], *, half: bool) -> str:
        """Return the name under which a node may read the tensor; a cast is put before it."""
        if not name or not self._is_float(name):
            return name
        if name in self._constants:
            return self._half_constant(name) if half else name
        if half == (name in self._half_made):
            return _half_name(name) if half else name
        target = _half_name(name) if half else name
        if target not in self._cast:
            self._cast.add(target)
            source = name if half else _half_name(name)
            kind = _HALF if half else _FLOAT
            nodes.append(
                helper.make_node("Cast", [source], [target], name=f"{target}.cast", to=kind)
            )
        return target

    def _half_constant(self, name: str) -> str:
        target = _half_name(name)
        if target not in self._cast:
            self._cast.add(target)
            values = numpy_helper.to_array(self._constants[name])
            self._added.append(numpy_helper.from_array(_halved(values, name), target))
        return target

    def _raise_small_scales(self, node: onnx.NodeProto) -> None:
        """Write a layer's INT8 weights again where float16 cannot hold their scale."""
        name, scale_name = node.input[0], node.input[1]
        scales = numpy_helper.to_array(self._constants[scale_name])
        small = scales < _EXACT_SCALE
        if not small.any():
            return
        if name not in self._constants:
            raise InvalidInputError(f"{node.name}: its scale {scales} is too small for float16")
        steps = numpy_helper.to_array(self._constants[name]).astype(np.float32)
        wanted = np.where(small, np.maximum(_rounded_up(scales), _SMALLEST_SCALE), scales)
        ratio = (scales / wanted).reshape(-1, *(1,) * (steps.ndim - 1))
        again = np.rint(steps * ratio).astype(np.int8)
        self._constants[name].CopyFrom(numpy_helper.from_array(again, name))
        self._constants[scale_name].CopyFrom(
            numpy_helper.from_array(wanted.astype(np.float32), scale_name)
        )

    def _collect_constants(self) -> None:
        used = {name for node in self._graph.node for name in node.input}
        outputs = {entry.name for entry in self._graph.output}
        made = {name for node in self._graph.node for name in node.output}
        for name in sorted(outputs - made):
            # The last weighted layer is the output itself: it is cast back to what was promised.
            self._graph.node.append(
                helper.make_node("Cast", [_half_name(name)], [name], name=f"{name}.cast", to=_FLOAT)
            )
        kept = [t for t in [*self._graph.initializer, *self._added] if t.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)


def _rounded_up(scales: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the float16 value at or above each of ``scales``, so that no INT8 value grows."""
    nearest = scales.astype(np.float16)
    above = np.nextafter(nearest, np.float16(np.inf))
    return np.where(nearest.astype(np.float32) < scales, above, nearest).astype(np.float32)


def _half_name(name: str) -> str:
    return f"{name}.half"


def _halved(values: npt.NDArray[np.generic], name: str) -> npt.NDArray[np.float16]:
    if float(np.abs(values).max(initial=0)) > _LARGEST:
        raise InvalidInputError(f"{name} holds values above {_LARGEST:g}, too large for float16")
    return values.astype(np.float16)
