"""The nodes of an ONNX graph that cut, turn or normalise channels, as layers of a network.

A map that a Transpose has given its channels as the last axis is the same layer here, remembered
as turned: what works on each position alone is read either way round.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgeface.errors import ArchitectureError
from edgeface_export.architectures.network import Conv
from edgeface_export.architectures.operations import ChannelNorm, Concat, Slice
from edgeface_export.intake.onnx_reader import GraphReader, attributes, named

__all__ = ["TURNED", "ChannelReader"]

_TO_LAST, _TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
TURNED = frozenset(
    {"Add", "Sub", "Mul", "Div", "MatMul", "LayerNormalization", "Concat", "Slice", "Split"}
    | {"Relu", "LeakyRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Gelu"}
    | {"Identity", "Dropout", "Cast", "Transpose"}
)
"""Kinds of nodes that are read where the channels are the last axis."""


class ChannelReader(GraphReader):
    """Collects the layers of nodes that work on channels."""

    def read(
        self, node: onnx.NodeProto, convert: Callable[[Any, onnx.NodeProto], str | list[str]]
    ) -> None:
        """Add ``node`` by ``convert``, which gives the layer of each of its outputs.

        Raises:
            ArchitectureError: What the node does is not known, or not where channels are last.
        """
        data = [name for name in node.input if name in self.at]
        turned = [name for name in data if name in self.turned]
        fits = len(turned) == len(data) and node.op_type in TURNED
        if turned and not fits:
            raise ArchitectureError(
                f"node {named(node)} ({node.op_type}) reads a map whose channels are the last axis"
            )
        found = convert(self, node)
        outputs = [found] if isinstance(found, str) else found
        self.at.update(zip(node.output, outputs, strict=False))
        if bool(turned) != (node.op_type == "Transpose" and self._turns(node)):
            self.turned.update(name for name in node.output if name)

    def per_channel(self, node: onnx.NodeProto, index: int) -> npt.NDArray[np.float32]:
        """Return the constant that an input is, so that it fits a map of channels first."""
        values = self.weight(node, index)
        if not self.turned.intersection(node.input) or values.size == 1:
            return values
        if values.shape[-1] != values.size:
            raise ArchitectureError(f"node {named(node)}: not one number a channel")
        return values.reshape(-1, 1, 1)

    def transpose(self, node: onnx.NodeProto) -> str:
        """Pass through a map whose channels become the last axis, or the first again."""
        self._turns(node)
        return self.source(node)

    def _turns(self, node: onnx.NodeProto) -> bool:
        order = tuple(attributes(node).get("perm", ()))
        wanted = _TO_FIRST if node.input[0] in self.turned else _TO_LAST
        if order == (0, 1, 2, 3):
            return False
        if order != wanted or len(self.shapes[self.source(node)]) != 3:
            raise ArchitectureError(f"node {named(node)}: a Transpose to the order {order}")
        return True

    def pointwise(self, node: onnx.NodeProto) -> str:
        """Add a MatMul of each position of a turned map with a constant."""
        weight = self.weight(node, 1)
        if weight.ndim != 2:
            raise ArchitectureError(f"node {named(node)}: a MatMul with {weight.shape}")
        columns = np.ascontiguousarray(weight.T[:, :, None, None])
        return self.put(Conv(node.output[0], self.source(node), columns))

    def layer_norm(self, node: onnx.NodeProto) -> str:
        """Add LayerNormalization over the channels."""
        of, source = attributes(node), self.source(node)
        gamma = self.weight(node, 1)
        beta = self.weight(node, 2) if len(node.input) > 2 and node.input[2] else 0 * gamma
        self._require_channels(node, of.get("axis", -1))
        beyond = len(self.shapes[source]) > 1 and node.input[0] not in self.turned
        if beyond or gamma.ndim != 1 or beta.ndim != 1:
            raise ArchitectureError(f"node {named(node)}: a norm over more than the channels")
        norm = ChannelNorm(node.output[0], source, gamma, beta, of.get("epsilon", 1e-5))
        return self.put(norm)

    def concat(self, node: onnx.NodeProto) -> str:
        """Add Concat of channels."""
        self._require_channels(node, attributes(node).get("axis", 1))
        first, *others = (self.source(node, k) for k in range(len(node.input)))
        return self.put(Concat(node.output[0], first, tuple(others)))

    def cut(self, node: onnx.NodeProto) -> str:
        """Add Slice of channels."""
        starts, ends, axes, steps = (self._integers(node, k) for k in range(1, 5))
        if starts is None or ends is None or len(starts) != 1 or len(ends) != 1:
            raise ArchitectureError(f"node {named(node)}: a Slice of other than one constant span")
        self._require_channels(node, axes[0] if axes else 0)
        if steps not in (None, [1]):
            raise ArchitectureError(f"node {named(node)}: a Slice with steps of {steps}")
        source = self.source(node)
        span = slice(starts[0], ends[0]).indices(self.shapes[source][0])
        return self._part(node.output[0], source, span[0], span[1])

    def split(self, node: onnx.NodeProto) -> list[str]:
        """Add a Slice of channels for each output of a Split."""
        of, source, count = attributes(node), self.source(node), len(node.output)
        self._require_channels(node, of.get("axis", 0))
        channels = self.shapes[source][0]
        sizes = self._integers(node, 1) or [int(size) for size in of.get("split", ())]
        if not sizes:
            # Equal parts, the last of what is left.
            each = -(-channels // count)
            sizes = [min(each, channels - k * each) for k in range(count)]
        if sum(sizes) != channels or len(sizes) != count or min(sizes) < 1:
            raise ArchitectureError(f"node {named(node)}: {channels} channels split into {sizes}")
        spans = pairwise([0, *accumulate(sizes)])
        return [
            self._part(name, source, start, stop)
            for name, (start, stop) in zip(node.output, spans, strict=True)
        ]

    def _part(self, name: str, source: str, start: int, stop: int) -> str:
        if (start, stop) == (0, self.shapes[source][0]):
            return source
        return self.put(Slice(name, source, start, stop))

    def _integers(self, node: onnx.NodeProto, index: int) -> list[int] | None:
        """Return the constant that an input is; None where there is no such input."""
        if index >= len(node.input) or not node.input[index]:
            return None
        found = self.constant(node, index)
        if found is None or found.dtype.kind != "i":
            raise ArchitectureError(
                f"node {named(node)} ({node.op_type}): its input {index} is no constant; export "
                "the graph with a fixed size of its crops"
            )
        return [int(value) for value in found.reshape(-1)]

    def _require_channels(self, node: onnx.NodeProto, axis: int) -> None:
        rank = len(self.shapes[self.source(node)]) + 1
        channels = 3 if node.input[0] in self.turned else 1
        if not -rank <= axis < rank or axis % rank != channels:
            raise ArchitectureError(f"node {named(node)} ({node.op_type}): not over the channels")
