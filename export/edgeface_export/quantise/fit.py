"""Fits the weights and biases of an INT8 graph to what its layers really read, in their order.

Each layer sees what the INT8 layers before it make of the pictures. Its weights are rounded for
those inputs (:mod:`.rounding`), and the mean error that is left in each output channel, against
the float layer on its own inputs, is taken out of the bias (bias correction; Nagel et al., ICCV
2019, section 4.3). Errors of the mean are so stopped layer by layer instead of adding up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from edgeface.types import FloatArray, ImageArray
from edgeface_export.graph.session import EmbeddingSession
from edgeface_export.quantise.rounding import fit_weight
from edgeface_export.quantise.statistics import batches
from edgeface_export.quantise.walk import GraphWalk, Patches

__all__ = ["LayerConstants", "fit_layers", "mean_outputs", "some_crops"]

# Means and covariances over these many crops, of some hundred positions each, no longer move.
_FIT_CROPS = 64

_Array: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LayerConstants:
    """The names of a layer's constants in an INT8 graph.

    ``scale`` is empty where the weight is float. ``bias_step`` is what an integer bias counts, by
    output channel, None for a float bias. ``flat`` says that the weight is stored (in, out).
    """

    weight: str
    scale: str
    bias: str
    bias_step: _Array | None = None
    flat: bool = False


def some_crops(crops: ImageArray) -> ImageArray:
    """Return as many of ``crops``, taken evenly, as it takes to fit layers."""
    count = min(_FIT_CROPS, len(crops))
    some: ImageArray = crops[np.linspace(0, len(crops) - 1, count).astype(int)]
    return some


def mean_outputs(
    model: onnx.ModelProto, layers: Sequence[str], crops: ImageArray
) -> dict[str, _Array]:
    """Return the mean of each output channel of ``layers`` of a float ``model`` over ``crops``."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    names = [f"{name}.mean" for name in layers]
    del copy.graph.output[:]
    for layer, name in zip(layers, names, strict=True):
        # Rows of a matrix have two axes, maps four: one axis for both.
        flat = helper.make_node(
            "Reshape", [layer, "channels_by_positions"], [f"{name}.flat"], name=f"{name}.flat"
        )
        mean = helper.make_node("ReduceMean", [f"{name}.flat"], [name], axes=[0, 2], keepdims=0)
        copy.graph.node.extend([flat, mean])
        copy.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    shape = np.array([0, 0, -1], np.int64)
    copy.graph.initializer.append(onnx.numpy_helper.from_array(shape, "channels_by_positions"))
    session = EmbeddingSession(copy, outputs=names)
    sums: dict[str, _Array] = {}
    for batch in batches(crops):
        for name, means in zip(layers, session.run(batch), strict=True):
            sums[name] = sums.get(name, np.zeros(1)) + means.astype(np.float64) * len(batch)
    return {name: total / len(crops) for name, total in sums.items()}


def fit_layers(
    model: onnx.ModelProto,
    layers: Mapping[str, LayerConstants],
    weights: Mapping[str, FloatArray],
    targets: Mapping[str, _Array],
    crops: ImageArray,
    *,
    progress: Callable[[Iterable[onnx.NodeProto]], Iterable[onnx.NodeProto]] = iter,
) -> None:
    """Fit ``layers`` of the Q/DQ or integer ``model`` in place, on uint8 ``crops``.

    ``weights`` are the float weights of the INT8 layers among them, as (out, in / groups, height,
    width) or (out, in); ``targets`` the mean of each output channel in float.
    """
    walk = GraphWalk(model, crops, list(layers))
    for node in progress(walk.layers()):
        names = layers[node.name]
        patches = walk.patches(node)
        if names.scale:
            _fit_weight(walk, names, weights[node.name], patches)
        if names.bias:
            _fit_bias(walk, names, patches, targets[node.name])


def _fit_weight(
    walk: GraphWalk, names: LayerConstants, weight: FloatArray, patches: Patches
) -> None:
    covariance = patches.covariance()
    if covariance is None:
        return
    steps = fit_weight(weight, walk.constant(names.scale), covariance)
    walk.set_constant(names.weight, np.ascontiguousarray(steps.T) if names.flat else steps)


def _fit_bias(walk: GraphWalk, names: LayerConstants, patches: Patches, target: _Array) -> None:
    weight = walk.constant(names.weight).astype(np.float64)
    weight = weight.T if names.flat else weight
    weight = weight.reshape(patches.groups, len(weight) // patches.groups, -1)
    read = patches.mean().reshape(patches.groups, -1)
    made = np.einsum("gok,gk->go", weight, read).ravel()
    if names.scale:
        made *= walk.constant(names.scale)
    bias = target - made
    if names.bias_step is not None:
        limit = 2**31 - 1
        steps = np.clip(np.rint(bias / names.bias_step), -limit, limit)
        walk.set_constant(names.bias, steps.astype(np.int32))
    else:
        walk.set_constant(names.bias, bias.astype(np.float32))
