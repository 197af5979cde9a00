"""MobileNet V1, V2, V3 (arXiv:1704.04861, 1801.04381, 1905.02244) with the end of a face backbone.

Blocks are a 1x1 convolution that widens, where they have one, a depthwise one, excitation by a hard
sigmoid, where they have it, and a 1x1 convolution. From V2 on their input is added where it has the
form of what they make. Widths and kernels are read from the tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgeface.types import FloatArray
from edgeface_export.architectures.builder import LayerBuilder
from edgeface_export.architectures.heads import FaceHead, network_of_blocks
from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.network import Add, Network, Preprocessing

__all__ = ["MobileBlock", "MobileNetLayout"]


@dataclass(frozen=True, slots=True)
class MobileBlock:
    """One block: the prefix of its keys, its parts under it, and the stride of ``depthwise``.

    ``late`` puts the activation of ``depthwise`` behind the excitation.
    """

    prefix: str
    depthwise: Unit
    project: Unit
    expand: Unit | None = None
    stride: int = 1
    excitation: tuple[Unit, ...] = ()
    late: bool = False

    def units(self) -> Iterator[Unit]:
        """Give the parts by their whole keys, in the network's order."""
        first = [self.expand] if self.expand else []
        for unit in (*first, self.depthwise, *self.excitation, self.project):
            yield unit.under(self.prefix)


@dataclass(frozen=True, slots=True)
class MobileNetLayout:
    """Where a trainer keeps the parts; ``residual`` tells whether blocks add their input."""

    name: str
    architecture: str
    trainer: str
    loss: str
    preprocessing: Preprocessing
    stem: Unit
    stem_stride: int
    blocks: tuple[MobileBlock, ...]
    head: FaceHead
    last: Unit | None = None
    residual: bool = True

    def tensor_names(self) -> tuple[str, ...]:
        """Return the names of the tensors that must be there, in the network's order."""
        units = [self.stem, *(unit for block in self.blocks for unit in block.units())]
        units += [self.last] if self.last else []
        names = [key for unit in units for key in unit.tensor_names()]
        return (*names, *self.head.tensor_names())

    def build(self, tensors: Mapping[str, FloatArray]) -> Network:
        """Return the network made of ``tensors``.

        Raises:
            ArchitectureError: A tensor has a shape that does not fit.
        """
        return network_of_blocks(self, self.blocks, self._block, tensors)

    def _block(self, builder: LayerBuilder, x: str, block: MobileBlock) -> str:
        first, *others = block.units()
        y = builder.unit(x, first) if block.expand else x
        depthwise, *excitation, project = others if block.expand else (first, *others)
        late = block.late
        y = builder.around(y, depthwise, stride=block.stride, depthwise=True, active=not late)
        if excitation:
            y = builder.excitation(y, excitation, block.prefix, hard=True)
        y = builder.activation(y, depthwise) if late else y
        y = builder.unit(y, project)
        came = builder.width(first, axis=1 if block.expand else 0)
        if self.residual and block.stride == 1 and came == builder.width(project, axis=0):
            y = builder.add(Add(f"{block.prefix}add", input=y, skip=x))
        return y
