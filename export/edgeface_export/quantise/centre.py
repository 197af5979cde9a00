"""Takes the mean of each channel out of the tensors that can do without it.

Symmetric INT8 spends as many steps below 0 as above, and one scale on all channels: a channel with
a mean far from 0 widens the range for nothing. Where only sums and convolutions without padding
read a tensor, its mean can leave through the bias of the convolution that makes it and come back
through the biases of those that read it. That is so all along a residual stream, and for what the
last matrix reads. (Padding is zero, so behind a padded convolution zero must stay zero.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgeface_export.architectures.network import Add, Conv, Flatten, Layer, Linear
from edgeface_export.graph.flip import readers_of
from edgeface_export.quantise.noise import middles
from edgeface_export.quantise.statistics import ChannelStatistics

__all__ = ["centre", "sum_of_inputs", "with_bias"]

_Row: TypeAlias = npt.NDArray[np.float64]


def centre(
    layers: Sequence[Layer], statistics: Mapping[str, ChannelStatistics]
) -> tuple[tuple[Layer, ...], dict[str, _Row]]:
    """Return folded ``layers`` that compute the same, and what was taken out of each tensor.

    The shifts are (channels,), for the tensors of ``statistics`` alone.
    """
    by_name = {layer.name: layer for layer in layers}
    shifts: dict[str, _Row] = {}
    for name in _centred(layers, by_name, set(statistics)):
        shifts[name] = middles(statistics[name])
    branches = {x.input: x for x in layers if isinstance(x, Add) and x.name in shifts}
    for branch, total in branches.items():
        skipped = shifts.get(total.skip)
        shifts[branch] = shifts[total.name] - (0.0 if skipped is None else skipped)
    changed: dict[str, Layer] = dict(by_name)
    for name, shift in shifts.items():
        maker = changed[name]
        if isinstance(maker, Conv | Linear):
            changed[name] = with_bias(maker, -shift)
        if name not in branches:
            for reader in _weighted(readers_of(layers), name):
                known = changed[reader]
                if isinstance(known, Conv | Linear):
                    changed[reader] = with_bias(known, sum_of_inputs(known, shift))
    return tuple(changed[layer.name] for layer in layers), shifts


def _centred(layers: Sequence[Layer], by_name: Mapping[str, Layer], known: set[str]) -> list[str]:
    """Return the tensors whose channels may lose their mean."""
    readers = readers_of(layers)

    def fits(layer: Layer) -> bool:
        read = readers.get(layer.name, [])
        if not read or not all(_takes_a_shift(reader, readers) for reader in read):
            return False
        if isinstance(layer, Add):
            branch = by_name.get(layer.input)
            return isinstance(branch, Conv) and len(readers[branch.name]) == 1
        return isinstance(layer, Conv | Linear)

    branches = {layer.input for layer in layers if isinstance(layer, Add)}
    found = {layer.name for layer in layers if layer.name in known | branches and fits(layer)}
    # What goes into a sum may keep its mean only if the sum gives it back: a sum that stays as
    # it is takes its inputs with it.
    while True:
        bad = {
            source
            for layer in layers
            if isinstance(layer, Add) and layer.name not in found
            for source in (layer.input, layer.skip)
        }
        if not found & bad:
            break
        found -= bad
    return [layer.name for layer in layers if layer.name in found - branches]


def _takes_a_shift(reader: Layer, readers: Mapping[str, list[Layer]]) -> bool:
    if isinstance(reader, Add):
        return True
    if isinstance(reader, Flatten):
        behind = readers.get(reader.name, [])
        return bool(behind) and all(isinstance(layer, Linear) for layer in behind)
    return isinstance(reader, Linear) or (isinstance(reader, Conv) and not any(reader.pads))


def _weighted(readers: Mapping[str, list[Layer]], name: str) -> list[str]:
    found: list[str] = []
    for reader in readers.get(name, []):
        if isinstance(reader, Flatten):
            found += [layer.name for layer in readers.get(reader.name, [])]
        elif isinstance(reader, Conv | Linear):
            found.append(reader.name)
    return found


def sum_of_inputs(reader: Conv | Linear, shift: _Row) -> _Row:
    """Return what ``reader`` makes of an input that is ``shift`` at every position."""
    weight = reader.weight.astype(np.float64)
    if isinstance(reader, Linear):
        return np.asarray(weight @ np.repeat(shift, weight.shape[1] // len(shift)))
    per_group = weight.sum(axis=(2, 3)).reshape(reader.groups, -1, weight.shape[1])
    found = np.einsum("goi,gi->go", per_group, shift.reshape(reader.groups, -1))
    return np.asarray(found.ravel())


def with_bias(layer: Conv | Linear, more: _Row) -> Conv | Linear:
    """Return ``layer`` with ``more`` added to its bias."""
    bias = more if layer.bias is None else layer.bias + more
    return replace(layer, bias=bias.astype(np.float32))
