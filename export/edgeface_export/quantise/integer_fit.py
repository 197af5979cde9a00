"""The integer graph of a network, balanced and fitted on pictures as the Q/DQ graph is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from edgeface.errors import ArchitectureError
from edgeface.types import ImageArray
from edgeface_export.architectures.network import Conv, Layer, Linear, Network, PRelu
from edgeface_export.graph.emit import emit, fold
from edgeface_export.graph.flip import flip, flip_network, readers_of
from edgeface_export.progress import Progress, no_progress
from edgeface_export.quantise.activations import Activations
from edgeface_export.quantise.balance import Read, balance
from edgeface_export.quantise.centre import centre
from edgeface_export.quantise.data_free import data_free_ranges
from edgeface_export.quantise.fit import LayerConstants, fit_layers, mean_outputs, some_crops
from edgeface_export.quantise.head import head_layers
from edgeface_export.quantise.integer import IntegerModel, integer_graph, integer_tensors
from edgeface_export.quantise.noise import UnsignedCoding
from edgeface_export.quantise.options import QuantiseOptions
from edgeface_export.quantise.partial import float_kinds
from edgeface_export.quantise.ranges import TensorRange, choose_range, require_method
from edgeface_export.quantise.spaces import gains_of, spaces_of
from edgeface_export.quantise.statistics import ChannelStatistics

__all__ = ["quantise_integer"]


def quantise_integer(
    network: Network,
    crops: ImageArray | None,
    options: QuantiseOptions,
    *,
    name: str = "cpu-int8",
    activations: Activations | None = None,
    progress: Progress = no_progress,
) -> onnx.ModelProto:
    """Return ``network`` as an integer graph called ``name``.

    Channels are balanced, ranges measured, weights and biases fitted on (n, height, width, 3)
    uint8 ``crops``; ``activations`` are what they cause, measured here by default. Without crops
    ranges come from BatchNorm statistics.

    Raises:
        ArchitectureError: The network has no integer form.
        InvalidInputError: The options name a method or a percentile that there is not.
        ActivationSetError: The crops are none, or do not show what ranges could be told from.
    """
    require_method(options.method, options.percentile)
    kinds = float_kinds(network.layers)
    if kinds:
        raise ArchitectureError(f"no integer form: {', '.join(kinds)} are computed in float")
    tail = frozenset(head_layers(network, options.float_share))
    if crops is None:
        flipped = flip_network(network)
        tensors = integer_tensors(flipped.layers, tail=tail)
        ranges = data_free_ranges(flipped, tensors, deviations=options.deviations)
        return integer_graph(flipped, ranges, name=name, tail=tail).model
    layers = flip(fold(network.layers))
    # Before anything is measured: it says whether there is an integer form.
    encoded = _encoded(layers, integer_tensors(layers, tail=tail))
    activations = activations or Activations.measure(network, crops, progress=progress)
    statistics = {tensor: activations.wide(tensor, options.slack) for tensor in encoded}
    layers, ranges = _balanced(network, layers, statistics, encoded, options)
    made = integer_graph(replace(network, layers=layers), ranges, name=name, tail=tail)
    _fit(made, emit(network, name=name, layers=layers), layers, tail, some_crops(crops), progress)
    return made.model


def _encoded(layers: Sequence[Layer], tensors: Sequence[str]) -> dict[str, list[PRelu]]:
    """Return the tensors that have an encoding of their own, each with the PReLUs that share it."""
    readers = readers_of(layers)
    shared = {
        name: [x for x in readers.get(name, []) if isinstance(x, PRelu) and (x.slope <= 1).all()]
        for name in tensors
    }
    sharing = {layer.name for found in shared.values() for layer in found}
    return {name: found for name, found in shared.items() if name not in sharing}


def _balanced(
    network: Network,
    layers: tuple[Layer, ...],
    statistics: Mapping[str, ChannelStatistics],
    encoded: Mapping[str, list[PRelu]],
    options: QuantiseOptions,
) -> tuple[tuple[Layer, ...], dict[str, TensorRange]]:
    """Return layers whose channels suit uint8, and the range of each tensor of the graph."""
    layers, shifts = centre(layers, statistics)
    found = {
        name: entry.moved(shifts.get(name, np.zeros(1)), np.ones(1))
        for name, entry in statistics.items()
    }
    gains = gains_of(layers, {name: shape[0] for name, shape in network.shapes.items()})
    reads = {
        name: Read(_coding(entry, encoded[name]), gains[name], entry.variance)
        for name, entry in found.items()
    }
    done = balance(layers, spaces_of(layers), reads, gains)
    ranges: dict[str, TensorRange] = {}
    for name, entry in found.items():
        scaled = entry.moved(np.zeros(1), done.factors[name])
        ranges[name] = TensorRange(*done.ranges[name], "mse")
        if options.method != "auto":
            ranges[name] = choose_range(
                scaled,
                method=options.method,
                percentile=options.percentile,
                coding=_coding(scaled, encoded[name]),
            )
        ranges |= {layer.name: ranges[name] for layer in encoded[name]}
    return done.layers, ranges


def _coding(statistics: ChannelStatistics, shares: Sequence[PRelu]) -> UnsignedCoding:
    slope = shares[0].slope.astype(np.float64) if len(shares) == 1 else None
    return UnsignedCoding(statistics, slope)


def _fit(
    made: IntegerModel,
    model: onnx.ModelProto,
    layers: Sequence[Layer],
    tail: Collection[str],
    crops: ImageArray,
    progress: Progress,
) -> None:
    """Fit weights and biases in place to what the layers read on ``crops``."""
    floats = {
        x.name: LayerConstants(f"{x.name}.weight", "", "" if x.bias is None else f"{x.name}.bias")
        for x in layers
        if isinstance(x, Conv | Linear) and x.name in tail
    }
    constants = {
        entry.node: LayerConstants(
            f"{entry.layer}.weight",
            f"{entry.layer}.weight_scale",
            f"{entry.layer}.bias" if entry.has_bias else "",
            entry.bias_step,
            entry.flat,
        )
        for entry in made.weighted
    }
    constants |= floats
    of_layer = {entry.node: entry.layer for entry in made.weighted} | {n: n for n in floats}
    means = mean_outputs(model, list(of_layer.values()), crops)
    targets: dict[str, Any] = {node: means[layer] for node, layer in of_layer.items()}
    fit_layers(
        made.model,
        constants,
        {entry.node: entry.weight for entry in made.weighted},
        targets,
        crops,
        progress=lambda nodes: progress("fitting layers for CPUs", nodes),
    )
