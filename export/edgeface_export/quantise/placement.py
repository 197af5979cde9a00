"""Where a graph is quantised: the rules of TensorRT's explicit quantisation.

They follow NVIDIA's own placement code (Model-Optimizer, modelopt/onnx/quantization) as read in
August 2026, and hold for TensorRT 10 and 11, TensorRT-RTX and OpenVINO:

* the inputs of convolutions and matrices are quantised, never their outputs;
* nothing stands between a convolution and its activation;
* of a residual sum only the skip is quantised, so that the convolution can take the sum in;
* weights by output channel, activations by tensor, all symmetric, biases in float;
* a depthwise or other grouped convolution only with a multiple of 8 output channels and a kernel
  of at least 3x3;
* the first layer, which reads 3 channels, only with at least 16 output channels;
* another convolution only if both its channel counts are at least 16, or one is and one of the two
  is a multiple of 8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

__all__ = ["Placement", "attribute", "place", "weight_shapes"]


@dataclass(frozen=True, slots=True)
class Placement:
    """What is to be quantised.

    ``nodes`` are the convolutions and matrices that run in INT8, ``skips`` the residual sums, and
    ``tensors`` the activations that therefore need a range, in the order of the graph.
    ``kept_float`` gives the reason for each weighted node that stays in float.
    """

    nodes: tuple[str, ...]
    skips: tuple[str, ...]
    tensors: tuple[str, ...]
    kept_float: dict[str, str]


def attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    """Return the integer attribute ``name`` of ``node``."""
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def weight_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Return the shape of each initialiser, by name."""
    return {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}


def place(
    model: onnx.ModelProto,
    *,
    keep_float: frozenset[str] = frozenset(),
    reasons: Mapping[str, str] | None = None,
) -> Placement:
    """Return the placement for ``model``; nodes named in ``keep_float`` stay in float.

    So do those of ``reasons``, each for the reason given.
    """
    asked = dict.fromkeys(keep_float, "asked for") | dict(reasons or {})
    shapes = weight_shapes(model)
    nodes, skips, kept = [], [], {}
    tensors: dict[str, None] = {}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            reason = asked.get(node.name) or _refusal(node, shapes)
            if reason:
                kept[node.name] = reason
                continue
            nodes.append(node.name)
            tensors.setdefault(node.input[0])
        elif node.op_type == "Add":
            skips.append(node.name)
            tensors.setdefault(node.input[0])
    return Placement(tuple(nodes), tuple(skips), tuple(tensors), kept)


def _refusal(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> str:
    """Return why ``node`` cannot run in INT8, or an empty string."""
    shape = shapes[node.input[1]]
    if node.op_type == "Gemm":
        # A matrix times one vector is bound by memory; TensorRT has no INT8 kernel for it.
        return "a fully connected layer at batch 1 is a matrix-vector product"
    out, per_group, *kernel = shape
    groups = attribute(node, "group", 1)
    if groups > 1:
        kind = "depthwise" if per_group == 1 else f"in {groups} groups"
        if out % 8:
            return f"{kind} with {out} channels, not a multiple of 8"
        return "" if min(kernel) >= 3 else f"{kind} with a {kernel[0]}x{kernel[1]} kernel"
    if per_group == 3:
        return "" if out >= 16 else f"first layer with {out} channels, fewer than 16"
    if min(out, per_group) < 16 and (max(out, per_group) < 16 or (out % 8 and per_group % 8)):
        return f"{per_group} to {out} channels, too few"
    return ""
