"""A Caffe network by PyTorch: read with Google's protobuf, run layer by layer as Caffe does.

It shares no code with the exporter: files are read by a schema that is made here, and each layer is
computed from its own description on blobs that are overwritten in place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
)
from torch import Tensor
from torch.nn import functional

_INT, _FLOAT, _BOOL, _TEXT, _MESSAGE, _LONG = 5, 2, 8, 9, 11, 3
# Fields of caffe.proto that the networks at hand use: name, number, type, repeated, message.
_SCHEMA: dict[str, list[tuple[str, int, int, bool, str]]] = {
    "BlobShape": [("dim", 1, _LONG, True, "")],
    "BlobProto": [("data", 5, _FLOAT, True, ""), ("shape", 7, _MESSAGE, False, "BlobShape")]
    + [(n, k, _INT, False, "") for k, n in enumerate(("num", "channels", "height", "width"), 1)],
    "ConvolutionParameter": [
        ("num_output", 1, _INT, False, ""),
        ("bias_term", 2, _BOOL, False, ""),
        ("pad", 3, _INT, True, ""),
        ("kernel_size", 4, _INT, True, ""),
        ("group", 5, _INT, False, ""),
        ("stride", 6, _INT, True, ""),
        ("kernel_h", 11, _INT, False, ""),
        ("kernel_w", 12, _INT, False, ""),
    ],
    "InnerProductParameter": [("bias_term", 2, _BOOL, False, "")],
    "ScaleParameter": [("bias_term", 4, _BOOL, False, "")],
    "LayerParameter": [
        ("name", 1, _TEXT, False, ""),
        ("type", 2, _TEXT, False, ""),
        ("bottom", 3, _TEXT, True, ""),
        ("top", 4, _TEXT, True, ""),
        ("blobs", 7, _MESSAGE, True, "BlobProto"),
        ("convolution_param", 106, _MESSAGE, False, "ConvolutionParameter"),
        ("inner_product_param", 117, _MESSAGE, False, "InnerProductParameter"),
        ("scale_param", 142, _MESSAGE, False, "ScaleParameter"),
    ],
    "NetParameter": [
        ("name", 1, _TEXT, False, ""),
        ("input", 3, _TEXT, True, ""),
        ("input_dim", 4, _INT, True, ""),
        ("layer", 100, _MESSAGE, True, "LayerParameter"),
    ],
}


def _net_class() -> type[Any]:
    file = descriptor_pb2.FileDescriptorProto(name="caffe_test.proto", package="caffe_test")
    file.syntax = "proto2"
    for name, fields in _SCHEMA.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated, of in fields:
            made = message.field.add(
                name=field, number=number, type=kind, label=3 if repeated else 1
            )
            if of:
                made.type_name = f".caffe_test.{of}"
            if kind == _FLOAT and repeated:
                made.options.packed = True
            if field == "bias_term":
                made.default_value = "false" if name == "ScaleParameter" else "true"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName("caffe_test.NetParameter")
    net: type[Any] = message_factory.GetMessageClass(found)
    return net


class CaffeNet:
    """The network of a description and its weights; call it with (n, 3, height, width)."""

    def __init__(self, description: Path, weights: Path) -> None:
        net = _net_class()
        self._net = text_format.Parse(description.read_text(), net(), allow_unknown_field=True)
        trained = net()
        trained.ParseFromString(weights.read_bytes())
        self._blobs = {
            layer.name: [self._blob(blob) for blob in layer.blobs] for layer in trained.layer
        }

    @staticmethod
    def _blob(blob: Any) -> Tensor:
        sides = list(blob.shape.dim) or [blob.num, blob.channels, blob.height, blob.width]
        return torch.from_numpy(np.array(blob.data, np.float32).reshape(sides))

    def __call__(self, picture: Tensor) -> Tensor:
        blobs = {self._net.input[0]: picture}
        last = picture
        for layer in self._net.layer:
            inputs = [blobs[name] for name in layer.bottom]
            last = blobs[layer.top[0]] = self._forward(layer, inputs)
        return last.flatten(1)

    def _forward(self, layer: Any, inputs: list[Tensor]) -> Tensor:
        x, own = inputs[0], self._blobs.get(layer.name, [])
        match layer.type:
            case "Convolution" | "DepthwiseConvolution":
                of = layer.convolution_param
                bias = own[1].flatten() if of.bias_term else None
                stride, pad = (list(of.stride) or [1])[0], (list(of.pad) or [0])[0]
                return functional.conv2d(x, own[0], bias, stride, pad, 1, of.group or 1)
            case "BatchNorm":
                mean, variance, factor = (blob.flatten() for blob in own)
                mean, variance = mean / factor, variance / factor
                return functional.batch_norm(x, mean, variance, eps=1e-5)
            case "Scale":
                shifted = own[1].view(1, -1, 1, 1) if layer.scale_param.bias_term else 0
                return x * own[0].view(1, -1, 1, 1) + shifted
            case "PReLU":
                return functional.prelu(x, own[0].flatten())
            case "Eltwise":
                return inputs[0] + inputs[1]
            case "InnerProduct":
                bias = own[1].flatten() if layer.inner_product_param.bias_term else None
                return functional.linear(x.flatten(1), own[0].flatten(0, -2), bias)
        raise AssertionError(layer.type)
