"""Writes the nodes of an integer graph: ONNX's own operators and ONNX Runtime's, channels last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeface.types import Size
from edgeface_export.architectures.network import (
    INPUT,
    Add,
    Conv,
    Layer,
    Linear,
    PRelu,
    Preprocessing,
    Relu,
    Shape,
)
from edgeface_export.graph.emit import INPUT_NAME, IR_VERSION, OPSET, OUTPUT_NAME
from edgeface_export.quantise.qdq import quantise_weight

__all__ = ["Encoding", "IntegerGraph", "WeightedNode"]

_ORT_DOMAIN = "com.microsoft"
_LEVELS = 255
_INT32_MAX = 2**31 - 1
# The smallest length divided by, as in the float graph: an all-zero row stays zero, not NaN.
_MIN_LENGTH = 1e-6


@dataclass(frozen=True, slots=True)
class Encoding:
    """How uint8 stands for numbers: (q - zero_point) * scale."""

    scale: float
    zero_point: int

    @classmethod
    def of(cls, low: float, high: float) -> Encoding:
        """Return the encoding of the numbers from ``low`` to ``high``; 0 is met exactly."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = float(np.float32((high - low) / _LEVELS))
        return cls(scale, int(np.clip(np.rint(-low / scale), 0, _LEVELS)))

    def quantise(self, value: float) -> int:
        """Return the step nearest to ``value``."""
        return int(np.clip(np.rint(value / self.scale) + self.zero_point, 0, _LEVELS))


@dataclass(frozen=True, slots=True, eq=False)
class WeightedNode:
    """A node with INT8 weights: the layer it is made of and the names of its constants.

    ``weight`` is the float weight that was rounded, ``bias_step`` what its integer bias counts.
    """

    node: str
    layer: str
    weight: npt.NDArray[np.float32]
    has_bias: bool
    bias_step: npt.NDArray[np.float64]
    flat: bool = False


class IntegerGraph:
    """Collects nodes; each tensor is uint8 [n, height, width, channels] with an encoding.

    Tensors are named after the layer that makes them.
    """

    def __init__(self, crop_size: Size, embedding_size: int) -> None:
        self._crop_size = crop_size
        self._embedding_size = embedding_size
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._encodings: dict[str, Encoding] = {}
        self._tensors: dict[str, str] = {}
        self.weighted: list[WeightedNode] = []

    def plain_input(self, encoding: Encoding) -> None:
        """Read the picture as it is."""
        self._tensors[INPUT] = INPUT_NAME
        self._encode(INPUT, encoding)

    def normalised_input(self, spec: Preprocessing) -> None:
        """Normalise the picture in float and quantise that."""
        # The graph's channels stay RGB; weights of a BGR network are turned round in `conv`.
        order = [0, 1, 2] if spec.colour_order == "RGB" else [2, 1, 0]
        mean = np.asarray(spec.mean, np.float64)[order]
        inverse = 1.0 / np.asarray(spec.scale, np.float64)[order]
        ends = np.stack([(0.0 - mean) * inverse, (255.0 - mean) * inverse])
        self._encode(INPUT, Encoding.of(float(ends.min()), float(ends.max())))
        x = self._node("Cast", [INPUT_NAME], "pixels", to=TensorProto.FLOAT)
        x = self._node("Sub", [x, self._float("mean", mean)], "centred")
        x = self._node("Mul", [x, self._float("inverse_scale", inverse)], "normalised.float")
        if spec.colour_order == "BGR":
            order_name = self._constant("channel_order", np.array([2, 1, 0], np.int64))
            x = self._node("Gather", [x, order_name], "normalised.bgr", axis=3)
        self._node("QuantizeLinear", [x, *self._of(INPUT)], INPUT)

    def conv(self, layer: Conv, output: str, encoding: Encoding) -> None:
        """Write ``layer`` with its result called ``output``."""
        self._encode(output, encoding)
        weight, scales = quantise_weight(layer.weight)
        inputs = [self._at(layer.input), *self._of(layer.input)]
        inputs += [
            self._constant(f"{layer.name}.weight", weight),
            self._constant(f"{layer.name}.weight_scale", scales),
            self._constant(f"{layer.name}.weight_zero", np.zeros(len(scales), np.int8)),
            *self._of(output),
        ]
        step = scales.astype(np.float64) * self._encodings[layer.input].scale
        if layer.bias is not None:
            inputs.append(self._bias(f"{layer.name}.bias", layer.bias, step))
        self.weighted.append(
            WeightedNode(output, layer.name, layer.weight, layer.bias is not None, step)
        )
        self._node(
            "QLinearConv",
            inputs,
            output,
            domain=_ORT_DOMAIN,
            channels_last=1,
            kernel_shape=list(layer.weight.shape[2:]),
            strides=[layer.stride] * 2,
            pads=[*layer.pads, *layer.pads],
            group=layer.groups,
        )

    def add(self, layer: Add, output: str, encoding: Encoding) -> None:
        """Write the sum of ``layer`` with its result called ``output``."""
        self._encode(output, encoding)
        inputs = [self._at(layer.skip), *self._of(layer.skip)]
        inputs += [self._at(layer.input), *self._of(layer.input), *self._of(output)]
        self._node("QLinearAdd", inputs, output, domain=_ORT_DOMAIN)

    def prelu(self, layer: PRelu) -> None:
        """Write Max(x, slope * x); every slope must be at most 1."""
        encoding = self._encodings[layer.input]
        self._encode(layer.name, encoding)
        scaled = f"{layer.name}.scaled"
        channels = len(layer.slope)
        weight = layer.slope.reshape(channels, 1, 1, 1)
        self.conv(Conv(scaled, layer.input, weight, groups=channels), scaled, encoding)
        self.weighted.pop()
        self._node("Max", [self._at(layer.input), scaled], layer.name)

    def float_prelu(self, layer: PRelu, encoding: Encoding) -> None:
        """Write ``layer`` in float between two conversions, for slopes above 1."""
        self._encode(layer.name, encoding)
        inputs = [self._at(layer.input), *self._of(layer.input)]
        x = self._node("DequantizeLinear", inputs, f"{layer.name}.input")
        slope = self._float(f"{layer.name}.slope", layer.slope)
        x = self._node("PRelu", [x, slope], f"{layer.name}.float")
        self._node("QuantizeLinear", [x, *self._of(layer.name)], layer.name)

    def clip(self, layer: Relu) -> None:
        """Write a ReLU that no layer could take in."""
        encoding = self._encodings[layer.input]
        self._encode(layer.name, encoding)
        ceiling = _LEVELS if layer.ceiling is None else encoding.quantise(layer.ceiling)
        floor_name = self._constant(f"{layer.name}.floor", np.array(encoding.zero_point, np.uint8))
        ceiling_name = self._constant(f"{layer.name}.ceiling", np.array(ceiling, np.uint8))
        self._node("Clip", [self._at(layer.input), floor_name, ceiling_name], layer.name)

    def head(self, layer: Conv | Linear, shape: Shape) -> None:
        """Write ``layer``, which reads a whole map of ``shape``, and bring rows to length 1."""
        matrix = _as_matrix(layer, shape)
        flat = self._node("Flatten", [self._at(layer.input)], "flat", axis=1)
        weight, scales = quantise_weight(matrix)
        step = scales.astype(np.float64) * self._encodings[layer.input].scale
        bias = np.zeros(len(scales), np.float32) if layer.bias is None else layer.bias
        inputs = [
            flat,
            *self._of(layer.input),
            self._constant(f"{layer.name}.weight", np.ascontiguousarray(weight.T)),
            self._constant(f"{layer.name}.weight_scale", scales),
            self._constant(f"{layer.name}.weight_zero", np.zeros(len(scales), np.int8)),
            self._bias(f"{layer.name}.bias", bias, step),
        ]
        x = self._node("QGemm", inputs, "features", domain=_ORT_DOMAIN)
        self.weighted.append(WeightedNode(x, layer.name, matrix, True, step, flat=True))
        length = self._node("ReduceL2", [x], "length", axes=[1], keepdims=1)
        floor = self._float("min_length", np.array([_MIN_LENGTH]))
        length = self._node("Max", [length, floor], "safe_length")
        self._node("Div", [x, length], OUTPUT_NAME)

    def float_tail(self, float_model: onnx.ModelProto, layers: Sequence[Layer]) -> None:
        """Write the last ``layers`` and what follows them as they are in ``float_model``."""
        nodes = list(float_model.graph.node)
        first = next(k for k, node in enumerate(nodes) if node.name == layers[0].name)
        made = {output for node in nodes[first:] for output in node.output}
        read = dict.fromkeys(name for node in nodes[first:] for name in node.input)
        constants = {tensor.name: tensor for tensor in float_model.graph.initializer}
        self._initializers += [constants[name] for name in read if name in constants]
        for name in [n for n in read if n not in constants and n not in made]:
            x = self._node("DequantizeLinear", [self._at(name), *self._of(name)], f"{name}.real")
            self._node("Transpose", [x], f"{name}.float", perm=[0, 3, 1, 2])
        for node in nodes[first:]:
            inputs = [n if n in constants or n in made else f"{n}.float" for n in node.input]
            del node.input[:]
            node.input.extend(inputs)
            self._nodes.append(node)

    def model(self, name: str) -> onnx.ModelProto:
        """Return the checked model."""
        size = self._crop_size
        crops = helper.make_tensor_value_info(
            INPUT_NAME, TensorProto.UINT8, ["n", size.height_px, size.width_px, 3]
        )
        rows = helper.make_tensor_value_info(
            OUTPUT_NAME, TensorProto.FLOAT, ["n", self._embedding_size]
        )
        model = helper.make_model(
            helper.make_graph(self._nodes, name, [crops], [rows], self._initializers),
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(_ORT_DOMAIN, 1)],
            ir_version=IR_VERSION,
            producer_name="edgeface",
        )
        onnx.checker.check_model(model)
        return model

    def _node(self, kind: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        node = helper.make_node(kind, list(inputs), [output], name=output, **attributes)
        self._nodes.append(node)
        return output

    def _constant(self, name: str, values: npt.NDArray[np.generic]) -> str:
        self._initializers.append(numpy_helper.from_array(values, name))
        return name

    def _float(self, name: str, values: npt.NDArray[np.floating]) -> str:
        return self._constant(name, np.ascontiguousarray(values, np.float32))

    def _bias(
        self, name: str, values: npt.NDArray[np.float32], step: npt.NDArray[np.float64]
    ) -> str:
        steps = np.clip(np.rint(values.astype(np.float64) / step), -_INT32_MAX, _INT32_MAX)
        return self._constant(name, steps.astype(np.int32))

    def _encode(self, tensor: str, encoding: Encoding) -> None:
        self._encodings[tensor] = encoding
        self._tensors.setdefault(tensor, tensor)
        self._constant(f"{tensor}.scale", np.array(encoding.scale, np.float32))
        self._constant(f"{tensor}.zero_point", np.array(encoding.zero_point, np.uint8))

    def _of(self, tensor: str) -> tuple[str, str]:
        return f"{tensor}.scale", f"{tensor}.zero_point"

    def _at(self, tensor: str) -> str:
        return self._tensors[tensor]


def _as_matrix(layer: Conv | Linear, shape: Shape) -> npt.NDArray[np.float32]:
    """Return the weights of ``layer`` as (out, in), for a map flattened channels last."""
    if len(shape) == 1:
        return layer.weight
    out = layer.weight.shape[0]
    return np.ascontiguousarray(
        layer.weight.reshape(out, *shape).transpose(0, 2, 3, 1).reshape(out, -1)
    )
