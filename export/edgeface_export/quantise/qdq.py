"""Puts QuantizeLinear and DequantizeLinear pairs into a float graph."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from edgeface.errors import InvalidInputError
from edgeface_export.quantise.placement import Placement
from edgeface_export.quantise.ranges import TensorRange

__all__ = ["insert_qdq", "quantise_weight"]


def quantise_weight(
    weight: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Return (INT8 values, scales): symmetric, one scale for each output channel (axis 0)."""
    magnitudes = np.abs(weight.reshape(len(weight), -1)).max(1)
    scales = (magnitudes / np.float32(127.0)).astype(np.float32)
    # A channel of zeros, or of numbers so small that their step is no normal float32, has no scale
    # of its own; 1 makes it zero and stays finite.
    scales = np.where(scales >= np.finfo(np.float32).tiny, scales, np.float32(1.0))
    steps = weight / scales.reshape(-1, *(1,) * (weight.ndim - 1))
    return np.clip(np.rint(steps), -127, 127).astype(np.int8), scales


def insert_qdq(
    model: onnx.ModelProto, placement: Placement, ranges: Mapping[str, TensorRange]
) -> onnx.ModelProto:
    """Return ``model`` with the pairs of ``placement``, one for each tensor, shared by its readers.

    Weights are stored as INT8 with a DequantizeLinear only; biases stay float.

    Raises:
        InvalidInputError: A tensor of the placement has no finite, positive range.
    """
    for name in placement.tensors:
        scale = ranges[name].scale if name in ranges else float("nan")
        if not (np.isfinite(scale) and scale > 0):
            raise InvalidInputError(f"tensor {name!r} has no usable range: {ranges.get(name)}")
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = _Rewriter(result, placement, ranges)
    graph.rewrite()
    onnx.checker.check_model(result, full_check=True)
    return result


class _Rewriter:
    def __init__(
        self, model: onnx.ModelProto, placement: Placement, ranges: Mapping[str, TensorRange]
    ) -> None:
        self._graph = model.graph
        self._placement = placement
        self._ranges = ranges
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._added: list[onnx.TensorProto] = []

    def rewrite(self) -> None:
        quantised, skips = set(self._placement.nodes), set(self._placement.skips)
        wanted = set(self._placement.tensors)
        nodes: list[onnx.NodeProto] = []
        for node in self._graph.node:
            if node.name in quantised:
                node.input[0] = f"{node.input[0]}.dequantised"
                nodes.append(self._weight_node(node))
            elif node.name in skips:
                node.input[0] = f"{node.input[0]}.dequantised"
            nodes.append(node)
            for output in node.output:
                if output in wanted:
                    nodes += self._pair(output)
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        used = {name for node in nodes for name in node.input}
        kept = [t for t in [*self._graph.initializer, *self._added] if t.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)

    def _constant(self, name: str, values: npt.NDArray[np.generic]) -> str:
        self._added.append(numpy_helper.from_array(values, name))
        return name

    def _pair(self, tensor: str) -> list[onnx.NodeProto]:
        scale = self._constant(f"{tensor}.scale", np.array(self._ranges[tensor].scale, np.float32))
        zero = self._constant(f"{tensor}.zero_point", np.array(0, np.int8))
        steps, back = f"{tensor}.quantised", f"{tensor}.dequantised"
        return [
            helper.make_node("QuantizeLinear", [tensor, scale, zero], [steps], name=steps),
            helper.make_node("DequantizeLinear", [steps, scale, zero], [back], name=back),
        ]

    def _weight_node(self, node: onnx.NodeProto) -> onnx.NodeProto:
        name = node.input[1]
        values, scales = quantise_weight(numpy_helper.to_array(self._weights[name]))
        inputs = [
            self._constant(f"{name}.quantised", values),
            self._constant(f"{name}.scale", scales),
            self._constant(f"{name}.zero_point", np.zeros(len(scales), np.int8)),
        ]
        node.input[1] = f"{name}.dequantised"
        return helper.make_node(
            "DequantizeLinear", inputs, [node.input[1]], name=node.input[1], axis=0
        )
