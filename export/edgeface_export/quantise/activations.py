"""What a network's activations look like over pictures: measured once, used by both INT8 graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgeface.types import ImageArray
from edgeface_export.architectures.network import (
    INPUT,
    Conv,
    Flatten,
    Layer,
    Linear,
    Network,
    PRelu,
    Relu,
)
from edgeface_export.graph.emit import emit, fold
from edgeface_export.graph.flip import flip
from edgeface_export.progress import Progress, no_progress
from edgeface_export.quantise.statistics import ChannelStatistics, collect_statistics

__all__ = ["Activations"]

_Row: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Activations:
    """Folded ``layers`` without slopes above 1 where that is exact, and their statistics.

    ``measured`` holds what convolutions, sums and the picture give; :meth:`of` tells the rest.
    """

    layers: tuple[Layer, ...]
    measured: Mapping[str, ChannelStatistics]

    @classmethod
    def measure(
        cls, network: Network, crops: ImageArray, *, progress: Progress = no_progress
    ) -> Activations:
        """Return those of ``network`` over (n, height, width, 3) uint8 ``crops``.

        Raises:
            ActivationSetError: There is no crop, or a tensor comes out NaN, infinite or all zero.
        """
        layers = flip(fold(network.layers))
        made = {layer.name: layer for layer in layers}
        tensors = [INPUT]
        for layer in layers:
            told = isinstance(layer, PRelu | Relu) and isinstance(made.get(layer.input), Conv)
            if not (told or isinstance(layer, Flatten | Linear)):
                tensors.append(layer.name)
        statistics = collect_statistics(
            emit(network, name="activations", layers=layers),
            tensors,
            crops,
            progress=lambda batches: progress("measuring activations", batches),
        )
        return cls(layers, statistics)

    def wide(self, tensor: str, slack: float) -> ChannelStatistics:
        """Return those of ``tensor`` if its values were ``slack`` times as large.

        The picture's and what lies at a ceiling would not be.
        """
        found = self.of(tensor)
        if tensor == INPUT or slack == 1.0:
            return found
        wider = found.moved(np.zeros(1), np.full(1, slack))
        layer = next(layer for layer in self.layers if layer.name == tensor)
        if isinstance(layer, Relu) and layer.ceiling is not None:
            return wider.after(partial(np.clip, a_min=0.0, a_max=layer.ceiling))
        return wider

    def of(self, tensor: str) -> ChannelStatistics:
        """Return the statistics of ``tensor``, named as in the emitted graph."""
        found = self.measured.get(tensor)
        if found is not None:
            return found
        layer = next(layer for layer in self.layers if layer.name == tensor)
        before = self.of(layer.input)
        if isinstance(layer, PRelu):
            return before.after(partial(_prelu, slope=layer.slope.astype(np.float64)))
        if isinstance(layer, Relu):
            ceiling = np.inf if layer.ceiling is None else layer.ceiling
            return before.after(lambda x: np.clip(x, 0.0, ceiling))
        return before


def _prelu(x: _Row, slope: _Row) -> _Row:
    return np.asarray(np.where(x > 0, x, x * slope[:, None]))
