"""The end of a face backbone: from the last map to the embedding; it tells the size of crops."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from edgeface.alignment import ALIGNMENT_TEMPLATES
from edgeface.errors import ArchitectureError
from edgeface.types import FloatArray, Size
from edgeface_export.architectures.builder import LayerBuilder
from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.network import (
    INPUT,
    GlobalAveragePool,
    Network,
    Preprocessing,
)

__all__ = ["FaceHead", "network_of_blocks"]


@dataclass(frozen=True, slots=True)
class FaceHead:
    """Where a trainer keeps the end.

    Either ``depthwise``, a convolution over the whole map, and an ``embedding`` that is a matrix,
    or a 1x1 convolution where it is not ``flat``; or ``norm``, a BatchNorm, and a matrix over
    every position of the map; or a matrix over the mean of each channel. Nothing in the tensors of
    the last tells the size of crops, so ``mean_of`` names their alignment template.
    """

    embedding: Unit
    depthwise: Unit | None = None
    norm: str = ""
    flat: bool = True
    mean_of: str = ""

    def tensor_names(self) -> list[str]:
        """Return the names of the tensors that must be there, in the network's order."""
        names = self.depthwise.tensor_names() if self.depthwise else []
        names += Unit("", self.norm).tensor_names()
        return names + self.embedding.tensor_names()

    def append(self, builder: LayerBuilder, x: str) -> None:
        """Append the layers that follow the map ``x``."""
        if self.depthwise:
            x = builder.unit(x, self.depthwise, depthwise=True)
        if self.norm:
            x = builder.norm_alone(x, self.norm)
        if self.mean_of:
            x = builder.add(GlobalAveragePool("average", x))
        builder.head(x, self.embedding, flat=self.flat)

    def template(self, tensors: Mapping[str, FloatArray], stride: int) -> str:
        """Return the alignment template of the crops; ``stride`` is that of the whole trunk.

        Raises:
            ArchitectureError: The last map is that of no crops with a template.
        """
        if self.mean_of:
            return self.mean_of
        maps = {name: _map_of(size, stride) for name, size in ALIGNMENT_TEMPLATES.items()}
        if self.depthwise:
            key = f"{self.depthwise.conv}.weight"
            found: tuple[int, ...] = tensors[key].shape[2:]
            wanted: dict[str, tuple[int, ...]] = dict(maps)
        else:
            key = f"{self.embedding.conv}.weight"
            channels = len(tensors[f"{self.norm}.running_mean"])
            found = tensors[key].shape[1:]
            wanted = {name: (channels * math.prod(map_),) for name, map_ in maps.items()}
        for name, form in wanted.items():
            if form == found:
                return name
        known = ", ".join(f"{form} for {name}" for name, form in wanted.items())
        raise ArchitectureError(
            f"{key} covers {found} of the last map, which is that of no known crops; known are "
            f"{known}"
        )


class _Block(Protocol):
    @property
    def stride(self) -> int: ...


class _Layout(Protocol):
    @property
    def preprocessing(self) -> Preprocessing: ...
    @property
    def stem(self) -> Unit: ...
    @property
    def stem_stride(self) -> int: ...
    @property
    def last(self) -> Unit | None: ...
    @property
    def head(self) -> FaceHead: ...


_B = TypeVar("_B", bound=_Block)


def network_of_blocks(
    layout: _Layout,
    blocks: Sequence[_B],
    append: Callable[[LayerBuilder, str, _B], str],
    tensors: Mapping[str, FloatArray],
) -> Network:
    """Return the network of a stem, ``blocks``, a last convolution and a head.

    ``append`` appends the layers of one block behind a layer and returns the last one's name.

    Raises:
        ArchitectureError: A tensor has a shape that does not fit.
    """
    stride = layout.stem_stride * math.prod(block.stride for block in blocks)
    template = layout.head.template(tensors, stride)
    builder = LayerBuilder(tensors)
    x = builder.around(INPUT, layout.stem, stride=layout.stem_stride)
    for block in blocks:
        x = append(builder, x, block)
    x = builder.unit(x, layout.last) if layout.last else x
    layout.head.append(builder, x)
    size = ALIGNMENT_TEMPLATES[template]
    return Network(tuple(builder.layers), size, template, layout.preprocessing)


def _map_of(size: Size, stride: int) -> tuple[int, int]:
    """Return (rows, columns) of a map whose sides were halved, rounded up, to a ``stride``-th."""
    return -(-size.height_px // stride), -(-size.width_px // stride)
