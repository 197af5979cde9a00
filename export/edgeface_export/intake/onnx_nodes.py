"""The nodes of an ONNX graph, one after the other, as layers of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from edgeface.errors import ArchitectureError
from edgeface_export.architectures.network import (
    INPUT,
    Add,
    BatchNorm,
    Conv,
    Flatten,
    Gate,
    GlobalAveragePool,
    Linear,
    PRelu,
    Relu,
    Sigmoid,
)
from edgeface_export.architectures.operations import Gelu, HardSigmoid, HardSwish, MaxPool
from edgeface_export.checkpoints.text import clip
from edgeface_export.intake.described import require_padding_fits
from edgeface_export.intake.onnx_channels import ChannelReader
from edgeface_export.intake.onnx_reader import attributes, named

__all__ = ["KNOWN", "NodeReader"]

_Array: TypeAlias = npt.NDArray[Any]


class NodeReader(ChannelReader):
    """Collects layers, node by node."""

    def add(self, node: onnx.NodeProto) -> None:
        """Add one node, whose inputs are there.

        Raises:
            ArchitectureError: Its kind is not known, or what it does.
        """
        if self.is_number(node):
            return
        convert: Callable[[NodeReader, onnx.NodeProto], str | list[str]] | None
        convert = KNOWN.get(node.op_type)
        if node.output[0] in self._lengths:
            convert = NodeReader.same
        if convert is None or node.domain not in ("", "ai.onnx"):
            raise ArchitectureError(
                f"node {clip(node.name or node.output[0])} is of kind {clip(node.op_type)!r}, "
                f"which is not known; known are {', '.join(sorted(KNOWN))}"
            )
        self.read(node, convert)

    def convolution(self, node: onnx.NodeProto) -> str:
        """Add Conv."""
        of = attributes(node)
        weight = self.weight(node, 1)
        bias = self.weight(node, 2) if len(node.input) > 2 and node.input[2] else None
        pads = _symmetric(node, of)
        strides, dilations = set(of.get("strides", [1])), set(of.get("dilations", [1]))
        if weight.ndim != 4 or len(strides) != 1 or dilations != {1}:
            raise ArchitectureError(f"node {named(node)}: a convolution of an unusual form")
        require_padding_fits(named(node), pads, weight.shape[2:])
        name, source = node.output[0], self.source(node)
        return self.put(Conv(name, source, weight, bias, strides.pop(), pads, of.get("group", 1)))

    def gemm(self, node: onnx.NodeProto) -> str:
        """Add Gemm."""
        of = attributes(node)
        weight = self.weight(node, 1) * np.float32(of.get("alpha", 1.0))
        weight = weight if of.get("transB", 0) else weight.T
        bias = self.weight(node, 2) * np.float32(of.get("beta", 1.0)) if len(node.input) > 2 else 0
        return self._matrix(node, weight, bias)

    def matmul(self, node: onnx.NodeProto) -> str:
        """Add a MatMul with a constant."""
        if node.input[0] in self.turned:
            return self.pointwise(node)
        return self._matrix(node, self.weight(node, 1).T, 0)

    def _matrix(self, node: onnx.NodeProto, weight: _Array, bias: _Array | int) -> str:
        source = self.source(node)
        if weight.ndim != 2 or len(self.shapes[source]) != 1:
            raise ArchitectureError(f"node {named(node)}: a matrix on {self.shapes[source]}")
        full = np.broadcast_to(np.asarray(bias, np.float32), weight.shape[:1]).copy()
        return self.put(Linear(node.output[0], source, np.ascontiguousarray(weight), full))

    def batch_norm(self, node: onnx.NodeProto) -> str:
        """Add BatchNormalization."""
        gamma, beta, mean, variance = (self.weight(node, k) for k in range(1, 5))
        epsilon, source = attributes(node).get("epsilon", 1e-5), self.source(node)
        if not isinstance(self.layers.get(source), Conv | Linear) or self.is_read(source):
            source = self.ones(f"{node.output[0]}.in", source)
        return self.put(BatchNorm(node.output[0], source, gamma, beta, mean, variance, epsilon))

    def prelu(self, node: onnx.NodeProto) -> str:
        """Add PRelu, or LeakyRelu as one."""
        source = self.source(node)
        channels = self.shapes[source][0]
        if node.op_type == "LeakyRelu":
            slope = np.full(1, attributes(node).get("alpha", 0.01), np.float32)
        else:
            slope = self.weight(node, 1).reshape(-1)
        return self.put(PRelu(node.output[0], source, np.broadcast_to(slope, channels).copy()))

    def relu(self, node: onnx.NodeProto) -> str:
        """Add Relu, or Clip from 0."""
        ceiling = None
        if node.op_type == "Clip":
            of = attributes(node)
            low, high = self.constant(node, 1), self.constant(node, 2)
            floor = of.get("min", -np.inf) if low is None else float(low.reshape(-1)[0])
            above = of.get("max", np.inf) if high is None else float(high.reshape(-1)[0])
            if floor != 0:
                raise ArchitectureError(f"node {named(node)}: a Clip from {floor:g}, not from 0")
            ceiling = None if np.isinf(above) else above
        return self.put(Relu(node.output[0], self.source(node), ceiling))

    def total(self, node: onnx.NodeProto) -> str:
        """Add a sum: of two layers, or of a layer and a constant."""
        fixed = [k for k in (0, 1) if self.constant(node, k) is not None]
        if fixed:
            sign = -1.0 if node.op_type == "Sub" else 1.0
            if fixed == [0] and sign < 0:
                raise ArchitectureError(f"node {named(node)}: a constant minus a layer")
            return self._affine(node, 1 - fixed[0], 1.0, sign * self.per_channel(node, fixed[0]))
        order = [INPUT, *self.layers]
        skip, branch = sorted((self.source(node, k) for k in (0, 1)), key=order.index)
        if len(node.input) != 2 or node.op_type == "Sub":
            raise ArchitectureError(f"node {named(node)}: only sums of two are known")
        return self.put(Add(node.output[0], input=branch, skip=skip))

    def product(self, node: onnx.NodeProto) -> str:
        """Add a product: of a layer and a constant, or of a map and a number for each channel."""
        fixed = [k for k in (0, 1) if self.constant(node, k) is not None]
        if fixed:
            factor = self.per_channel(node, fixed[0])
            if node.op_type == "Div":
                if fixed == [0] or not factor.all():
                    what = "a constant over a layer" if fixed == [0] else "a division by 0"
                    raise ArchitectureError(f"node {named(node)}: {what}")
                factor = np.float32(1) / factor
            return self._affine(node, 1 - fixed[0], factor, 0.0)
        first, second = self.source(node, 0), self.source(node, 1)
        if len(self.shapes[first]) == 3 and self.shapes[first][1:] == (1, 1):
            first, second = second, first
        if node.op_type == "Div" or self.shapes[second][1:] != (1, 1):
            raise ArchitectureError(f"node {named(node)}: a {node.op_type} of two layers")
        return self.put(Gate(node.output[0], input=first, skip=second))

    def _affine(self, node: onnx.NodeProto, index: int, factor: Any, shift: Any) -> str:
        """Add factor * x + shift, each one number or one for each channel."""
        source = self.source(node, index)
        shape = self.shapes[source]
        channels, form = shape[0], (shape[0], *(1,) * (len(shape) - 1))
        try:
            scale, bias = (
                np.broadcast_to(np.asarray(part, np.float32), (1, *form)).reshape(channels)
                for part in (factor, shift)
            )
        except ValueError as exc:
            raise ArchitectureError(f"node {named(node)}: not one number a channel") from exc
        before = self.layers.get(source)
        if isinstance(before, Linear) and not self.is_read(source):
            old = np.zeros(channels, np.float32) if before.bias is None else before.bias
            self.layers[source] = replace(
                before, weight=before.weight * scale[:, None], bias=old * scale + bias
            )
            return source
        if len(shape) == 1:
            raise ArchitectureError(f"node {named(node)}: a scale that follows no matrix")
        weight = scale.reshape(-1, 1, 1, 1).copy()
        return self.put(Conv(node.output[0], source, weight, bias.copy(), groups=channels))

    def pool(self, node: onnx.NodeProto) -> str:
        """Add the mean or the largest of windows; means of whole maps alone."""
        of, source = attributes(node), self.source(node)
        kernel, strides = of["kernel_shape"], of.get("strides", [1, 1])
        pads = _symmetric(node, of)
        if node.op_type == "AveragePool":
            if tuple(kernel) != self.shapes[source][1:] or any(pads):
                raise ArchitectureError(f"node {named(node)}: means of windows, not of whole maps")
            return self.put(GlobalAveragePool(node.output[0], source))
        if len({*kernel}) != 1 or len({*strides}) != 1 or len({*pads}) != 1:
            raise ArchitectureError(f"node {named(node)}: windows that are not square")
        if kernel[0] == 1:
            return self.ones(node.output[0], source, stride=strides[0])
        ceil = bool(of.get("ceil_mode", 0))
        return self.put(MaxPool(node.output[0], source, kernel[0], strides[0], pads[0], ceil))

    def mean(self, node: onnx.NodeProto) -> str:
        """Add GlobalAveragePool, or ReduceMean over rows and columns."""
        source = self.source(node)
        if node.op_type == "GlobalAveragePool":
            return self.put(GlobalAveragePool(node.output[0], source))
        of, axes = attributes(node), self.constant(node, 1)
        over = of.get("axes", []) if axes is None else [int(axis) for axis in axes.reshape(-1)]
        if sorted(axis % 4 for axis in over) != [2, 3]:
            raise ArchitectureError(f"node {named(node)}: a mean over the axes {over}")
        if of.get("keepdims", 1):
            return self.put(GlobalAveragePool(node.output[0], source))
        kept = self.put(GlobalAveragePool(f"{node.output[0]}.kept", source))
        return self.put(Flatten(node.output[0], kept))

    def flatten(self, node: onnx.NodeProto) -> str:
        """Add Flatten, or what does the same."""
        source = self.source(node)
        if len(self.shapes[source]) == 1:
            return source
        if node.op_type == "Squeeze" and self.shapes[source][1:] != (1, 1):
            raise ArchitectureError(f"node {named(node)}: a Squeeze of {self.shapes[source]}")
        target = self.constant(node, 1) if node.op_type == "Reshape" else None
        if target is not None and len(target) != 2:
            raise ArchitectureError(f"node {named(node)}: a Reshape to {len(target)} axes")
        return self.put(Flatten(node.output[0], source))

    def sigmoid(self, node: onnx.NodeProto) -> str:
        """Add Sigmoid."""
        return self.put(Sigmoid(node.output[0], self.source(node)))

    def hard(self, node: onnx.NodeProto) -> str:
        """Add HardSigmoid or HardSwish."""
        if node.op_type == "HardSwish":
            return self.put(HardSwish(node.output[0], self.source(node)))
        of = attributes(node)
        line = of.get("alpha", 0.2), of.get("beta", 0.5)
        return self.put(HardSigmoid(node.output[0], self.source(node), *line))

    def gelu(self, node: onnx.NodeProto) -> str:
        """Add Gelu in its exact form."""
        if attributes(node).get("approximate", b"none") != b"none":
            raise ArchitectureError(f"node {named(node)}: an approximate Gelu")
        return self.put(Gelu(node.output[0], self.source(node)))

    def same(self, node: onnx.NodeProto) -> str:
        """Pass through what changes nothing in inference."""
        return self.source(node)


def _symmetric(node: onnx.NodeProto, of: Mapping[str, Any]) -> tuple[int, int]:
    """Return (rows, columns) of padding on each side."""
    if of.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise ArchitectureError(f"node {named(node)}: automatic padding; export with fixed one")
    top, left, bottom, right = of.get("pads", [0] * 4)
    if (top, left) != (bottom, right):
        raise ArchitectureError(f"node {named(node)}: more padding on one side than on the other")
    return top, left


KNOWN: dict[str, Callable[[NodeReader, onnx.NodeProto], str | list[str]]] = {
    "Conv": NodeReader.convolution,
    "Gemm": NodeReader.gemm,
    "MatMul": NodeReader.matmul,
    "BatchNormalization": NodeReader.batch_norm,
    "PRelu": NodeReader.prelu,
    "LeakyRelu": NodeReader.prelu,
    "Relu": NodeReader.relu,
    "Clip": NodeReader.relu,
    "Add": NodeReader.total,
    "Sum": NodeReader.total,
    "Sub": NodeReader.total,
    "Mul": NodeReader.product,
    "Div": NodeReader.product,
    "MaxPool": NodeReader.pool,
    "AveragePool": NodeReader.pool,
    "GlobalAveragePool": NodeReader.mean,
    "ReduceMean": NodeReader.mean,
    "Flatten": NodeReader.flatten,
    "Reshape": NodeReader.flatten,
    "Squeeze": NodeReader.flatten,
    "Concat": NodeReader.concat,
    "Slice": NodeReader.cut,
    "Split": NodeReader.split,
    "Transpose": NodeReader.transpose,
    "LayerNormalization": NodeReader.layer_norm,
    "Sigmoid": NodeReader.sigmoid,
    "HardSigmoid": NodeReader.hard,
    "HardSwish": NodeReader.hard,
    "Gelu": NodeReader.gelu,
    "Identity": NodeReader.same,
    "Dropout": NodeReader.same,
    "Cast": NodeReader.same,
}
"""What is known, by the kind of node."""
