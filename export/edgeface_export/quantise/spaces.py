"""Which tensors share channels, so that a channel can be scaled in all of them or in none.

Between the convolutions that make a channel and those that read it there are only steps that
commute with a positive factor: PReLU, ReLU, sums, means, flattening. Such tensors are one *space*;
multiplying a channel where it is made and dividing it where it is read changes nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgeface_export.architectures.network import (
    INPUT,
    Add,
    Conv,
    Flatten,
    Gate,
    GlobalAveragePool,
    Layer,
    Linear,
    PRelu,
    Relu,
    sources,
)

__all__ = ["Space", "gains_of", "scaled", "spaces_of"]

_Row: TypeAlias = npt.NDArray[np.float64]
# Of a channel that nothing reads.
_LEAST_GAIN = 1e-12
_PASSING = (PRelu, Relu, Flatten, GlobalAveragePool, Gate)


@dataclass(slots=True)
class Space:
    """Tensors that share channels, the layers with weights that make and read them.

    ``free`` is false where something cannot take a factor: the picture, the embedding, a sigmoid.
    ``ceiling`` is that of the only bounded ReLU, or None.
    """

    tensors: list[str] = field(default_factory=list)
    makers: list[str] = field(default_factory=list)
    readers: list[str] = field(default_factory=list)
    free: bool = True
    ceiling: float | None = None


def spaces_of(layers: Sequence[Layer]) -> list[Space]:
    """Return the spaces of folded ``layers``, in their order."""
    space: dict[str, Space] = {INPUT: Space([INPUT], free=False)}
    for layer in layers:
        if isinstance(layer, Conv | Linear):
            space[layer.input].readers.append(layer.name)
            space[layer.name] = Space([layer.name], [layer.name])
        elif isinstance(layer, Add):
            _join(space, layer.name, layer.input, layer.skip)
        elif isinstance(layer, _PASSING):
            if isinstance(layer, Gate):
                space[layer.skip].free = False
            _join(space, layer.name, layer.input)
            _bound(space[layer.name], layer)
        else:
            space[layer.input].free = False
            space[layer.name] = Space([layer.name], free=False)
    space[layers[-1].name].free = False
    found = list({id(entry): entry for entry in space.values()}.values())
    for entry in found:
        bounded = entry.ceiling is not None
        sums = any(isinstance(x, Add) for x in layers if x.name in entry.tensors)
        entry.free &= not (bounded and (sums or len(entry.makers) > 1))
    return found


def _join(space: dict[str, Space], name: str, *sources: str) -> None:
    """Put tensor ``name`` and those it is made of into one space."""
    whole = space[sources[0]]
    for source in sources[1:]:
        other = space[source]
        if other is whole:
            continue
        whole.tensors += other.tensors
        whole.makers += other.makers
        whole.readers += other.readers
        whole.free &= other.free
        whole.ceiling = other.ceiling if whole.ceiling is None else whole.ceiling
        space.update(dict.fromkeys(other.tensors, whole))
    whole.tensors.append(name)
    space[name] = whole


def _bound(space: Space, layer: Layer) -> None:
    if isinstance(layer, Relu) and layer.ceiling is not None:
        space.free &= space.ceiling is None
        space.ceiling = layer.ceiling


def gains_of(
    layers: Sequence[Layer],
    channels: Mapping[str, int],
    negative: Mapping[str, _Row] | None = None,
) -> dict[str, _Row]:
    """Return how much the square of each tensor's error weighs in the embedding, by channel.

    ``channels`` counts those of each tensor; ``negative`` tells the share of values below 0, of
    the inputs of activations, 0.5 where it does not. Errors are taken as independent of each
    other and go through every layer by the squares of its weights.
    """
    gains = {name: np.zeros(count) for name, count in channels.items()}
    gains[layers[-1].name] += 1.0
    for layer in reversed(layers):
        gain = gains[layer.name]
        if isinstance(layer, Conv | Linear):
            gain = _input_gain(layer, gain, len(gains[layer.input]))
        elif isinstance(layer, PRelu | Relu):
            slope = layer.slope.astype(np.float64) if isinstance(layer, PRelu) else np.zeros(1)
            below = (negative or {}).get(layer.input, np.full(1, 0.5))
            gain = gain * (1 - below + below * slope**2)
        elif isinstance(layer, Flatten):
            gain = gain.reshape(len(gains[layer.input]), -1).sum(axis=1)
        for source in sources(layer) if isinstance(layer, Add) else (layer.input,):
            gains[source] = gains[source] + gain
    return {name: np.where(gain > 0, gain, _LEAST_GAIN) for name, gain in gains.items()}


def _input_gain(reader: Conv | Linear, output: _Row, channels: int) -> _Row:
    square = reader.weight.astype(np.float64) ** 2
    if isinstance(reader, Linear):
        return np.asarray((output @ square).reshape(channels, -1).sum(axis=1))
    weighted = (square.sum(axis=(2, 3)) * output[:, None]).reshape(
        reader.groups, -1, square.shape[1]
    )
    return np.asarray(weighted.sum(axis=1).reshape(channels))


def scaled(
    by_name: Mapping[str, Layer], space: Space, factors: npt.NDArray[np.floating]
) -> dict[str, Layer]:
    """Return the layers that change when channels of ``space`` are multiplied by ``factors``."""
    changed: dict[str, Layer] = {}
    for name in space.makers:
        changed[name] = _scaled_output(by_name[name], factors)
    for name in space.readers:
        changed[name] = _scaled_input(changed.get(name, by_name[name]), 1.0 / factors)
    return changed


def _scaled_output(layer: Layer, factors: npt.NDArray[np.floating]) -> Layer:
    if not isinstance(layer, Conv | Linear):
        return layer
    shape = (-1,) + (1,) * (layer.weight.ndim - 1)
    weight = (layer.weight * factors.reshape(shape)).astype(np.float32)
    bias = None if layer.bias is None else (layer.bias * factors).astype(np.float32)
    return replace(layer, weight=weight, bias=bias)


def _scaled_input(layer: Layer, factors: npt.NDArray[np.floating]) -> Layer:
    if isinstance(layer, Linear):
        # After a Flatten each channel feeds as many columns as it had positions.
        columns = np.repeat(factors, layer.weight.shape[1] // len(factors))
        return replace(layer, weight=(layer.weight * columns).astype(np.float32))
    if not isinstance(layer, Conv):
        return layer
    out, per_group = layer.weight.shape[:2]
    group = np.arange(out) // (out // layer.groups)
    read = group[:, None] * per_group + np.arange(per_group)
    return replace(
        layer, weight=(layer.weight * factors[read][:, :, None, None]).astype(np.float32)
    )
