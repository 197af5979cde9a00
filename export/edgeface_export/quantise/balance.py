"""Gives every channel the share of its tensor's range at which INT8 hurts least.

An activation has one INT8 scale for all of its channels, set by the largest; a channel that is ten
times smaller keeps a tenth of the steps. Channels of a space (:mod:`.spaces`) can be scaled freely
(cross-layer equalisation; Nagel et al., ICCV 2019). Each gets the factor at which rounding and
cutting together are least, by its own histogram. Weights have one scale for each output channel,
so a factor costs nothing where the reader is a depthwise convolution; a dense reader gets columns
of other sizes and rounds them worse, so factors are drawn back there as far as pays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgeface_export.architectures.network import Conv, Layer, Linear
from edgeface_export.quantise.noise import Coding, best_range, sum_of_errors
from edgeface_export.quantise.spaces import Space, scaled

__all__ = ["Balanced", "Read", "balance"]

_Row: TypeAlias = npt.NDArray[np.float64]
_Ends: TypeAlias = tuple[float, float]

# A channel is scaled up by this at most: beyond, it is a dead one, and its noise would be blown up.
_LARGEST_FACTOR = 256.0
_ROUNDS = 3
_NUDGES = np.geomspace(0.6, 1.7, 15)
_EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
# Weights are not simply rounded but fitted (:mod:`.rounding`), which leaves about this much of
# the noise of rounding.
_FITTED = 0.4
_WEIGHT_LEVELS = 127


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """A tensor in INT8: its coding, how much its errors weigh, and its channels' variances."""

    coding: Coding
    gains: _Row
    variance: _Row


@dataclass(frozen=True, slots=True, eq=False)
class Balanced:
    """Layers that compute the same, the range of each tensor, and what channels were scaled by."""

    layers: tuple[Layer, ...]
    ranges: dict[str, _Ends]
    factors: dict[str, _Row]


def balance(
    layers: Sequence[Layer],
    spaces: Sequence[Space],
    reads: Mapping[str, Read],
    gains: Mapping[str, _Row],
) -> Balanced:
    """Return folded ``layers`` with the channels of ``spaces`` scaled for INT8 of ``reads``.

    ``gains`` weigh the errors of the outputs of layers, by channel.
    """
    by_name = {layer.name: layer for layer in layers}
    ranges: dict[str, _Ends] = {}
    factors: dict[str, _Row] = {}
    for space in spaces:
        tensors = [name for name in space.tensors if name in reads]
        if not tensors:
            continue
        known = [reads[name] for name in tensors]
        weights = [
            layer
            for layer in (by_name[name] for name in space.readers)
            if isinstance(layer, Conv | Linear)
        ]
        best = _factors(known, weights, gains) if space.free else np.ones(len(known[0].gains))
        ends = [best_range(read.coding, best, read.gains)[0] for read in known]
        if space.ceiling is not None and space.free:
            # Nothing is cut at the ceiling that INT8 would not cut: the range ends there.
            up = space.ceiling / max(high for _, high in ends)
            best, ends = best * up, [(low * up, high * up) for low, high in ends]
        by_name |= scaled(by_name, space, best) if space.free else {}
        ranges |= dict(zip(tensors, ends, strict=True))
        factors |= dict.fromkeys(space.tensors, best)
    return Balanced(tuple(by_name[layer.name] for layer in layers), ranges, factors)


def _factors(
    reads: Sequence[Read], readers: Sequence[Conv | Linear], gains: Mapping[str, _Row]
) -> _Row:
    full = _full(reads)
    dense = [layer for layer in readers if isinstance(layer, Linear) or layer.groups < len(full)]
    if not dense:
        return full
    tried = [full**exponent for exponent in _EXPONENTS]
    costs = [
        sum(best_range(read.coding, factors, read.gains)[1] for read in reads)
        + sum(
            _weight_noise(layer, reads[0].variance, factors, gains[layer.name]) for layer in dense
        )
        for factors in tried
    ]
    return tried[int(np.argmin(costs))]


def _full(reads: Sequence[Read]) -> _Row:
    """Return the factors with the least noise in the activations alone; their mean is 1."""
    sizes = []
    for read in reads:
        low, high = read.coding.widest()
        size = np.maximum(-low, high)
        sizes.append(size / max(float(size.max()), np.finfo(np.float32).tiny))
    size = np.maximum(np.max(sizes, axis=0), 1.0 / _LARGEST_FACTOR)
    start = factors = 1.0 / size
    codings, gains = [read.coding for read in reads], [read.gains for read in reads]
    for _ in range(_ROUNDS):
        ends = [best_range(c, factors, g)[0] for c, g in zip(codings, gains, strict=True)]
        tried = factors[:, None] * _NUDGES
        best = sum_of_errors(codings, gains, ends, tried).argmin(axis=1)
        factors = np.clip(tried[np.arange(len(tried)), best], start / 4, start * 4)
    return np.asarray(factors / np.exp(np.log(factors).mean()))


def _weight_noise(
    reader: Conv | Linear, variance: _Row, factors: _Row, output_gains: _Row
) -> float:
    """Return the error that rounding the weights of a dense ``reader`` makes in the embedding."""
    columns = np.abs(reader.weight.astype(np.float64)).reshape(len(reader.weight), -1)
    taps, rest = divmod(columns.shape[1], len(factors))
    if not rest:
        columns = columns / np.repeat(factors, taps)
    steps = columns.max(axis=1) / _WEIGHT_LEVELS
    power = float((factors**2 * variance).sum()) * columns.shape[1] / len(factors)
    return _FITTED * float((output_gains * steps**2).sum()) / 12 * power
