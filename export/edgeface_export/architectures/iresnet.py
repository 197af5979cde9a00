"""Residual networks of face recognition: IResNet and the IR networks (Deng et al., ArcFace, 2019).

A 3x3 convolution that keeps the size, four stages that halve it, then BatchNorm, a matrix on the
whole map, BatchNorm. Blocks begin with a BatchNorm, and no activation follows their sum. Trainers
differ in how they name the parts, in whether a BatchNorm stands between the two convolutions, and
in what the skip of a block is. Widths, the crop's size and the excitation are read from the
tensors.
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
from edgeface_export.architectures.sums import with_convolutions_as_branches

__all__ = ["DEPTHS", "IResNetBlock", "IResNetLayout", "blocks_in_a_row", "blocks_in_stages"]

DEPTHS: dict[int, tuple[int, int, int, int]] = {
    200: (6, 26, 60, 6),
    152: (3, 8, 36, 3),
    100: (3, 13, 30, 3),
    50: (3, 4, 14, 3),
    34: (3, 4, 6, 3),
    18: (2, 2, 2, 2),
}
"""Blocks of each stage by the name's number, the deepest first: its keys hold those of others."""

_STRIDE = 16
_TEMPLATES = {Size(112, 112): "arcface-112x112", Size(96, 112): "arcface-112x96"}


@dataclass(frozen=True, slots=True)
class IResNetBlock:
    """One block: the prefix of its keys, its stride, and whether its skip is a convolution.

    Where it is none, the skip takes every ``stride``-th row and column.
    """

    prefix: str
    stride: int = 1
    projected: bool = False


@dataclass(frozen=True, slots=True)
class IResNetLayout:
    """Where a trainer keeps the parts; those of a block are relative to its prefix.

    ``first`` has its BatchNorm only where the trainer puts one between the convolutions; its
    ``norm`` is empty otherwise. ``squeeze`` and ``excite`` are the keys of the module's matrices.
    ``embedding.norm`` may have no gamma and beta (``plain_end``).
    """

    name: str
    depth: int
    trainer: str
    loss: str
    preprocessing: Preprocessing
    stem: Unit
    blocks: tuple[IResNetBlock, ...]
    before: str
    first: Unit
    second: Unit
    projection: Unit
    end_norm: str
    embedding: Unit
    plain_end: bool = False
    squeeze: Unit | None = None
    excite: Unit | None = None

    @property
    def architecture(self) -> str:
        """Name of the architecture."""
        return f"IResNet-{self.depth}" + (" with excitation" if self.squeeze else "")

    def tensor_names(self) -> tuple[str, ...]:
        """Return the names of the tensors that must be there, in the network's order."""
        names = self.stem.tensor_names()
        for block in self.blocks:
            names += Unit("", block.prefix + self.before).tensor_names()
            for unit in self._units(block):
                names += unit.under(block.prefix).tensor_names()
        names += Unit("", self.end_norm).tensor_names()
        ended = self.embedding.tensor_names()
        affine = {f"{self.embedding.norm}.{part}" for part in ("weight", "bias")}
        return (*names, *(key for key in ended if not (self.plain_end and key in affine)))

    def _units(self, block: IResNetBlock) -> list[Unit]:
        units = [self.first, self.second]
        units += [unit for unit in (self.squeeze, self.excite) if unit]
        return units + ([self.projection] if block.projected else [])

    def build(self, tensors: Mapping[str, FloatArray]) -> Network:
        """Return the network made of ``tensors``.

        Raises:
            ArchitectureError: A tensor has a shape that does not fit.
        """
        builder = LayerBuilder(tensors)
        x = builder.unit(INPUT, self.stem, padding=1)
        for block in self.blocks:
            x = self._block(builder, x, block)
        x = builder.norm_alone(x, self.end_norm)
        builder.matrix_head(x, self.embedding)
        size = self._crop_size(tensors)
        layers = with_convolutions_as_branches(builder.layers)
        return Network(layers, size, _TEMPLATES[size], self.preprocessing)

    def _block(self, builder: LayerBuilder, x: str, block: IResNetBlock) -> str:
        first, second, projection = (
            unit.under(block.prefix) for unit in (self.first, self.second, self.projection)
        )
        y = builder.norm_alone(x, block.prefix + self.before)
        y = builder.unit(y, first, padding=1)
        y = builder.unit(y, second, stride=block.stride, padding=1)
        if self.squeeze and self.excite:
            parts = self.squeeze.under(block.prefix), self.excite.under(block.prefix)
            y = builder.excitation(y, parts, block.prefix)
        skip = x
        if block.projected:
            skip = builder.unit(x, projection, stride=block.stride)
        elif block.stride > 1:
            channels = builder.width(first, axis=1)
            skip = builder.every(x, f"{block.prefix}skip", channels, stride=block.stride)
        return builder.add(Add(f"{block.prefix}add", input=y, skip=skip))

    def _crop_size(self, tensors: Mapping[str, FloatArray]) -> Size:
        """Return the size of the crops, which the number of columns of the last matrix tells."""
        columns = tensors[f"{self.embedding.conv}.weight"].shape[-1]
        channels = len(tensors[f"{self.end_norm}.running_mean"])
        for size in _TEMPLATES:
            if columns == channels * math.prod(
                side // _STRIDE for side in (size.height_px, size.width_px)
            ):
                return size
        known = " or ".join(f"{s.height_px}x{s.width_px}" for s in _TEMPLATES)
        raise ArchitectureError(
            f"{self.embedding.conv}.weight has {columns} columns for {channels} channels, which is "
            f"no map of crops of {known}"
        )


def blocks_in_stages(
    depths: tuple[int, ...], prefix: str = "layer{stage}.{block}."
) -> tuple[IResNetBlock, ...]:
    """Return blocks that are named by stage, from 1, and place; the first of each projects."""
    return tuple(
        IResNetBlock(
            prefix.format(stage=stage, block=block), 1 if block else 2, projected=block == 0
        )
        for stage, depth in enumerate(depths, start=1)
        for block in range(depth)
    )


def blocks_in_a_row(depths: tuple[int, ...]) -> tuple[IResNetBlock, ...]:
    """Return blocks numbered through; the first of each stage but the first projects.

    The first stage keeps the stem's width, so that its skip is every second pixel.
    """
    starts = [sum(depths[:k]) for k in range(len(depths))]
    return tuple(
        IResNetBlock(f"body.{k}.", 2 if k in starts else 1, projected=k in starts[1:])
        for k in range(sum(depths))
    )
