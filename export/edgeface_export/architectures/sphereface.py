"""The networks of SphereFace and CosFace (Liu et al., 2017, arXiv:1704.08063): no BatchNorm.

Four stages, each a 3x3 convolution of stride 2 and blocks of two more, PReLU after every one and
before the sum of a block; then one matrix on the whole map. The matrix tells the crop's size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgeface.errors import ArchitectureError
from edgeface.types import FloatArray, Size
from edgeface_export.architectures.builder import LayerBuilder
from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.network import INPUT, Add, Network, Preprocessing

__all__ = ["SphereFaceLayout", "SphereStage"]

_STRIDE = 16
_TEMPLATES = {Size(96, 112): "arcface-112x96", Size(112, 112): "arcface-112x112"}


@dataclass(frozen=True, slots=True)
class SphereStage:
    """The convolution that halves the map, and the two of each block after it."""

    down: Unit
    blocks: tuple[tuple[Unit, Unit], ...]


@dataclass(frozen=True, slots=True)
class SphereFaceLayout:
    """Where a trainer keeps the parts of a SphereFace network."""

    name: str
    depth: int
    trainer: str
    loss: str
    preprocessing: Preprocessing
    stages: tuple[SphereStage, ...]
    embedding: Unit

    @property
    def architecture(self) -> str:
        """Name of the architecture."""
        return f"SphereFace-{self.depth}"

    def tensor_names(self) -> tuple[str, ...]:
        """Return the names of the tensors that must be there, in the network's order."""
        units: list[Unit] = []
        for stage in self.stages:
            units += [stage.down, *(unit for block in stage.blocks for unit in block)]
        return tuple(key for unit in [*units, self.embedding] for key in unit.tensor_names())

    def build(self, tensors: Mapping[str, FloatArray]) -> Network:
        """Return the network made of ``tensors``.

        Raises:
            ArchitectureError: A tensor has a shape that does not fit.
        """
        builder, x = LayerBuilder(tensors), INPUT
        for stage in self.stages:
            x = builder.unit(x, stage.down, stride=2, padding=1)
            for first, second in stage.blocks:
                y = builder.unit(builder.unit(x, first, padding=1), second, padding=1)
                x = builder.add(Add(f"{second.conv}.add", input=y, skip=x))
        builder.matrix_head(x, self.embedding)
        size = self._crop_size(tensors, builder.width(self._last(), axis=0))
        return Network(tuple(builder.layers), size, _TEMPLATES[size], self.preprocessing)

    def _last(self) -> Unit:
        stage = self.stages[-1]
        return stage.blocks[-1][1] if stage.blocks else stage.down

    def _crop_size(self, tensors: Mapping[str, FloatArray], channels: int) -> Size:
        columns = tensors[f"{self.embedding.conv}.weight"].shape[-1]
        for size in _TEMPLATES:
            sides = size.height_px // _STRIDE, size.width_px // _STRIDE
            if columns == channels * math.prod(sides):
                return size
        raise ArchitectureError(
            f"{self.embedding.conv}.weight has {columns} columns for {channels} channels, which is "
            "no map of crops of 112x96 or 112x112"
        )
