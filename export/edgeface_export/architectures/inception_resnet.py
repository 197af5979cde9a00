"""Inception-ResNet-v1 (Szegedy et al., 2016, arXiv:1602.07261) as FaceNet's trainers use it.

Blocks are branches of convolutions whose channels are put together, brought to the block's width
by a 1x1 convolution with bias, scaled down, added to what came in, and rectified.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgeface.errors import ArchitectureError
from edgeface.types import FloatArray, Size
from edgeface_export.architectures.builder import LayerBuilder
from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.network import (
    INPUT,
    Add,
    Conv,
    GlobalAveragePool,
    Network,
    Preprocessing,
    Relu,
)
from edgeface_export.architectures.operations import Concat, MaxPool

__all__ = ["Branch", "InceptionBlock", "InceptionResNetLayout", "Step"]

_CROP_SIZE = Size(160, 160)


@dataclass(frozen=True, slots=True)
class Step:
    """A convolution of a branch: its key under the block, its stride and its padding."""

    key: str
    stride: int = 1
    padding: int | tuple[int, int] = 0


Branch = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class InceptionBlock:
    """A block: its branches in order, and the factor of its sum, or 0 where it has no sum.

    A block without a sum has the largest values of 3x3 windows as its last branch. ``rectified``
    tells whether a ReLU follows the sum.
    """

    prefix: str
    branches: tuple[Branch, ...]
    factor: float = 0.0
    rectified: bool = True


@dataclass(frozen=True, slots=True)
class InceptionResNetLayout:
    """Where a trainer keeps the parts; a max pooling follows the third step of the stem."""

    name: str
    trainer: str
    loss: str
    preprocessing: Preprocessing
    stem: tuple[Step, ...]
    pooled_after: str
    blocks: tuple[InceptionBlock, ...]
    unit: Unit
    join: str
    embedding: Unit
    template: str

    @property
    def architecture(self) -> str:
        """Name of the architecture."""
        return "Inception-ResNet-v1"

    def tensor_names(self) -> tuple[str, ...]:
        """Return the names of the tensors that must be there, in the network's order."""
        return tuple(self._names())

    def _names(self) -> Iterator[str]:
        for step in self.stem:
            yield from self.unit.under(f"{step.key}.").tensor_names()
        for block in self.blocks:
            for step in (step for branch in block.branches for step in branch):
                yield from self.unit.under(f"{block.prefix}{step.key}.").tensor_names()
            if block.factor:
                yield from Unit(f"{block.prefix}{self.join}", bias=True).tensor_names()
        yield from self.embedding.tensor_names()

    def build(self, tensors: Mapping[str, FloatArray]) -> Network:
        """Return the network made of ``tensors``.

        Raises:
            ArchitectureError: A tensor has a shape that does not fit.
        """
        builder, x = LayerBuilder(tensors), INPUT
        for step in self.stem:
            x = self._step(builder, x, step, "")
            if step.key == self.pooled_after:
                x = builder.add(MaxPool(f"{step.key}.pool", x, kernel=3, stride=2))
        for block in self.blocks:
            x = self._block(builder, x, block, tensors)
        x = builder.add(GlobalAveragePool("avgpool_1a", x))
        builder.matrix_head(x, self.embedding)
        return Network(tuple(builder.layers), _CROP_SIZE, self.template, self.preprocessing)

    def _step(self, builder: LayerBuilder, x: str, step: Step, prefix: str) -> str:
        unit = self.unit.under(f"{prefix}{step.key}.")
        return builder.unit(x, unit, stride=step.stride, padding=step.padding)

    def _block(
        self,
        builder: LayerBuilder,
        x: str,
        block: InceptionBlock,
        tensors: Mapping[str, FloatArray],
    ) -> str:
        ends = []
        for branch in block.branches:
            y = x
            for step in branch:
                y = self._step(builder, y, step, block.prefix)
            ends.append(y)
        if not block.factor:
            ends.append(builder.add(MaxPool(f"{block.prefix}pool", x, kernel=3, stride=2)))
        y = builder.add(Concat(f"{block.prefix}branches", ends[0], tuple(ends[1:])))
        return self._sum(builder, x, y, block, tensors) if block.factor else y

    def _sum(
        self,
        builder: LayerBuilder,
        x: str,
        y: str,
        block: InceptionBlock,
        tensors: Mapping[str, FloatArray],
    ) -> str:
        at = f"{block.prefix}{self.join}"
        weight, bias = tensors[f"{at}.weight"], tensors[f"{at}.bias"]
        if weight.ndim != 4:
            raise ArchitectureError(f"{at}.weight must have 4 axes, got shape {weight.shape}")
        y = builder.add(Conv(at, y, weight * block.factor, bias * block.factor))
        y = builder.add(Add(f"{block.prefix}add", input=y, skip=x))
        return builder.add(Relu(f"{block.prefix}relu", y)) if block.rectified else y
