"""Writes a network as an ONNX graph that takes pictures and returns unit-length embeddings.

Input ``crops``: uint8 [n, height, width, 3] RGB. Output ``embeddings``: float32 [n, size], each row
of length 1; for a network of class scores ``scores``, each row of probabilities. Colour order,
mean, scale, layout and length are in the graph, so no caller can get them wrong. BatchNorm is
folded into the layer before it in float64. Opset 17 and IR version 8 are what TensorRT 10.3
(JetPack 6) and ONNX Runtime 1.13 already read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeface.errors import ArchitectureError
from edgeface.types import FloatArray
from edgeface_export.architectures.network import (
    INPUT,
    Add,
    BatchNorm,
    Conv,
    Flatten,
    Gate,
    GlobalAveragePool,
    Layer,
    Linear,
    Network,
    Output,
    PRelu,
    Preprocessing,
    Relu,
    Shape,
    Sigmoid,
    sources,
)
from edgeface_export.architectures.operations import Concat, Sum
from edgeface_export.graph.emit_operations import write_operation

__all__ = ["INPUT_NAME", "OPSET", "OUTPUT_NAME", "SCORES_NAME", "emit", "fold"]

INPUT_NAME, OUTPUT_NAME, SCORES_NAME = "crops", "embeddings", "scores"
OPSET, IR_VERSION = 17, 8
# Smallest length that is divided by: keeps an all-zero embedding zero instead of NaN, so that the
# runtime can refuse it. Float32 features of a trained net are 1e3 to 1e6 times larger.
_MIN_LENGTH = 1e-6


def fold(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return ``layers`` with each BatchNorm that follows a Conv or Linear folded into it.

    The folded layer takes the BatchNorm's place and keeps the convolution's name.

    Raises:
        ArchitectureError: A BatchNorm follows something that it cannot be folded into, or a
            convolution that is read by another layer as well.
    """
    by_name = {layer.name: layer for layer in layers}
    readers: dict[str, int] = {}
    for layer in layers:
        for source in sources(layer):
            readers[source] = readers.get(source, 0) + 1
    renamed: dict[str, str] = {}
    folded: dict[str, Layer] = {}
    for layer in layers:
        if isinstance(layer, BatchNorm):
            target = by_name[layer.input]
            if not isinstance(target, Conv | Linear) or readers[layer.input] != 1:
                raise ArchitectureError(
                    f"{layer.name}: no convolution of its own to be folded into"
                )
            folded[target.name] = _folded(target, folded[target.name], layer)
            renamed[layer.name] = target.name
        else:
            folded[layer.name] = _renamed(layer, renamed)
    return tuple(folded.values())


def _folded(original: Conv | Linear, current: Layer, norm: BatchNorm) -> Layer:
    scale, shift = norm.scale_and_shift()
    shape = (-1,) + (1,) * (original.weight.ndim - 1)
    weight = (original.weight.astype(np.float64) * scale.reshape(shape)).astype(np.float32)
    bias = 0.0 if original.bias is None else original.bias.astype(np.float64)
    new_bias = (bias * scale + shift).astype(np.float32)
    return replace(original, input=current.input, weight=weight, bias=new_bias)


def _renamed(layer: Layer, renamed: dict[str, str]) -> Layer:
    source = renamed.get(layer.input, layer.input)
    if isinstance(layer, Add | Gate):
        return replace(layer, input=source, skip=renamed.get(layer.skip, layer.skip))
    if isinstance(layer, Concat | Sum):
        others = tuple(renamed.get(name, name) for name in layer.others)
        return replace(layer, input=source, others=others)
    return replace(layer, input=source)


def emit(network: Network, *, name: str, layers: Sequence[Layer] | None = None) -> onnx.ModelProto:
    """Return ``network`` as a checked ONNX model whose graph is called ``name``.

    ``layers`` are folded layers to write in place of the network's own.
    """
    graph = _Graph()
    graph.preprocessing(network.preprocessing)
    layers = fold(network.layers) if layers is None else layers
    for layer in layers:
        graph.layer(layer, network.shapes[layer.input])
    rows_name = graph.head(network.output, layers[-1].name)
    size = network.crop_size
    crops = helper.make_tensor_value_info(
        INPUT_NAME, TensorProto.UINT8, ["n", size.height_px, size.width_px, 3]
    )
    rows = helper.make_tensor_value_info(
        rows_name, TensorProto.FLOAT, ["n", network.embedding_size]
    )
    model = helper.make_model(
        helper.make_graph(graph.nodes, name, [crops], [rows], graph.initializers),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="edgeface",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


class _Graph:
    """Collects nodes and initialisers; every node is named after its layer."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def node(self, kind: str, inputs: Sequence[str], name: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, name: str, values: FloatArray) -> str:
        array = np.array(values, np.float32, order="C")
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def preprocessing(self, spec: Preprocessing) -> None:
        order = slice(None) if spec.colour_order == "RGB" else slice(None, None, -1)
        x = self.node("Cast", [INPUT_NAME], "pixels", to=TensorProto.FLOAT)
        x = self.node("Transpose", [x], "channels_first", perm=[0, 3, 1, 2])
        mean = np.asarray(spec.mean[order], np.float32).reshape(1, 3, 1, 1)
        scale = np.asarray(spec.scale[order], np.float64).reshape(1, 3, 1, 1)
        x = self.node("Sub", [x, self.constant("mean", mean)], "centred")
        self.node("Mul", [x, self.constant("inverse_scale", (1 / scale).astype(np.float32))], INPUT)
        # A BGR net reads its channels backwards: its first convolution is turned round instead of
        # the picture, in `layer`, so the graph does no work for it.
        self._swap_first = spec.colour_order == "BGR"

    def integers(self, name: str, values: Sequence[int]) -> str:
        self.initializers.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def layer(self, layer: Layer, shape: Shape) -> None:
        match layer:
            case Conv():
                self._conv(layer)
            case Linear():
                self._linear(layer)
            case PRelu():
                form = (-1,) + (1,) * (len(shape) - 1)
                slope = self.constant(f"{layer.name}.slope", layer.slope.reshape(form))
                self.node("PRelu", [layer.input, slope], layer.name)
            case Relu():
                self._relu(layer)
            case BatchNorm():
                raise ArchitectureError(f"{layer.name}: BatchNorm was not folded")
            case Add() | Flatten() | GlobalAveragePool() | Sigmoid() | Gate():
                self._untrained(layer)
            case _:
                write_operation(self, layer, shape)

    def _untrained(self, layer: Add | Flatten | GlobalAveragePool | Sigmoid | Gate) -> None:
        match layer:
            case Add():
                self.node("Add", [layer.skip, layer.input], layer.name)
            case Gate():
                self.node("Mul", [layer.input, layer.skip], layer.name)
            case Flatten():
                self.node("Flatten", [layer.input], layer.name, axis=1)
            case GlobalAveragePool() | Sigmoid():
                self.node(type(layer).__name__, [layer.input], layer.name)

    def _linear(self, layer: Linear) -> None:
        weight = self.constant(f"{layer.name}.weight", layer.weight)
        bias = [] if layer.bias is None else [self.constant(f"{layer.name}.bias", layer.bias)]
        self.node("Gemm", [layer.input, weight, *bias], layer.name, transB=1)

    def _relu(self, layer: Relu) -> None:
        if layer.ceiling is None:
            self.node("Relu", [layer.input], layer.name)
            return
        floor = self.constant(f"{layer.name}.floor", np.zeros((), np.float32))
        ceiling = self.constant(f"{layer.name}.ceiling", np.array(layer.ceiling, np.float32))
        self.node("Clip", [layer.input, floor, ceiling], layer.name)

    def _conv(self, layer: Conv) -> None:
        weights = layer.weight
        if self._swap_first and layer.input == INPUT:
            weights = weights[:, ::-1]
        inputs = [layer.input, self.constant(f"{layer.name}.weight", weights)]
        if layer.bias is not None:
            inputs.append(self.constant(f"{layer.name}.bias", layer.bias))
        self.node(
            "Conv",
            inputs,
            layer.name,
            kernel_shape=list(layer.weight.shape[2:]),
            strides=[layer.stride] * 2,
            pads=[*layer.pads, *layer.pads],
            group=layer.groups,
        )

    def head(self, output: Output, features: str) -> str:
        if output is Output.CLASS_SCORES:
            return self.node("Softmax", [features], SCORES_NAME, axis=1)
        self.unit_length(features)
        return OUTPUT_NAME

    def unit_length(self, features: str) -> None:
        length = self.node("ReduceL2", [features], "length", axes=[1], keepdims=1)
        floor = self.constant("min_length", np.array([_MIN_LENGTH], np.float32))
        length = self.node("Max", [length, floor], "safe_length")
        self.node("Div", [features, length], OUTPUT_NAME)
