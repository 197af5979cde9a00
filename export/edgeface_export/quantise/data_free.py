"""Ranges without a single picture, from the statistics that BatchNorm kept while training.

After a BatchNorm each channel has mean beta and deviation gamma over the training pictures, so
the network itself tells its ranges (Nagel et al., "Data-Free Quantization Through Weight
Equalization and Bias Correction", ICCV 2019, section 4.2.1). The two moments are carried through
activations, for a Gaussian, and through residual sums, as if their inputs were independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgeface.errors import ArchitectureError
from edgeface_export.architectures.network import (
    INPUT,
    Add,
    BatchNorm,
    Conv,
    Layer,
    Linear,
    Network,
    PRelu,
    Relu,
)
from edgeface_export.architectures.operations import HardSwish
from edgeface_export.quantise.ranges import TensorRange

__all__ = ["DEVIATIONS", "data_free_ranges"]

DEVIATIONS = 6.0
"""Deviations of a channel that its range covers; 6 is the paper's choice."""

_LEAST_HARD_SWISH = -0.375
# Of the quadrature over a Gaussian.
_PLACES = 64

_Ends = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
_Moments = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def data_free_ranges(
    network: Network, tensors: Sequence[str], *, deviations: float = DEVIATIONS
) -> dict[str, TensorRange]:
    """Return the range of each of ``tensors``, named as in the emitted graph.

    Raises:
        ArchitectureError: A tensor has no BatchNorm before it to tell its statistics.
    """
    moments = _propagate(network)
    ranges: dict[str, TensorRange] = {}
    for name in tensors:
        if name == INPUT:
            low, high = _input_ends(network)
        elif name in moments:
            mean, deviation = moments[name]
            floor, ceiling = _bounds(network, name)
            low = np.maximum(floor, mean - deviations * deviation)
            high = np.minimum(ceiling, mean + deviations * deviation)
        else:
            raise ArchitectureError(
                f"{name}: no BatchNorm before it tells its range, as in a graph that was exported "
                "with its BatchNorms folded; give --activation-set FOLDER, or export the graph "
                "with them (torch.onnx.export(..., training=TrainingMode.PRESERVE))"
            )
        ends = min(0.0, float(low.min())), max(0.0, float(high.max()))
        ranges[name] = TensorRange(*ends, "exact" if name == INPUT else "batchnorm")
    return ranges


def _propagate(network: Network) -> dict[str, _Moments]:
    """Return (mean, deviation) of each channel by tensor, under the names of the emitted graph."""
    moments: dict[str, _Moments] = {INPUT: (np.zeros(3), np.ones(3))}
    emitted = {INPUT: INPUT}
    for layer in network.layers:
        # A folded BatchNorm's output carries the name of the convolution before it.
        emitted[layer.name] = emitted[layer.input] if isinstance(layer, BatchNorm) else layer.name
        known = _moments_after(layer, moments, emitted)
        if known is not None:
            moments[emitted[layer.name]] = known
    return moments


def _moments_after(
    layer: Layer, moments: dict[str, _Moments], emitted: dict[str, str]
) -> _Moments | None:
    """Return the moments after ``layer``, or None before a BatchNorm has told them."""
    if isinstance(layer, BatchNorm):
        return layer.beta.astype(np.float64), np.abs(layer.gamma.astype(np.float64))
    before = moments.get(emitted[layer.input])
    if before is None or isinstance(layer, Conv | Linear):
        return None
    if isinstance(layer, Add):
        other = moments.get(emitted[layer.skip])
        return None if other is None else (before[0] + other[0], np.hypot(before[1], other[1]))
    if isinstance(layer, PRelu):
        return _after_prelu(*before, layer.slope.astype(np.float64))
    if isinstance(layer, Relu):
        # A ceiling only shrinks the moments; the range is cut to it in `_bounds`.
        return _after_prelu(*before, np.zeros_like(before[0]))
    return _after_hard_swish(*before) if isinstance(layer, HardSwish) else before


def _after_hard_swish(
    mean: npt.NDArray[np.float64], deviation: npt.NDArray[np.float64]
) -> _Moments:
    """Return the moments of hard swish of a Gaussian, by Gauss-Hermite quadrature."""
    places, shares = np.polynomial.hermite_e.hermegauss(_PLACES)
    x = mean[:, None] + deviation[:, None] * places
    y = x * np.clip(x + 3, 0.0, 6.0) / 6
    shares = shares / shares.sum()
    new_mean = y @ shares
    return new_mean, np.sqrt((y - new_mean[:, None]) ** 2 @ shares)


def _after_prelu(
    mean: npt.NDArray[np.float64],
    deviation: npt.NDArray[np.float64],
    slope: npt.NDArray[np.float64],
) -> _Moments:
    """Return the moments of PReLU(x) for Gaussian x, from those of its two halves."""
    safe = np.maximum(deviation, 1e-12)
    z = mean / safe
    density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    above = 0.5 * (1 + np.vectorize(math.erf)(z / math.sqrt(2)))
    positive = mean * above + safe * density
    positive_square = (mean**2 + safe**2) * above + mean * safe * density
    negative = mean - positive
    negative_square = mean**2 + safe**2 - positive_square
    new_mean = positive + slope * negative
    variance = positive_square + slope**2 * negative_square - new_mean**2
    return new_mean, np.sqrt(np.maximum(variance, 0.0))


def _bounds(network: Network, tensor: str) -> tuple[float, float]:
    """Return the smallest and largest value that ``tensor`` can have by construction."""
    for layer in network.layers:
        if layer.name == tensor and isinstance(layer, Relu):
            return 0.0, math.inf if layer.ceiling is None else layer.ceiling
        if layer.name == tensor and isinstance(layer, HardSwish):
            return _LEAST_HARD_SWISH, math.inf
    return -math.inf, math.inf


def _input_ends(network: Network) -> _Ends:
    """Return the exact range of each channel of the preprocessed crop."""
    mean = np.asarray(network.preprocessing.mean)
    scale = np.asarray(network.preprocessing.scale)
    return (0.0 - mean) / scale, (255.0 - mean) / scale
