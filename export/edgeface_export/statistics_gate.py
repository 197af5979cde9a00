"""Do the crops look to the network like what it was trained on?

While training, each BatchNorm kept the mean and the variance of every channel. Crops that went
through the trainer's preprocessing cause the same statistics again; exchanged colours, another
scale, noise, or pictures that are no faces do not. The distance is that of two Gaussians (the
Kullback-Leibler divergence from the trained one, in nats), averaged over the channels of a layer.

Measured on four MobileFaceNets with 64 crops of LFW (docs/benchmarks.md): the first layer is at
0.003 to 0.024 as it should be, 0.23 to 0.38 with red and blue exchanged, 0.17 to 0.33 in grey,
0.6 and more at half of the brightness; the mean of all layers is at 0.006 to 0.06, against 0.63
and more for noise, blanks and shuffled pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from edgeface.types import ImageArray
from edgeface_export.architectures.network import BatchNorm, Conv, Layer, Network
from edgeface_export.gate_limits import GateLimits
from edgeface_export.gates import GateResult, at_most
from edgeface_export.graph.session import EmbeddingSession

__all__ = ["StatisticsFit", "measure_statistics", "statistics_gates"]

# Means over 64 crops of some thousand positions each no longer move.
_CROPS = 64
_BATCH = 8
# A channel whose gamma is nearly zero is switched off: its statistics say nothing.
_SMALLEST_GAMMA = 1e-3
# One channel that is off by far must not hide what all the others say.
_LARGEST_DISTANCE = 50.0
_Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StatisticsFit:
    """Distances to the trained statistics: of all layers on average, and of the first.

    ``exchanged`` is that of the first layer with red and blue exchanged.
    """

    all_layers: float
    first_layer: float
    exchanged: float
    crops: int

    @property
    def colour_ratio(self) -> float:
        """How much worse the colours fit than exchanged ones; below 1 they fit better."""
        return self.first_layer / max(self.exchanged, 1e-12)

    def figures(self) -> dict[str, float]:
        """Return the figures by the names they have in the manifest."""
        return {
            "statistics_distance": self.all_layers,
            "first_layer_distance": self.first_layer,
            "first_layer_distance_exchanged": self.exchanged,
        }


def measure_statistics(
    network: Network, model: onnx.ModelProto, crops: ImageArray
) -> StatisticsFit | None:
    """Return how (n, height, width, 3) uint8 RGB ``crops`` fit ``network``, an even 64 of them.

    ``model`` is the float graph of ``network``. None where no BatchNorm follows a convolution, so
    that nothing is known of the training.
    """
    norms = _norms(network.layers)
    if not norms:
        return None
    chosen = np.unique(np.linspace(0, len(crops) - 1, min(_CROPS, len(crops))).astype(int))
    some = crops[chosen]
    distances = _distances(model, norms, some)
    exchanged = _distances(model, norms[:1], some[..., ::-1])
    return StatisticsFit(
        float(distances.mean()), float(distances[0]), float(exchanged[0]), len(some)
    )


def statistics_gates(fit: StatisticsFit, limits: GateLimits) -> list[GateResult]:
    """Return the gates on an activation set that does not fit the network."""
    return [
        at_most(
            "distance of the crops to the training",
            fit.all_layers,
            limits.max_statistics_distance,
            "The activation set does not show what the model was trained on: give aligned faces",
        ),
        at_most(
            "distance of the first layer",
            fit.first_layer,
            limits.max_first_layer_distance,
            "Brightness or contrast are not those of the training: the preprocessing declared is "
            "not the trainer's, or the activation set is very dark or pale",
        ),
        at_most(
            "colours as declared over colours exchanged",
            fit.colour_ratio,
            limits.max_colour_ratio,
            "With red and blue exchanged the crops fit the model better: the activation set is in "
            "the wrong colour order, or the preprocessing declares the wrong one",
        ),
    ]


def _norms(layers: Sequence[Layer]) -> list[BatchNorm]:
    """Return each BatchNorm that follows a convolution, in the order of the network."""
    convolutions = {layer.name for layer in layers if isinstance(layer, Conv)}
    return [
        layer for layer in layers if isinstance(layer, BatchNorm) and layer.input in convolutions
    ]


def _distances(model: onnx.ModelProto, norms: Sequence[BatchNorm], crops: ImageArray) -> _Array:
    """Return the distance of each of ``norms`` to what ``crops`` cause."""
    # A BatchNorm is folded into the convolution before it, whose output carries its name.
    tensors = [norm.input for norm in norms]
    session = EmbeddingSession(_with_outputs(model, tensors), outputs=tensors)
    sums = [np.zeros((2, len(norm.gamma))) for norm in norms]
    counts = [0] * len(norms)
    for start in range(0, len(crops), _BATCH):
        for k, values in enumerate(session.run(crops[start : start + _BATCH])):
            axes = (0, *range(2, values.ndim))
            sums[k] += (
                values.sum(axes, dtype=np.float64),
                np.square(values).sum(axes, dtype=np.float64),
            )
            counts[k] += values.size // values.shape[1]
    moments = zip(norms, sums, counts, strict=True)
    return np.array([_distance(norm, *(total / count)) for norm, total, count in moments])


def _distance(norm: BatchNorm, mean: _Array, mean_square: _Array) -> float:
    """Return the distance of a channel's (mean, variance) to (beta, gamma squared), on average."""
    gamma = np.abs(norm.gamma.astype(np.float64))
    known = gamma > _SMALLEST_GAMMA * gamma.max(initial=1e-30)
    if not known.any():
        return 0.0
    shift = (mean - norm.beta)[known] / gamma[known]
    ratio = np.maximum((mean_square - np.square(mean))[known] / np.square(gamma[known]), 1e-6)
    nats = 0.5 * (ratio + np.square(shift) - 1.0 - np.log(ratio))
    # Written so that NaN counts as far.
    return float(np.where(nats <= _LARGEST_DISTANCE, nats, _LARGEST_DISTANCE).mean())


def _with_outputs(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """Return ``model`` cut down to what ``tensors`` need, which it then returns."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    needed, kept = set(tensors), []
    for node in reversed(copy.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    del copy.graph.node[:], copy.graph.output[:]
    copy.graph.node.extend(reversed(kept))
    copy.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in tensors
    )
    return copy
