"""The graphs that NVIDIA's parser is shown, right ones and wrong ones."""

from __future__ import annotations

import numpy as np
import onnx  # noqa: TID253 - in tests only
from onnx import TensorProto, helper, numpy_helper  # noqa: TID253

from edgeface_export.architectures.network import Network
from edgeface_export.graph.emit import emit
from edgeface_export.graph.half import to_half
from edgeface_export.probes import synthetic_crops
from edgeface_export.quantise import QuantiseOptions, quantise


def graphs_of(network: Network, name: str) -> dict[str, onnx.ModelProto]:
    """A network in each precision that an engine can be built in."""
    fp32 = emit(network, name=name)
    crops = synthetic_crops(16, network.crop_size)
    int8 = quantise(network, crops, QuantiseOptions(float_share=0.02), name=name).model
    return {
        f"{name}.fp32": fp32,
        f"{name}.fp16": to_half(fp32),
        f"{name}.int8": int8,
        f"{name}.int8-fp16": to_half(int8),
    }


def with_integer_bias(int8: onnx.ModelProto) -> onnx.ModelProto:
    """As ONNX Runtime's own quantiser does it: the bias of the first convolution in INT32."""
    model = _copy(int8)
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    bias = next(t for t in model.graph.initializer if t.name == conv.input[2])
    values = numpy_helper.to_array(bias)
    steps = np.rint(values / np.float32(1e-4)).astype(np.int32)
    bias.CopyFrom(numpy_helper.from_array(steps, bias.name))
    scale = numpy_helper.from_array(np.full(len(values), 1e-4, np.float32), "bias_scale")
    model.graph.initializer.append(scale)
    node = helper.make_node(
        "DequantizeLinear", [bias.name, "bias_scale"], ["bias_float"], name="bias_float", axis=0
    )
    model.graph.node.insert(0, node)
    conv.input[2] = "bias_float"
    onnx.checker.check_model(model, full_check=True)
    return model


def with_zero_point(int8: onnx.ModelProto, value: int = 3) -> onnx.ModelProto:
    """An asymmetric activation: a zero point that is not zero."""
    model = _copy(int8)
    node = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    zero = next(t for t in model.graph.initializer if t.name == node.input[2])
    zero.CopyFrom(numpy_helper.from_array(np.array(value, np.int8), zero.name))
    return model


def with_unsigned_activation(int8: onnx.ModelProto) -> onnx.ModelProto:
    """As CPUs like it: an activation in UINT8 around 128."""
    model = _copy(int8)
    node = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    zero = next(t for t in model.graph.initializer if t.name == node.input[2])
    zero.CopyFrom(numpy_helper.from_array(np.array(128, np.uint8), zero.name))
    del model.graph.value_info[:]
    return model


def with_unknown_node(fp32: onnx.ModelProto) -> onnx.ModelProto:
    """A node that no standard operator set has."""
    model = _copy(fp32)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    old = model.graph.output[0].name
    node = helper.make_node(
        "NoSuchNode", [old], ["strange"], name="strange", domain="com.microsoft"
    )
    model.graph.node.append(node)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("strange", TensorProto.FLOAT, None))
    return model


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy
