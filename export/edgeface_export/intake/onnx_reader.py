"""What reading the nodes of an ONNX graph keeps: its layers, and where its tensors come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from edgeface.errors import ArchitectureError
from edgeface_export.architectures.network import INPUT, Conv, Layer, Shape, sources
from edgeface_export.architectures.operations import Concat
from edgeface_export.checkpoints.text import clip
from edgeface_export.intake.onnx_numbers import computed, shape_of

__all__ = ["GraphReader", "attributes", "named"]

_Array: TypeAlias = npt.NDArray[Any]
_PREFIX = "net."


class GraphReader:
    """Collects layers; ``at`` tells which layer gives each tensor of the graph.

    ``constants`` are the initialisers and the outputs of Constant nodes, ``picture`` the name of
    the graph's input, (n, 3, height, width). ``lengths`` are tensors divided by their own length,
    which are passed through: of what is kept, only the end may be one. ``turned`` are the tensors
    of the graph that have their channels as the last axis.
    """

    def __init__(
        self,
        constants: Mapping[str, _Array],
        picture: str,
        shape: Shape,
        lengths: frozenset[str] = frozenset(),
    ) -> None:
        self._constants = dict(constants)
        self._lengths = lengths
        self.layers: dict[str, Layer] = {}
        self.at = {picture: INPUT}
        self.turned = set[str]()
        self.shapes: dict[str, Shape] = {INPUT: shape}

    def put(self, layer: Layer) -> str:
        """Add a layer under its name with a prefix, and return that."""
        # Names of the graph must not meet those that the emitter gives.
        layer = replace(layer, name=f"{_PREFIX}{layer.name}")
        if layer.name in self.shapes:
            raise ArchitectureError(f"two nodes give {clip(layer.name)}")
        self.layers[layer.name] = layer
        if isinstance(layer, Concat):
            shapes = tuple(self.shapes[name] for name in sources(layer))
            self.shapes[layer.name] = layer.joined(shapes)
        else:
            # Sums of a map and a smaller one are refused when the network is made.
            self.shapes[layer.name] = layer.output_shape(self.shapes[layer.input])  # type: ignore[union-attr]
        return layer.name

    def source(self, node: onnx.NodeProto, index: int = 0) -> str:
        """Return the layer that an input of ``node`` comes from."""
        name = node.input[index]
        if name not in self.at:
            raise ArchitectureError(
                f"node {named(node)} ({node.op_type}) reads {clip(name)}, which no layer gives"
            )
        return self.at[name]

    def constant(self, node: onnx.NodeProto, index: int) -> _Array | None:
        """Return the constant that an input of ``node`` is; None where it has none there."""
        if index >= len(node.input) or not node.input[index]:
            return None
        return self._constants.get(node.input[index])

    def weight(self, node: onnx.NodeProto, index: int) -> npt.NDArray[np.float32]:
        """Return the float32 constant that an input of ``node`` must be."""
        found = self.constant(node, index)
        if found is None or found.dtype.kind != "f":
            raise ArchitectureError(
                f"node {named(node)} ({node.op_type}): its input {index} is no float constant; "
                "give the graph as the trainer exported it, not quantised"
            )
        return found.astype(np.float32)

    def is_number(self, node: onnx.NodeProto) -> bool:
        """Return whether ``node`` computes whole numbers of sizes; they are constants from then on.

        A graph of which the size of crops is known has them fixed.
        """
        if node.op_type == "Shape" and node.input[0] in self.at:
            first, *others = self.shapes[self.at[node.input[0]]]
            turned = node.input[0] in self.turned
            found: _Array | None = shape_of(node, [*others, first] if turned else [first, *others])
        else:
            inputs = [self._constants[name] for name in node.input if name in self._constants]
            found = computed(node, inputs) if len(inputs) == len(node.input) else None
        if found is None:
            return False
        self._constants[node.output[0]] = found
        return True

    def is_read(self, name: str) -> bool:
        """Return whether a layer reads ``name``."""
        return any(name in sources(layer) for layer in self.layers.values())

    def ones(self, name: str, source: str, *, stride: int = 1) -> str:
        """Add what takes every ``stride``-th row and column, as a convolution of ones."""
        shape = self.shapes[source]
        if len(shape) != 3:
            raise ArchitectureError(f"{clip(name)}: a BatchNorm that follows no matrix")
        ones = np.ones((shape[0], 1, 1, 1), np.float32)
        return self.put(Conv(name, source, ones, stride=stride, groups=shape[0]))


def named(node: onnx.NodeProto) -> str:
    """Return what a node is called in a sentence."""
    return clip(node.name or node.output[0])


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Return the attributes of ``node`` by name."""
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
