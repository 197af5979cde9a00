"""MobileFaceNet (Chen et al., "MobileFaceNets", 2018, arXiv:1804.07573) from any layout of keys.

The structure is the paper's: a 3x3 convolution of stride 2, a 3x3 depthwise one, fifteen inverted
bottlenecks (residual where stride is 1 and the widths agree), a 1x1 expansion, a global depthwise
convolution over the whole map, and a linear 1x1 embedding. A layout may have more bottlenecks, and
such in the place of the depthwise convolution. Widths are read from the tensors, so
narrow and pruned nets need nothing of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeface.errors import ArchitectureError
from edgeface.types import FloatArray, Size
from edgeface_export.architectures.builder import LayerBuilder
from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.network import (
    INPUT,
    Add,
    Layer,
    Network,
    Preprocessing,
)

__all__ = ["Bottleneck", "MobileFaceNetLayout"]

_TOTAL_STRIDE = 16
_TEMPLATES = {Size(112, 112): "arcface-112x112", Size(96, 112): "arcface-112x96"}


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """One inverted bottleneck: the prefix of its keys, and the stride of its depthwise part.

    ``excited`` blocks have a squeeze-and-excitation module (Hu et al., 2018, arXiv:1709.01507)
    before their residual sum.
    """

    prefix: str
    stride: int = 1
    excited: bool = False


@dataclass(frozen=True, slots=True)
class MobileFaceNetLayout:
    """Where a trainer keeps the parts of a MobileFaceNet.

    ``expand``, ``depthwise`` and ``project`` are relative to the prefix of each block, and so are
    ``squeeze`` and ``excite``, the two halves of the module of blocks that are excited.
    ``separable`` names the pointwise half where the second layer is a separable pair. The
    embedding is ``embedding``, a 1x1 convolution, or a matrix after flattening when ``flat``. The
    second layer, ``stem_depthwise``, may have several channels in each group when
    ``stem_grouped``; without it bottlenecks follow the first.
    """

    name: str
    trainer: str
    loss: str
    preprocessing: Preprocessing
    stem: Unit
    stem_depthwise: Unit | None
    blocks: tuple[Bottleneck, ...]
    expand: Unit
    depthwise: Unit
    project: Unit
    last: Unit
    global_depthwise: Unit
    embedding: Unit
    separable: Unit | None = None
    flat: bool = False
    stem_grouped: bool = False
    squeeze: Unit | None = None
    excite: Unit | None = None

    @property
    def architecture(self) -> str:
        """Name of the architecture."""
        return "MobileFaceNet"

    def _units(self) -> list[Unit]:
        units = [self.stem, *([self.stem_depthwise] if self.stem_depthwise else [])]
        units += [self.separable] if self.separable else []
        for block in self.blocks:
            parts = [self.expand, self.depthwise, self.project]
            parts += self._excitation() if block.excited else []
            units += [part.under(block.prefix) for part in parts]
        return [*units, self.last, self.global_depthwise, self.embedding]

    def _excitation(self) -> list[Unit]:
        return [unit for unit in (self.squeeze, self.excite) if unit]

    def tensor_names(self) -> tuple[str, ...]:
        """Return the names of the tensors that must be there, in the network's order."""
        return tuple(key for unit in self._units() for key in unit.tensor_names())

    def build(self, tensors: Mapping[str, FloatArray]) -> Network:
        """Return the network made of ``tensors``.

        Raises:
            ArchitectureError: A tensor has a shape that does not fit.
        """
        layers, crop_size = self.layers(tensors), self.crop_size(tensors)
        if crop_size not in _TEMPLATES:
            known = " or ".join(f"{s.height_px}x{s.width_px}" for s in _TEMPLATES)
            raise ArchitectureError(
                f"the global depthwise kernel {crop_size.height_px // _TOTAL_STRIDE}x"
                f"{crop_size.width_px // _TOTAL_STRIDE} means crops of {crop_size.height_px}x"
                f"{crop_size.width_px} (height x width); known are {known}"
            )
        return Network(tuple(layers), crop_size, _TEMPLATES[crop_size], self.preprocessing)

    def layers(self, tensors: Mapping[str, FloatArray]) -> list[Layer]:
        """Return the layers from the picture to the embedding.

        Raises:
            ArchitectureError: A tensor has a shape that does not fit.
        """
        builder = LayerBuilder(tensors)
        x = builder.unit(INPUT, self.stem, stride=2, padding=1)
        if second := self.stem_depthwise:
            grouped = self.stem_grouped
            x = builder.unit(x, second, padding=1, depthwise=not grouped, grouped=grouped)
        if self.separable:
            x = builder.unit(x, self.separable)
        for block in self.blocks:
            x = self._block(builder, x, block)
        x = builder.unit(x, self.last)
        x = builder.unit(x, self.global_depthwise, depthwise=True)
        builder.head(x, self.embedding, flat=self.flat)
        return builder.layers

    def _block(self, builder: LayerBuilder, x: str, block: Bottleneck) -> str:
        expand, depthwise, project = (
            part.under(block.prefix) for part in (self.expand, self.depthwise, self.project)
        )
        y = builder.unit(x, expand)
        y = builder.unit(y, depthwise, stride=block.stride, padding=1, depthwise=True)
        y = builder.unit(y, project)
        if block.excited:
            units = [unit.under(block.prefix) for unit in self._excitation()]
            y = builder.excitation(y, units, block.prefix)
        if block.stride == 1 and builder.width(expand, axis=1) == builder.width(project, axis=0):
            y = builder.add(Add(f"{block.prefix}add", input=y, skip=x))
        return y

    def crop_size(self, tensors: Mapping[str, FloatArray]) -> Size:
        """Return the size of the crops that the network reads.

        The global depthwise kernel covers the whole last map, so it tells.
        """
        kernel = tensors[f"{self.global_depthwise.conv}.weight"].shape[2:]
        return Size(_TOTAL_STRIDE * kernel[1], _TOTAL_STRIDE * kernel[0])
