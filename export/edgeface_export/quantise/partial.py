"""INT8 for networks with attention, LayerNorm, GELU or branches: convolutions alone.

What stands between the convolutions stays in float, and so does the balance of their channels:
ranges are measured, weights and biases fitted, and nothing is moved from one layer to another.
A hard sigmoid or a hard swish is no such layer: it stops a factor as a sigmoid does, and the rest
of the network is treated as any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np

from edgeface.errors import ActivationSetError
from edgeface.types import ImageArray
from edgeface_export.architectures.network import INPUT, Conv, Layer, Network
from edgeface_export.architectures.operations import Gelu, HardSigmoid, HardSwish, Operation
from edgeface_export.graph.emit import emit, fold
from edgeface_export.progress import Progress
from edgeface_export.quantise.activations import Activations
from edgeface_export.quantise.ladder import MAX_FLOAT_SHARE
from edgeface_export.quantise.options import QuantiseOptions
from edgeface_export.quantise.placement import Placement
from edgeface_export.quantise.ranges import TensorRange, choose_range
from edgeface_export.quantise.statistics import ChannelStatistics, collect_statistics

__all__ = [
    "behind_curves",
    "fitted_layers",
    "float_kinds",
    "measured",
    "most_float",
    "no_crops",
    "ranges_of",
]

_OPERATIONS = tuple(set(get_args(Operation)) - {HardSigmoid, HardSwish})
_MOST_FLOAT = 0.6


def float_kinds(layers: Sequence[Layer]) -> tuple[str, ...]:
    """Return the kinds of ``layers`` that INT8 leaves in float; none of a plain network."""
    return tuple(sorted({type(x).__name__ for x in layers if isinstance(x, _OPERATIONS)}))


def most_float(layers: Sequence[Layer]) -> float:
    """Return the largest share of the multiply-adds that may be float beside INT8.

    Of a network with such layers it is larger: what cannot be INT8 is more than a few layers. So
    it is with hard swish, which lets no channel be balanced in most of the layers.
    """
    unbalanced = any(isinstance(layer, HardSwish) for layer in layers)
    return _MOST_FLOAT if unbalanced or float_kinds(layers) else MAX_FLOAT_SHARE


def behind_curves(layers: Sequence[Layer]) -> dict[str, str]:
    """Return why each convolution that a GELU or a hard swish spoils stays in float, by its name.

    A few channels of a GELU are so large that one INT8 step for all of them leaves little of the
    others, and no factor can be moved through it (EdgeFace-XXS: cosine 0.983 to float with its
    readers alone in INT8, 0.994 with all others). Behind a hard swish so it is with depthwise
    ones, which have no other channel to average with (a small MobileNetV3 of random weights: 0.979
    with, 0.992 without).
    """
    made = {layer.name: layer for layer in layers}
    reasons = {}
    for layer in layers:
        before = made.get(layer.input) if isinstance(layer, Conv) else None
        if isinstance(before, Gelu):
            reasons[layer.name] = "reads a GELU, whose channels differ too much for one scale"
        elif isinstance(before, HardSwish) and isinstance(layer, Conv) and layer.groups > 1:
            reasons[layer.name] = "depthwise, reads a hard swish, whose channels nothing can even"
    return reasons


def no_crops(network: Network) -> ActivationSetError:
    """Return the error of a network with such layers and no crops to set its ranges."""
    kinds = ", ".join(float_kinds(network.layers))
    return ActivationSetError(
        f"the network has layers ({kinds}) after which no BatchNorm tells ranges, and there are no "
        "built-in faces for its crops; give an activation set"
    )


def measured(
    network: Network, crops: ImageArray, placement: Placement, progress: Progress
) -> Activations:
    """Return the folded layers of ``network`` and the statistics of the tensors to quantise.

    Raises:
        ActivationSetError: There is no crop, or a tensor comes out NaN, infinite or all zero.
    """
    layers = fold(network.layers)
    statistics = collect_statistics(
        emit(network, name="activations", layers=layers),
        placement.tensors,
        crops,
        progress=lambda batches: progress("measuring activations", batches),
    )
    return Activations(layers, statistics)


def ranges_of(
    statistics: Mapping[str, ChannelStatistics], placement: Placement, options: QuantiseOptions
) -> dict[str, TensorRange]:
    """Return the range of each tensor of ``placement``; the picture's has no slack."""
    found = {}
    for name in placement.tensors:
        entry = statistics[name]
        if name == INPUT:
            found[name] = choose_range(entry, method="minmax")
            continue
        wide = entry.moved(np.zeros(1), np.full(1, options.slack))
        found[name] = choose_range(wide, method=options.method, percentile=options.percentile)
    return found


def fitted_layers(layers: Sequence[Layer]) -> list[Layer]:
    """Return the convolutions that can be fitted: with as many rows of padding as columns."""
    return [layer for layer in layers if isinstance(layer, Conv) and len(set(layer.pads)) == 1]
