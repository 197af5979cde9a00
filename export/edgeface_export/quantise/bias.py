"""Bias correction: takes the mean error of an INT8 layer out of its bias, which stays float.

Rounding the weights of a channel shifts its output by (W_int8 - W) E[x], clipping its input
shifts it too; neither averages out (Nagel et al., ICCV 2019, section 4.3). Each INT8 layer is run
beside its float original on the original's input, all of them in one pass over the pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgeface.types import FloatArray, ImageArray
from edgeface_export.graph.session import EmbeddingSession
from edgeface_export.quantise.placement import Placement
from edgeface_export.quantise.ranges import BATCH

__all__ = ["correct_biases", "mean_errors"]


def mean_errors(
    model: onnx.ModelProto,
    quantised: onnx.ModelProto,
    placement: Placement,
    crops: ImageArray,
    *,
    progress: Callable[[Iterable[ImageArray]], Iterable[ImageArray]] = iter,
) -> dict[str, FloatArray]:
    """Return the mean error of each channel of each INT8 convolution, by node.

    ``quantised`` is the Q/DQ form of ``model``. The error is INT8 minus float, over positions and
    (n, height, width, 3) uint8 ``crops``, with the float layer's input.
    """
    nodes = [name for name in placement.nodes if _is_conv(model, name)]
    outputs = [f"{name}.mean_error" for name in nodes]
    session = EmbeddingSession(_side_by_side(model, quantised, nodes, outputs), outputs=outputs)
    sums = dict.fromkeys(nodes, np.zeros(1, np.float64))
    batches = [crops[k : k + BATCH] for k in range(0, len(crops), BATCH)]
    for batch in progress(batches):
        for name, means in zip(nodes, session.run(batch), strict=True):
            sums[name] = sums[name] + means.astype(np.float64) * len(batch)
    return {name: (total / len(crops)).astype(np.float32) for name, total in sums.items()}


def correct_biases(quantised: onnx.ModelProto, errors: Mapping[str, FloatArray]) -> onnx.ModelProto:
    """Return ``quantised`` with the mean error of each node taken out of its bias."""
    result = onnx.ModelProto()
    result.CopyFrom(quantised)
    constants = {tensor.name: tensor for tensor in result.graph.initializer}
    for node in result.graph.node:
        if node.name in errors and len(node.input) > 2:
            tensor = constants[node.input[2]]
            bias = numpy_helper.to_array(tensor) - errors[node.name]
            tensor.CopyFrom(numpy_helper.from_array(bias.astype(np.float32), tensor.name))
    return result


def _is_conv(model: onnx.ModelProto, name: str) -> bool:
    return any(node.name == name and node.op_type == "Conv" for node in model.graph.node)


def _side_by_side(
    model: onnx.ModelProto, quantised: onnx.ModelProto, nodes: list[str], outputs: list[str]
) -> onnx.ModelProto:
    """Return ``model`` with the INT8 form of each of ``nodes`` fed by the same float tensor."""
    both = onnx.ModelProto()
    both.CopyFrom(model)
    graph = both.graph
    copied = _Copier(both, quantised)
    by_name = {node.name: node for node in quantised.graph.node}
    for name, output in zip(nodes, outputs, strict=True):
        twin = onnx.NodeProto()
        twin.CopyFrom(by_name[name])
        for source in twin.input[:2]:
            copied.copy(source)
        twin.name = twin.output[0] = f"{name}.int8"
        difference = f"{name}.error"
        graph.node.append(twin)
        graph.node.append(helper.make_node("Sub", [twin.name, name], [difference]))
        graph.node.append(
            helper.make_node("ReduceMean", [difference], [output], axes=[0, 2, 3], keepdims=0)
        )
    del graph.output[:]
    graph.output.extend(
        helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None) for output in outputs
    )
    return both


class _Copier:
    """Copies the Q/DQ nodes and constants that a tensor of one graph needs into another."""

    def __init__(self, target: onnx.ModelProto, source: onnx.ModelProto) -> None:
        self._graph = target.graph
        self._makers = {output: node for node in source.graph.node for output in node.output}
        self._constants = {tensor.name: tensor for tensor in source.graph.initializer}
        self._done = {tensor.name for tensor in target.graph.initializer}

    def copy(self, tensor: str) -> None:
        maker = self._makers.get(tensor)
        if tensor in self._done:
            return
        self._done.add(tensor)
        if maker is not None and maker.op_type in ("QuantizeLinear", "DequantizeLinear"):
            for source in maker.input:
                self.copy(source)
            self._graph.node.append(maker)
        elif tensor in self._constants:
            self._graph.initializer.append(self._constants[tensor])
