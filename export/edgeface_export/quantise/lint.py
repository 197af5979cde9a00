"""Names every way in which a Q/DQ graph breaks the rules that TensorRT's parser and fuser set."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

__all__ = ["lint"]

_ACTIVATIONS = ("PRelu", "Relu", "Clip", "LeakyRelu")


def lint(model: onnx.ModelProto) -> list[str]:
    """Return one sentence for each violation in ``model``; an empty list when it is clean."""
    return [*_domains(model), *_parameters(model), *_between(model), *_sums(model), *_biases(model)]


def _constants(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in model.graph.initializer}


def _producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {output: node for node in model.graph.node for output in node.output}


def _domains(model: onnx.ModelProto) -> Iterator[str]:
    for entry in model.opset_import:
        if entry.domain not in ("", "ai.onnx"):
            yield f"operator set of domain {entry.domain!r}: TensorRT knows only the standard one"


def _parameters(model: onnx.ModelProto) -> Iterator[str]:
    constants = _constants(model)
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        if any(name not in constants for name in node.input[1:]):
            yield f"{node.name}: its scale or zero point is not a constant"
            continue
        scale = numpy_helper.to_array(constants[node.input[1]])
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            yield f"{node.name}: its scale must be finite and positive"
        if len(node.input) < 3:
            continue
        zero = numpy_helper.to_array(constants[node.input[2]])
        if zero.dtype != np.int8 or zero.any():
            yield f"{node.name}: its zero point must be INT8 zero (symmetric), got {zero.dtype}"


def _between(model: onnx.ModelProto) -> Iterator[str]:
    producers = _producers(model)
    for node in model.graph.node:
        source = producers.get(node.input[0]) if node.input else None
        if node.op_type in _ACTIVATIONS and source and source.op_type == "DequantizeLinear":
            yield f"{node.name}: a Q/DQ pair stands between it and the layer before it"


def _sums(model: onnx.ModelProto) -> Iterator[str]:
    producers = _producers(model)
    if not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        return
    for node in model.graph.node:
        if node.op_type == "Add":
            kinds = [producers[name].op_type for name in node.input if name in producers]
            if kinds.count("DequantizeLinear") != 1:
                yield f"{node.name}: exactly its skip must be quantised, its inputs are {kinds}"


def _biases(model: onnx.ModelProto) -> Iterator[str]:
    constants, producers = _constants(model), _producers(model)
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm"):
            continue
        weight = producers.get(node.input[1])
        data = producers.get(node.input[0])
        if (weight is None) != (data is None or data.op_type != "DequantizeLinear"):
            yield f"{node.name}: only one of its input and its weight is quantised"
        if weight is not None and attribute_axis(weight) != 0:
            yield f"{node.name}: its weight must be quantised by output channel, axis 0"
        if len(node.input) > 2 and node.input[2] not in constants:
            yield f"{node.name}: its bias is quantised; TensorRT wants it in float"


def attribute_axis(node: onnx.NodeProto) -> int:
    """Return the axis of a DequantizeLinear; ONNX's default is 1."""
    return next((int(a.i) for a in node.attribute if a.name == "axis"), 1)
