"""Moves one-sided tensors to both sides of zero, where symmetric INT8 has its steps.

Symmetric INT8 spends half of its steps below 0. What never goes there wastes them:

* a ReLU's output from 0 to T becomes one from -T/2 to T/2: the bias of the convolution before it
  and the bounds of the ReLU go down by T/2, the biases behind it make up for that. Only where no
  padded convolution reads it, for padding is zero;
* the picture, 0..255 about a mean of 127.5, lies between the steps. About 128 it lies on them, and
  its INT8 form is exact. Padding then stands for half a grey level more, at the border.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from edgeface_export.architectures.network import (
    INPUT,
    Conv,
    Layer,
    Linear,
    Network,
    PRelu,
    Relu,
)
from edgeface_export.graph.emit import emit
from edgeface_export.graph.flip import readers_of
from edgeface_export.quantise.centre import sum_of_inputs, with_bias
from edgeface_export.quantise.ranges import TensorRange

__all__ = ["Offset", "offset", "one_sided"]

_MIDDLE = 128.0
_MAX_PADDING_LEVELS = 0.5
# Times half of the range: far beyond what INT8 cuts, and a power of 2, which rounds nothing.
_FAR = 16.0


@dataclass(frozen=True, slots=True, eq=False)
class Offset:
    """The float graph with its one-sided tensors moved, and the ranges of all tensors in it."""

    model: onnx.ModelProto
    ranges: dict[str, TensorRange]


def offset(
    network: Network,
    layers: Sequence[Layer],
    ranges: Mapping[str, TensorRange],
    middles: Mapping[str, npt.NDArray[np.float64]],
    *,
    name: str,
) -> Offset:
    """Return the graph of folded ``layers`` called ``name``; it computes what ``network`` does.

    ``ranges`` are those of its INT8 tensors; for tensors of ``middles`` those of what is left
    when this is taken out of each channel.
    """
    by_name = {layer.name: layer for layer in layers}
    moved = dict(ranges)
    network = _centred_picture(network, by_name, moved)
    floors: dict[str, float] = {}
    readers = readers_of(layers)
    for layer in layers:
        if isinstance(layer, Relu) and layer.name in ranges and _movable(layer, by_name, readers):
            # Bounds that half precision holds too, for what is not INT8 may become that.
            half = float(np.float16(ranges[layer.name].high / 2))
            floors[layer.name] = half
            moved[layer.name] = TensorRange(-half, half, ranges[layer.name].method)
            _lower(by_name, layer, readers, half)
        elif layer.name in middles:
            moved[f"{layer.name}.centred"] = moved.pop(layer.name)
            _give_back(by_name, readers[layer.name], middles[layer.name])
    model = emit(network, name=name, layers=[by_name[layer.name] for layer in layers])
    _set_bounds(model, floors)
    _subtract(model, middles)
    return Offset(model, moved)


def _centred_picture(
    network: Network, by_name: dict[str, Layer], ranges: dict[str, TensorRange]
) -> Network:
    """Return ``network`` with a mean of 128 where that makes the picture's INT8 form exact."""
    spec = network.preprocessing
    readers = [layer for layer in by_name.values() if INPUT in _sources(layer)]
    up = _MIDDLE - np.asarray(spec.mean)
    fits = len(set(spec.scale)) == 1 and np.abs(up).max() <= _MAX_PADDING_LEVELS
    if INPUT not in ranges or not fits or not all(isinstance(x, Conv | Linear) for x in readers):
        return network
    for reader in readers:
        if isinstance(reader, Conv | Linear):
            more = sum_of_inputs(reader, up / np.asarray(spec.scale))
            by_name[reader.name] = with_bias(reader, more)
    largest = 127.0 / spec.scale[0]
    ranges[INPUT] = TensorRange(-largest, largest, "exact")
    return replace(network, preprocessing=replace(spec, mean=(_MIDDLE,) * 3))


def _sources(layer: Layer) -> tuple[str, ...]:
    return (layer.input, getattr(layer, "skip", ""))


def _movable(
    layer: PRelu | Relu, by_name: Mapping[str, Layer], readers: Mapping[str, list[Layer]]
) -> bool:
    maker, read = by_name.get(layer.input), readers.get(layer.name, [])
    alone = isinstance(maker, Conv) and len(readers[layer.input]) == 1
    return alone and bool(read) and all(isinstance(x, Conv) and not any(x.pads) for x in read)


def _lower(
    by_name: dict[str, Layer], layer: Relu, readers: Mapping[str, list[Layer]], down: float
) -> None:
    maker = by_name[layer.input]
    if isinstance(maker, Conv):
        by_name[maker.name] = with_bias(maker, np.full(len(maker.weight), -down))
        _give_back(by_name, readers[layer.name], np.full(len(maker.weight), down))


def _give_back(
    by_name: dict[str, Layer], readers: Sequence[Layer], taken: npt.NDArray[np.float64]
) -> None:
    """Add to the biases of ``readers`` what they no longer get from their input."""
    for name in [reader.name for reader in readers]:
        reader = by_name[name]
        if isinstance(reader, Conv):
            by_name[name] = with_bias(reader, sum_of_inputs(reader, taken))


def _subtract(model: onnx.ModelProto, middles: Mapping[str, npt.NDArray[np.float64]]) -> None:
    """Take ``middles`` out of their tensors, in place; readers read what is left."""
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        for index, source in enumerate(node.input):
            if source in middles:
                node.input[index] = f"{source}.centred"
        nodes.append(node)
        if node.name in middles:
            middle, left = f"{node.name}.middle", f"{node.name}.centred"
            values = middles[node.name].astype(np.float32).reshape(-1, 1, 1)
            model.graph.initializer.append(numpy_helper.from_array(values, middle))
            nodes.append(helper.make_node("Sub", [node.output[0], middle], [left], name=left))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def one_sided(layers: Sequence[Layer]) -> tuple[list[str], list[str]]:
    """Return the PReLUs and the ReLUs whose output only convolutions without padding read."""
    by_name, readers = {layer.name: layer for layer in layers}, readers_of(layers)
    found = [
        layer
        for layer in layers
        if isinstance(layer, PRelu | Relu) and _movable(layer, by_name, readers)
    ]
    return (
        [layer.name for layer in found if isinstance(layer, PRelu)],
        [layer.name for layer in found if isinstance(layer, Relu)],
    )


def _set_bounds(model: onnx.ModelProto, floors: Mapping[str, float]) -> None:
    """Move the bounds of the ReLUs named, of the emitted ``model``, down in place."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        down = floors.get(node.name)
        if down is None:
            continue
        floor = numpy_helper.from_array(np.array(-down, np.float32), f"{node.name}.floor")
        if node.op_type == "Relu":
            # Without an upper bound parsers take one that half precision cannot hold.
            highest = np.array(_FAR * down, np.float32)
            far = numpy_helper.from_array(highest, f"{node.name}.ceiling")
            model.graph.initializer.extend([floor, far])
            inputs = [node.input[0], floor.name, far.name]
            node.CopyFrom(helper.make_node("Clip", inputs, list(node.output), name=node.name))
            continue
        ceiling = constants[f"{node.name}.ceiling"]
        value = np.asarray(np.float16(numpy_helper.to_array(ceiling) - down), np.float32)
        ceiling.CopyFrom(numpy_helper.from_array(value, ceiling.name))
        constants[floor.name].CopyFrom(floor)
