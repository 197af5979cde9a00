"""A forward pass in numpy float64, layer by layer as the checkpoint has them: nothing folded.

It shares no code with the ONNX emitter or with an inference library, so agreement of the two is
evidence that emission and folding are right. Slow (about half a second for a MobileFaceNet crop).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeface.types import ImageArray
from edgeface_export.architectures.network import (
    INPUT,
    Add,
    BatchNorm,
    Conv,
    Flatten,
    Gate,
    GlobalAveragePool,
    Layer,
    Linear,
    Network,
    Output,
    PRelu,
    Relu,
    Sigmoid,
)
from edgeface_export.graph.reference_operations import operation_forward

__all__ = ["reference_embeddings"]

_Array = npt.NDArray[np.float64]


def reference_embeddings(network: Network, crops: ImageArray) -> _Array:
    """Return (n, embedding size) float64 rows for (n, height, width, 3) uint8 RGB crops.

    Rows are of unit length, or of a network for class scores probabilities that sum to 1.
    """
    return np.stack([_embed(network, crop) for crop in crops])


def _embed(network: Network, crop: ImageArray) -> _Array:
    spec = network.preprocessing
    pixels = crop if spec.colour_order == "RGB" else crop[..., ::-1]
    values = (pixels.astype(np.float64) - np.asarray(spec.mean)) / np.asarray(spec.scale)
    at: dict[str, _Array] = {INPUT: values.transpose(2, 0, 1)}
    for layer in network.layers:
        at[layer.name] = _forward(layer, at)
    features = at[network.layers[-1].name]
    if network.output is Output.CLASS_SCORES:
        shares = np.exp(features - features.max())
        return np.asarray(shares / shares.sum())
    return features / np.linalg.norm(features)


def _forward(layer: Layer, at: dict[str, _Array]) -> _Array:
    x = at[layer.input]
    match layer:
        case Conv():
            return _convolve(x, layer)
        case Linear():
            y = layer.weight.astype(np.float64) @ x
            return y if layer.bias is None else y + layer.bias
        case BatchNorm():
            shape = (-1,) + (1,) * (x.ndim - 1)
            deviation = np.sqrt(layer.variance.astype(np.float64) + layer.epsilon)
            centred = (x - layer.mean.reshape(shape)) / deviation.reshape(shape)
            return centred * layer.gamma.reshape(shape) + layer.beta.reshape(shape)
        case PRelu():
            slope = layer.slope.astype(np.float64).reshape(-1, *(1,) * (x.ndim - 1))
            return np.where(x > 0, x, x * slope)
        case Relu():
            return np.clip(x, 0.0, layer.ceiling)
        case Add() | Flatten() | GlobalAveragePool() | Sigmoid() | Gate():
            return _untrained(layer, x, at)
        case _:
            return operation_forward(layer, x, at)


def _untrained(
    layer: Add | Flatten | GlobalAveragePool | Sigmoid | Gate, x: _Array, at: dict[str, _Array]
) -> _Array:
    match layer:
        case Add():
            return x + at[layer.skip]
        case Gate():
            return x * at[layer.skip]
        case Flatten():
            return x.reshape(-1)
        case GlobalAveragePool():
            return np.asarray(x.mean(axis=(1, 2), keepdims=True))
        case Sigmoid():
            # tanh cannot overflow, as exp(-x) can.
            return np.asarray(0.5 * (1 + np.tanh(x / 2)))


def _convolve(x: _Array, layer: Conv) -> _Array:
    """Return the convolution as a sum over kernel positions of shifted products."""
    weight = layer.weight.astype(np.float64)
    rows_of_zeros, columns_of_zeros = layer.pads
    padded = np.pad(x, ((0, 0), (rows_of_zeros,) * 2, (columns_of_zeros,) * 2))
    out, rows, columns = layer.output_shape(x.shape)
    per_group = weight.shape[1]
    y = np.zeros((out, rows, columns))
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            window = padded[
                :,
                i : i + (rows - 1) * layer.stride + 1 : layer.stride,
                j : j + (columns - 1) * layer.stride + 1 : layer.stride,
            ]
            tap = weight[:, :, i, j].reshape(layer.groups, -1, per_group)
            grouped = window.reshape(layer.groups, per_group, rows * columns)
            y += (tap @ grouped).reshape(out, rows, columns)
    return y if layer.bias is None else y + layer.bias.astype(np.float64).reshape(-1, 1, 1)
