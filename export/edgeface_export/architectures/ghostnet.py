"""GhostNet (Han et al., 2020, arXiv:1911.11907), the backbone of GhostFaceNet (V1) and others.

A ghost module makes half of its channels by a 1x1 convolution and the other half from those by a
depthwise one. A block is two of them, with a strided depthwise convolution and excitation by a hard
sigmoid between where the stage has them. Widths and kernels are read from the tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgeface.types import FloatArray
from edgeface_export.architectures.builder import LayerBuilder
from edgeface_export.architectures.heads import FaceHead, network_of_blocks
from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.network import Network, Preprocessing
from edgeface_export.architectures.operations import Concat, Sum

__all__ = ["BLOCKS", "GhostBlock", "GhostNetLayout"]


@dataclass(frozen=True, slots=True)
class GhostBlock:
    """One block: the prefix of its keys, its stride, and which of the optional parts it has.

    Where it is not ``projected``, its skip is what came in.
    """

    prefix: str
    stride: int = 1
    excited: bool = False
    projected: bool = False


# Table 1 of the paper: blocks of each stage, as (stride, excited, projected).
_STAGES = (
    ((1, False, False),),
    ((2, False, True),),
    ((1, False, False),),
    ((2, True, True),),
    ((1, True, False),),
    ((2, False, True),),
    (*((1, False, False),) * 3, (1, True, True), (1, True, False)),
    ((2, True, True),),
    ((1, False, False), (1, True, False)) * 2,
)

BLOCKS = tuple(
    GhostBlock(f"blocks.{stage}.{block}.", *parts)
    for stage, blocks in enumerate(_STAGES)
    for block, parts in enumerate(blocks)
)
"""The blocks of the paper by the key names of its authors' code."""


@dataclass(frozen=True, slots=True)
class GhostNetLayout:
    """Where a trainer keeps the parts; those of a block are relative to its prefix.

    ``first`` and ``second`` are the two ghost modules, each as its two convolutions. ``shortcut``
    are the two convolutions of a skip that is projected.
    """

    name: str
    architecture: str
    trainer: str
    loss: str
    preprocessing: Preprocessing
    stem: Unit
    stem_stride: int
    first: tuple[Unit, Unit]
    depthwise: Unit
    squeeze: Unit
    excite: Unit
    second: tuple[Unit, Unit]
    shortcut: tuple[Unit, Unit]
    last: Unit
    head: FaceHead
    blocks: tuple[GhostBlock, ...] = BLOCKS

    def tensor_names(self) -> tuple[str, ...]:
        """Return the names of the tensors that must be there, in the network's order."""
        names = self.stem.tensor_names()
        for block in self.blocks:
            for unit in self._units(block):
                names += unit.under(block.prefix).tensor_names()
        return (*names, *self.last.tensor_names(), *self.head.tensor_names())

    def _units(self, block: GhostBlock) -> Iterator[Unit]:
        yield from self.first
        if block.stride > 1:
            yield self.depthwise
        if block.excited:
            yield from (self.squeeze, self.excite)
        yield from self.second
        if block.projected:
            yield from self.shortcut

    def build(self, tensors: Mapping[str, FloatArray]) -> Network:
        """Return the network made of ``tensors``.

        Raises:
            ArchitectureError: A tensor has a shape that does not fit.
        """
        return network_of_blocks(self, self.blocks, self._block, tensors)

    def _block(self, builder: LayerBuilder, x: str, block: GhostBlock) -> str:
        at = block.prefix
        y = _ghost(builder, x, self.first, f"{at}first", at)
        if block.stride > 1:
            unit = self.depthwise.under(at)
            y = builder.around(y, unit, stride=block.stride, depthwise=True)
        if block.excited:
            parts = self.squeeze.under(at), self.excite.under(at)
            y = builder.excitation(y, parts, at, hard=True)
        y = _ghost(builder, y, self.second, f"{at}second", at)
        if block.projected:
            around, project = (unit.under(at) for unit in self.shortcut)
            x = builder.around(x, around, stride=block.stride, depthwise=True)
            x = builder.unit(x, project)
        return builder.add(Sum(f"{at}add", y, (x,)))


def _ghost(builder: LayerBuilder, x: str, units: tuple[Unit, Unit], name: str, at: str) -> str:
    """Append a ghost module called ``name``."""
    primary, cheap = (unit.under(at) for unit in units)
    x = builder.around(x, primary)
    y = builder.around(x, cheap, depthwise=True)
    return builder.add(Concat(name, x, (y,)))
