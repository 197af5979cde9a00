"""The end of a face backbone: from the last map to the embedding, and what it tells of the crops."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgeface.alignment import ALIGNMENT_TEMPLATES
from edgeface.errors import ArchitectureError
from edgeface.types import FloatArray, Size
from edgeface_export.architectures.builder import LayerBuilder
from edgeface_export.architectures.layout import Unit

__all__ = ["FaceHead"]


@dataclass(frozen=True, slots=True)
class FaceHead:
    """Where a trainer keeps the end.

    Either ``depthwise``, a convolution over the whole map, and an ``embedding`` that is a matrix,
    or a 1x1 convolution where it is not ``flat``; or ``norm``, a BatchNorm, and a matrix over
    every position of the map.
    """

    embedding: Unit
    depthwise: Unit | None = None
    norm: str = ""
    flat: bool = True

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
        builder.head(x, self.embedding, flat=self.flat)

    def template(self, tensors: Mapping[str, FloatArray], stride: int) -> str:
        """Return the alignment template of the crops; ``stride`` is that of the whole trunk.

        Raises:
            ArchitectureError: The last map is that of no crops with a template.
        """
        if self.depthwise:
            key = f"{self.depthwise.conv}.weight"
            found, wanted = tensors[key].shape[2:], lambda map_: map_
        else:
            key = f"{self.embedding.conv}.weight"
            channels = len(tensors[f"{self.norm}.running_mean"])
            found, wanted = tensors[key].shape[1:], lambda map_: (channels * math.prod(map_),)
        maps = {name: wanted(_map_of(size, stride)) for name, size in ALIGNMENT_TEMPLATES.items()}
        for name, map_ in maps.items():
            if map_ == found:
                return name
        known = ", ".join(f"{map_} for {name}" for name, map_ in maps.items())
        raise ArchitectureError(
            f"{key} covers {found} of the last map, which is that of no known crops; known are "
            f"{known}"
        )


def _map_of(size: Size, stride: int) -> tuple[int, int]:
    """Return (rows, columns) of a map whose sides were halved, rounded up, to a ``stride``-th."""
    return -(-size.height_px // stride), -(-size.width_px // stride)
