"""The integer graph for CPUs: uint8 from the picture to the last matrix.

ONNX Runtime's CPU provider has no INT8 kernel for PReLU: in a Q/DQ graph every one of them is
computed in float between two conversions, which makes INT8 slower than float. Here nothing is
converted back. Activations are uint8 with a zero point, weights INT8 by output channel, layout
channels last, which is what the CPU kernels compute in:

* PReLU(x) = Max(x, a * x) for slopes up to 1 (:mod:`edgeface_export.graph.flip` sees to that).
  Both take the same scale; a * x is a depthwise 1x1 convolution, whose weights hold a slope
  exactly (127 steps of |a| / 127). It is faster than an integer multiplication, too.
* ReLU and ReLU6 cost nothing: the range of the convolution before them ends at 0 and the ceiling.
* The picture is uint8 already. Where its mean is one number for all channels, the mean becomes
  the zero point, and the scale goes into the first convolution's weights.
* The last matrix gives float, so an embedding is not rounded to 256 steps.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from edgeface.errors import ArchitectureError, InvalidInputError
from edgeface_export.architectures.network import (
    INPUT,
    Add,
    Conv,
    Flatten,
    Layer,
    Linear,
    Network,
    PRelu,
    Preprocessing,
    Relu,
)
from edgeface_export.graph.emit import emit, fold
from edgeface_export.graph.flip import readers_of
from edgeface_export.quantise.integer_graph import Encoding, IntegerGraph, WeightedNode
from edgeface_export.quantise.ranges import TensorRange

__all__ = ["IntegerModel", "integer_graph", "integer_model", "integer_tensors"]

# A mean of 127.5 lies between two zero points: at the border of the picture, padding then stands
# for half a grey level, which is what rounding to 256 steps costs everywhere else anyway.
_MAX_PADDING_LEVELS = 0.5


def integer_tensors(layers: Sequence[Layer], *, tail: Collection[str] = ()) -> list[str]:
    """Return the tensors whose ranges :func:`integer_model` needs, in the order of the layers.

    ``layers`` may be folded or not; names are those of the emitted float graph. Layers from the
    first of ``tail`` on stay in float.

    Raises:
        ArchitectureError: The layers have no integer form.
    """
    plan = _Plan.of(layers, tail)
    return [
        layer.name
        for layer in plan.body
        if isinstance(layer, Conv | Add | PRelu | Relu)
        and layer.name not in plan.absorbed
        and not (isinstance(layer, Relu) and layer.name not in plan.absorbed.values())
    ]


def integer_model(
    network: Network, ranges: Mapping[str, TensorRange], *, name: str
) -> onnx.ModelProto:
    """Return ``network`` as a checked integer graph called ``name``.

    Its input and output are those of the float graph. A PReLU with a slope above 1 is computed in
    float; give the network as :func:`edgeface_export.graph.flip.flip_network` returns it.

    Raises:
        ArchitectureError: The network has no integer form.
        InvalidInputError: A tensor of :func:`integer_tensors` has no usable range.
    """
    return integer_graph(network, ranges, name=name).model


@dataclass(frozen=True, slots=True, eq=False)
class IntegerModel:
    """A checked integer graph, and its nodes with INT8 weights."""

    model: onnx.ModelProto
    weighted: tuple[WeightedNode, ...]


def integer_graph(
    network: Network,
    ranges: Mapping[str, TensorRange],
    *,
    name: str,
    tail: Collection[str] = (),
) -> IntegerModel:
    """Return :func:`integer_model` of ``network``, with layers from the first of ``tail`` in float.

    Raises:
        ArchitectureError: The network has no integer form.
        InvalidInputError: A tensor of :func:`integer_tensors` has no usable range.
    """
    builder = _Builder(network, ranges, tail)
    return builder.build(name)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Folded layers up to the end, the end, and which ReLU goes into which layer.

    The end is one matrix, or layers that stay in float. ``absorbed`` names the ReLU by the
    convolution or sum that it is the only reader of.
    """

    body: tuple[Layer, ...]
    end: tuple[Layer, ...]
    absorbed: dict[str, str]

    @classmethod
    def of(cls, layers: Sequence[Layer], tail: Collection[str] = ()) -> _Plan:
        folded = fold(layers)
        body, end = _split(folded, tail)
        readers = readers_of(folded)
        by_name = {layer.name: layer for layer in body}
        absorbed = {
            layer.input: layer.name
            for layer in body
            if isinstance(layer, Relu)
            and isinstance(by_name.get(layer.input), Conv | Add)
            and len(readers[layer.input]) == 1
        }
        return cls(body, end, absorbed)


def _split(
    folded: Sequence[Layer], tail: Collection[str]
) -> tuple[tuple[Layer, ...], tuple[Layer, ...]]:
    """Return the integer layers and those that come after them."""
    if not tail:
        body, head = _split_at_matrix(folded)
        return body, (head,)
    first = next(k for k, layer in enumerate(folded) if layer.name in tail)
    body, end = tuple(folded[:first]), tuple(folded[first:])
    if not body or not all(isinstance(layer, Conv | Add | PRelu | Relu) for layer in body):
        raise ArchitectureError(
            "no integer form: up to its end a network must be convolutions, activations and sums; "
            f"the end begins with {folded[first].name}"
        )
    return body, end


def _split_at_matrix(folded: Sequence[Layer]) -> tuple[tuple[Layer, ...], Conv | Linear]:
    """Return the layers before the last matrix or convolution, and that one."""
    weighted = [k for k, layer in enumerate(folded) if isinstance(layer, Conv | Linear)]
    head, rest, behind = folded[weighted[-1]], folded[: weighted[-1]], folded[weighted[-1] + 1 :]
    flattened = {layer.name: layer.input for layer in rest if isinstance(layer, Flatten)}
    body = tuple(layer for layer in rest if not isinstance(layer, Flatten))
    whole = isinstance(head, Linear) or (isinstance(head, Conv) and head.groups == 1)
    simple = all(isinstance(layer, Flatten) for layer in behind)
    plain = not any(isinstance(layer, Linear) or layer.input in flattened for layer in body)
    if not (isinstance(head, Conv | Linear) and whole and simple and plain and body):
        raise ArchitectureError(
            "no integer form: a network must be convolutions, activations and sums that end in "
            f"one matrix; the last with weights is {head.name}"
        )
    return body, replace(head, input=flattened.get(head.input, head.input))


class _Builder:
    def __init__(
        self, network: Network, ranges: Mapping[str, TensorRange], tail: Collection[str]
    ) -> None:
        self._network = network
        self._ranges = ranges
        self._plan = _Plan.of(network.layers, tail)
        self._has_tail = bool(tail)
        self._absorbed = set(self._plan.absorbed.values())
        self._shares: dict[str, list[PRelu]] = {}
        for layer in self._plan.body:
            if isinstance(layer, PRelu) and (layer.slope <= 1).all():
                self._shares.setdefault(layer.input, []).append(layer)
        self._graph = IntegerGraph(network.crop_size, network.embedding_size)

    def build(self, name: str) -> IntegerModel:
        pixels, stem = _folded_input(self._network.preprocessing, self._plan.body)
        if pixels is None:
            self._graph.normalised_input(self._network.preprocessing)
        else:
            self._graph.plain_input(pixels)
        for layer in self._plan.body:
            self._layer(stem if stem is not None and layer.name == stem.name else layer)
        end = self._plan.end
        if self._has_tail:
            layers = (*self._plan.body, *end)
            self._graph.float_tail(emit(self._network, name=name, layers=layers), end)
        elif isinstance(end[0], Conv | Linear):
            self._graph.head(end[0], self._network.shapes[end[0].input])
        return IntegerModel(self._graph.model(name), tuple(self._graph.weighted))

    def _layer(self, layer: Layer) -> None:
        output = self._plan.absorbed.get(layer.name, layer.name)
        match layer:
            case Conv():
                self._graph.conv(layer, output, self._encoding(output))
            case Add():
                self._graph.add(layer, output, self._encoding(output))
            case PRelu() if layer in self._shares.get(layer.input, []):
                self._graph.prelu(layer)
            case PRelu():
                self._graph.float_prelu(layer, self._encoding(layer.name))
            case Relu() if layer.name not in self._absorbed:
                self._graph.clip(layer)
            case _:
                pass

    def _encoding(self, tensor: str) -> Encoding:
        """Return the encoding of ``tensor``, wide enough for the PReLU that shares it."""
        names = [tensor, *(layer.name for layer in self._shares.get(tensor, []))]
        for name in names:
            entry = self._ranges.get(name)
            if entry is None or not (np.isfinite(entry.magnitude) and entry.magnitude > 0):
                raise InvalidInputError(f"tensor {name!r} has no usable range: {entry}")
        low = min(self._ranges[name].low for name in names)
        high = max(self._ranges[name].high for name in names)
        floor, ceiling = self._bounds(tensor)
        return Encoding.of(max(low, floor), min(high, ceiling))

    def _bounds(self, tensor: str) -> tuple[float, float]:
        for layer in self._plan.body:
            if layer.name == tensor and isinstance(layer, Relu):
                return 0.0, float("inf") if layer.ceiling is None else layer.ceiling
        return float("-inf"), float("inf")


def _folded_input(
    spec: Preprocessing, body: Sequence[Layer]
) -> tuple[Encoding | None, Conv | None]:
    """Return the encoding of the picture itself and the convolution made to read it.

    Both are None where padding could not stand for the mean, or where something else than one
    convolution reads the picture.
    """
    readers = [layer for layer in body if INPUT in (layer.input, getattr(layer, "skip", ""))]
    mean = np.asarray(spec.mean, np.float64)
    zero = int(np.clip(np.rint(mean.mean() + 1e-9), 0, 255))
    first = readers[0] if len(readers) == 1 else None
    if not isinstance(first, Conv) or first.groups != 1:
        return None, None
    if any(first.pads) and np.abs(mean - zero).max() > _MAX_PADDING_LEVELS:
        return None, None
    scale = np.asarray(spec.scale, np.float64)
    weight = first.weight.astype(np.float64) / scale.reshape(1, 3, 1, 1)
    shift = (weight * (zero - mean).reshape(1, 3, 1, 1)).sum(axis=(1, 2, 3))
    bias = shift if first.bias is None else shift + first.bias
    # Pictures are RGB: a BGR network's first convolution is turned round instead.
    order = slice(None) if spec.colour_order == "RGB" else slice(None, None, -1)
    stem = replace(first, weight=weight[:, order].astype(np.float32), bias=bias.astype(np.float32))
    return Encoding(1.0, zero), stem
