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
    rules = (_domains, _parameters, _between, _sums, _weights, _biases)
    return [sentence for rule in rules for sentence in rule(model)]


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
            yield f"{node.name}: it has no zero point, so nothing says that its integers are INT8"
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
            kinds = [_kind(producers, name) for name in node.input]
            if kinds.count("DequantizeLinear") != 1:
                yield f"{node.name}: exactly its skip must be quantised, its inputs are {kinds}"
            elif "Conv" not in kinds and "Conv" in [_before(producers, n) for n in node.input]:
                yield f"{node.name}: its branch is quantised in place of its skip"


def _kind(producers: dict[str, onnx.NodeProto], tensor: str) -> str:
    return producers[tensor].op_type if tensor in producers else "input"


def _before(producers: dict[str, onnx.NodeProto], tensor: str) -> str:
    """Return the kind of node that made ``tensor`` before any Q/DQ pair."""
    while _kind(producers, tensor) in ("QuantizeLinear", "DequantizeLinear"):
        tensor = producers[tensor].input[0]
    return _kind(producers, tensor)


def _weights(model: onnx.ModelProto) -> Iterator[str]:
    shapes = {name: tuple(tensor.dims) for name, tensor in _constants(model).items()}
    producers = _producers(model)
    for node in model.graph.node:
        weight = producers.get(node.input[1]) if node.op_type in ("Conv", "Gemm") else None
        if weight is None or weight.op_type != "DequantizeLinear":
            continue
        channels, scales = (shapes.get(name) for name in weight.input[:2])
        if attribute_axis(weight) != 0:
            yield f"{node.name}: its weight must be quantised by output channel, axis 0"
        elif channels and scales is not None and scales != channels[:1]:
            yield (
                f"{node.name}: its weight must have one scale for each of {channels[0]} output "
                f"channels, got scales of shape {scales}"
            )


def _biases(model: onnx.ModelProto) -> Iterator[str]:
    constants, producers = _constants(model), _producers(model)
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm"):
            continue
        weight = producers.get(node.input[1])
        data = producers.get(node.input[0])
        if (weight is None) != (data is None or data.op_type != "DequantizeLinear"):
            yield f"{node.name}: only one of its input and its weight is quantised"
        if len(node.input) > 2 and node.input[2] not in constants:
            yield f"{node.name}: its bias is quantised; TensorRT wants it in float"


def attribute_axis(node: onnx.NodeProto) -> int:
    """Return the axis of a DequantizeLinear; ONNX's default is 1."""
    return next((int(a.i) for a in node.attribute if a.name == "axis"), 1)
