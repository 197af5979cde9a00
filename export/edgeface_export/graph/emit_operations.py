"""Writes the layers of :mod:`edgeface_export.architectures.operations` as ONNX nodes.

Only operators of opset 17 that TensorRT, OpenVINO and ONNX Runtime all have: GELU is written with
Erf, hard swish with HardSigmoid, LayerNorm over channels with the means that define it, as
LayerNormalization wants the last axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from edgeface.types import FloatArray
from edgeface_export.architectures.network import Shape
from edgeface_export.architectures.operations import (
    ChannelNorm,
    Concat,
    CrossCovariance,
    Gelu,
    HardSigmoid,
    HardSwish,
    MaxPool,
    Operation,
    Shift,
    Slice,
    Sum,
)

__all__ = ["Writer", "write_operation"]

# What a length is at least, in torch.nn.functional.normalize.
_MIN_LENGTH = 1e-12


class Writer(Protocol):
    """What collects nodes and constants."""

    def node(self, kind: str, inputs: Sequence[str], name: str, **attributes: object) -> str:
        """Add a node; return the name of its output."""
        ...

    def constant(self, name: str, values: FloatArray) -> str:
        """Add a constant of float32; return its name."""
        ...

    def integers(self, name: str, values: Sequence[int]) -> str:
        """Add a constant of int64; return its name."""
        ...


def write_operation(to: Writer, layer: Operation, shape: Shape) -> None:
    """Write ``layer``, whose input has ``shape``, the batch not counted."""
    match layer:
        case MaxPool():
            _max_pool(to, layer)
        case ChannelNorm():
            _channel_norm(to, layer, (-1,) + (1,) * (len(shape) - 1))
        case Gelu() | HardSigmoid() | HardSwish():
            _activation(to, layer)
        case CrossCovariance():
            _cross_covariance(to, layer, shape)
        case _:
            _rearranged(to, layer)


def _rearranged(to: Writer, layer: Slice | Concat | Sum | Shift) -> None:
    match layer:
        case Slice():
            ends = _span(to, layer.name, layer.start, layer.stop)
            to.node("Slice", [layer.input, *ends], layer.name)
        case Concat():
            to.node("Concat", [layer.input, *layer.others], layer.name, axis=1)
        case Sum():
            to.node("Sum", [layer.input, *layer.others], layer.name)
        case Shift():
            # Sum, as Add is the end of a residual block to whatever reads graphs here.
            values = to.constant(f"{layer.name}.values", layer.values[None])
            to.node("Sum", [layer.input, values], layer.name)


def _span(to: Writer, name: str, start: int, stop: int) -> list[str]:
    """Return the constants that cut axis 1 from ``start`` to ``stop``."""
    values = {"start": start, "stop": stop, "axis": 1}
    return [to.integers(f"{name}.{key}", [value]) for key, value in values.items()]


def _max_pool(to: Writer, layer: MaxPool) -> None:
    to.node(
        "MaxPool",
        [layer.input],
        layer.name,
        kernel_shape=[layer.kernel] * 2,
        strides=[layer.stride] * 2,
        pads=[layer.padding] * 4,
        ceil_mode=int(layer.ceil),
    )


def _channel_norm(to: Writer, layer: ChannelNorm, shape: Shape) -> None:
    name = layer.name
    mean = to.node("ReduceMean", [layer.input], f"{name}.mean", axes=[1], keepdims=1)
    centred = to.node("Sub", [layer.input, mean], f"{name}.centred")
    square = to.node("Mul", [centred, centred], f"{name}.square")
    variance = to.node("ReduceMean", [square], f"{name}.variance", axes=[1], keepdims=1)
    epsilon = to.constant(f"{name}.epsilon", np.array(layer.epsilon, np.float32))
    safe = to.node("Sum", [variance, epsilon], f"{name}.safe")
    deviation = to.node("Sqrt", [safe], f"{name}.deviation")
    unit = to.node("Div", [centred, deviation], f"{name}.unit")
    gamma = to.constant(f"{name}.gamma", layer.gamma.reshape(shape))
    scaled = to.node("Mul", [unit, gamma], f"{name}.scaled")
    to.node("Sum", [scaled, to.constant(f"{name}.beta", layer.beta.reshape(shape))], name)


def _activation(to: Writer, layer: Gelu | HardSigmoid | HardSwish) -> None:
    match layer:
        case Gelu():
            _gelu(to, layer)
        case HardSigmoid():
            line = {"alpha": layer.steepness, "beta": layer.middle}
            to.node("HardSigmoid", [layer.input], layer.name, **line)
        case HardSwish():
            gate = HardSigmoid(f"{layer.name}.gate", layer.input)
            _activation(to, gate)
            to.node("Mul", [layer.input, gate.name], layer.name)


def _gelu(to: Writer, layer: Gelu) -> None:
    name = layer.name
    root = to.constant(f"{name}.root", np.array(1 / math.sqrt(2), np.float32))
    share = to.node("Erf", [to.node("Mul", [layer.input, root], f"{name}.over")], f"{name}.erf")
    one = to.constant(f"{name}.one", np.array(1.0, np.float32))
    half = to.constant(f"{name}.half", np.array(0.5, np.float32))
    halved = to.node("Mul", [layer.input, half], f"{name}.halved")
    to.node("Mul", [halved, to.node("Sum", [share, one], f"{name}.shifted")], name)


def _cross_covariance(to: Writer, layer: CrossCovariance, shape: Shape) -> None:
    name, heads = layer.name, layer.heads
    channels, rows, columns = shape
    each = channels // 3
    flat = to.integers(f"{name}.flat", [0, 3 * heads, each // heads, rows * columns])
    parts = to.node("Reshape", [layer.input, flat], f"{name}.parts")
    cut = [f"{name}.{part}" for part in ("queries", "keys", "values")]
    queries, keys, values = (
        to.node("Slice", [parts, *_span(to, part, k * heads, (k + 1) * heads)], part)
        for k, part in enumerate(cut)
    )
    turned = to.node("Transpose", [_unit(to, keys)], f"{name}.turned", perm=[0, 1, 3, 2])
    products = to.node("MatMul", [_unit(to, queries), turned], f"{name}.products")
    temperature = to.constant(f"{name}.temperature", layer.temperature.reshape(1, heads, 1, 1))
    warm = to.node("Mul", [products, temperature], f"{name}.warm")
    shares = to.node("Softmax", [warm], f"{name}.shares", axis=3)
    mixed = to.node("MatMul", [shares, values], f"{name}.mixed")
    to.node("Reshape", [mixed, to.integers(f"{name}.back", [0, each, rows, columns])], name)


def _unit(to: Writer, x: str) -> str:
    length = to.node("ReduceL2", [x], f"{x}.length", axes=[3], keepdims=1)
    floor = to.constant(f"{x}.floor", np.array(_MIN_LENGTH, np.float32))
    return to.node("Div", [x, to.node("Max", [length, floor], f"{x}.safe")], f"{x}.unit")
