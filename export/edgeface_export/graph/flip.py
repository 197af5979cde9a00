"""Turns slopes above 1 of PReLU layers into slopes below 1, exactly.

For a slope a > 1, PReLU_a(x) = -a * PReLU_{1/a}(-x). So the channel is negated where it is made,
the slope becomes 1/a, and what reads the channel is multiplied by -a. Afterwards
PReLU(x) = Max(x, a * x) holds for every channel, a form that inference engines have fast and
integer kernels for, where they have none for PReLU itself.

It works on the layers of a checkpoint and on folded ones alike: where a BatchNorm makes the
channel, its gamma and beta are negated, so that data-free ranges can still be read from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgeface_export.architectures.network import (
    BatchNorm,
    Conv,
    Flatten,
    Layer,
    Linear,
    Network,
    PRelu,
    sources,
)

__all__ = ["flip", "flip_network", "readers_of"]

_Factors = npt.NDArray[np.float64]


def flip_network(network: Network) -> Network:
    """Return ``network`` with :func:`flip` applied; its embeddings are the same."""
    return replace(network, layers=flip(network.layers))


def flip(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return ``layers`` with no slope above 1 wherever that can be had exactly.

    A PReLU stays as it is where something other than convolutions and matrices reads it, or
    where its input is made by something else, or is read by another layer as well.
    """
    current = {layer.name: layer for layer in layers}
    readers = readers_of(layers)
    for name in [layer.name for layer in layers if isinstance(layer, PRelu)]:
        activation = current[name]
        if isinstance(activation, PRelu) and (activation.slope > 1).any():
            current.update(_flipped(activation, current, readers))
    return tuple(current[layer.name] for layer in layers)


def readers_of(layers: Sequence[Layer]) -> dict[str, list[Layer]]:
    """Return the layers that read each tensor, by the tensor's name."""
    readers: dict[str, list[Layer]] = {}
    for layer in layers:
        for source in sources(layer):
            readers.setdefault(source, []).append(layer)
    return readers


def _flipped(
    activation: PRelu, current: dict[str, Layer], readers: dict[str, list[Layer]]
) -> dict[str, Layer]:
    """Return the layers that change, by name; none where the repair would not be exact."""
    maker = current.get(activation.input)
    weighted = _weighted_readers(activation.name, readers)
    alone = len(readers[activation.input]) == 1
    if not (isinstance(maker, Conv | Linear | BatchNorm) and alone and weighted):
        return {}
    slope = activation.slope.astype(np.float64)
    above = slope > 1
    safe = np.where(above, slope, 1.0)
    signs, factors = np.where(above, -1.0, 1.0), np.where(above, -slope, 1.0)
    changed: dict[str, Layer] = {
        maker.name: _negated(maker, signs),
        activation.name: replace(
            activation, slope=np.where(above, 1.0 / safe, slope).astype(np.float32)
        ),
    }
    changed.update({name: _scaled_input(current[name], factors) for name in weighted})
    return changed


def _weighted_readers(name: str, readers: dict[str, list[Layer]]) -> list[str]:
    """Return the convolutions and matrices that read ``name``; empty if anything else does."""
    found: list[str] = []
    for reader in readers.get(name, []):
        if isinstance(reader, Conv | Linear):
            found.append(reader.name)
            continue
        behind = readers.get(reader.name, []) if isinstance(reader, Flatten) else []
        if not behind or not all(isinstance(layer, Linear) for layer in behind):
            return []
        found += [layer.name for layer in behind]
    return found


def _negated(maker: Conv | Linear | BatchNorm, signs: _Factors) -> Layer:
    """Return ``maker`` with its output channels multiplied by ``signs``, each 1 or -1."""
    exact = signs.astype(np.float32)
    if isinstance(maker, BatchNorm):
        return replace(maker, gamma=maker.gamma * exact, beta=maker.beta * exact)
    weight = maker.weight * exact.reshape(-1, *(1,) * (maker.weight.ndim - 1))
    bias = None if maker.bias is None else maker.bias * exact
    return replace(maker, weight=weight, bias=bias)


def _scaled_input(reader: Layer, factors: _Factors) -> Layer:
    """Return ``reader`` with its weights multiplied by the factor of the channel they read."""
    if isinstance(reader, Linear):
        # After a Flatten each channel feeds as many columns as it had positions.
        columns = np.repeat(factors, reader.weight.shape[1] // len(factors))
        weight = reader.weight.astype(np.float64) * columns
        return replace(reader, weight=weight.astype(np.float32))
    if not isinstance(reader, Conv):
        return reader
    out, per_group = reader.weight.shape[:2]
    groups = np.arange(out) // (out // reader.groups)
    channels = groups[:, None] * per_group + np.arange(per_group)
    weight = reader.weight.astype(np.float64) * factors[channels][:, :, None, None]
    return replace(reader, weight=weight.astype(np.float32))
