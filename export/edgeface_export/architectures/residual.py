"""A residual network in MobileFaceNet's outline: dense 3x3 convolutions, global depthwise head.

Blocks are pairs of 3x3 convolutions whose sum with the input stays linear, as in MobileNetV2
(Sandler et al., 2018, arXiv:1801.04381). Widths are read from the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeface.errors import ArchitectureError
from edgeface.types import FloatArray, Size
from edgeface_export.architectures.builder import LayerBuilder
from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.network import INPUT, Add, Network, Preprocessing

__all__ = ["ResidualBlock", "ResidualLayout"]

_TOTAL_STRIDE = 16
_CROP_SIZE = Size(112, 112)


@dataclass(frozen=True, slots=True)
class ResidualBlock:
    """One block: the prefix of its keys, and the stride of its first convolution."""

    prefix: str
    stride: int = 1


@dataclass(frozen=True, slots=True)
class ResidualLayout:
    """Where a trainer keeps the parts; ``first`` and ``second`` are relative to each block."""

    name: str
    trainer: str
    loss: str
    preprocessing: Preprocessing
    stem: Unit
    blocks: tuple[ResidualBlock, ...]
    first: Unit
    second: Unit
    last: Unit
    global_depthwise: Unit
    embedding: Unit

    @property
    def architecture(self) -> str:
        """Name of the architecture."""
        return "residual network"

    def tensor_names(self) -> tuple[str, ...]:
        """Return the names of the tensors that must be there, in the network's order."""
        units = [self.stem]
        for block in self.blocks:
            units += [self.first.under(block.prefix), self.second.under(block.prefix)]
        units += [self.last, self.global_depthwise, self.embedding]
        return tuple(key for unit in units for key in unit.tensor_names())

    def build(self, tensors: Mapping[str, FloatArray]) -> Network:
        """Return the network made of ``tensors``.

        Raises:
            ArchitectureError: A tensor has a shape that does not fit.
        """
        kernel = tensors[f"{self.global_depthwise.conv}.weight"].shape[2:]
        if kernel != (_CROP_SIZE.height_px // _TOTAL_STRIDE, _CROP_SIZE.width_px // _TOTAL_STRIDE):
            raise ArchitectureError(
                f"the global depthwise kernel must be 7x7, for crops of 112x112, got {kernel}"
            )
        builder = LayerBuilder(tensors)
        x = builder.unit(INPUT, self.stem, stride=2, padding=1)
        for block in self.blocks:
            x = self._block(builder, x, block)
        x = builder.unit(x, self.last)
        x = builder.unit(x, self.global_depthwise, depthwise=True)
        builder.head(x, self.embedding, flat=True)
        return Network(tuple(builder.layers), _CROP_SIZE, "arcface-112x112", self.preprocessing)

    def _block(self, builder: LayerBuilder, x: str, block: ResidualBlock) -> str:
        first, second = self.first.under(block.prefix), self.second.under(block.prefix)
        y = builder.unit(x, first, stride=block.stride, padding=1)
        y = builder.unit(y, second, padding=1)
        if block.stride == 1 and builder.width(first, axis=1) == builder.width(second, axis=0):
            y = builder.add(Add(f"{block.prefix}add", input=y, skip=x))
        return y
