"""MobileFaceNet (Chen et al., "MobileFaceNets", 2018, arXiv:1804.07573) from any layout of keys.

The structure is the paper's: a 3x3 convolution of stride 2, a 3x3 depthwise one, fifteen inverted
bottlenecks (residual where stride is 1 and the widths agree), a 1x1 expansion, a global depthwise
convolution over the whole map, and a linear 1x1 embedding. Widths are read from the tensors, so
narrow and pruned nets need nothing of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeface.errors import ArchitectureError
from edgeface.types import FloatArray, Size
from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.network import (
    INPUT,
    Add,
    BatchNorm,
    Conv,
    Flatten,
    Layer,
    Linear,
    Network,
    PRelu,
    Preprocessing,
    Relu,
)

__all__ = ["Bottleneck", "MobileFaceNetLayout"]

_TOTAL_STRIDE = 16
_CEILINGS = {"relu": None, "relu6": 6.0}
_TEMPLATES = {Size(112, 112): "arcface-112x112", Size(96, 112): "arcface-112x96"}


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """One inverted bottleneck: the prefix of its keys, and the stride of its depthwise part."""

    prefix: str
    stride: int = 1


@dataclass(frozen=True, slots=True)
class MobileFaceNetLayout:
    """Where a trainer keeps the parts of a MobileFaceNet.

    ``expand``, ``depthwise`` and ``project`` are relative to the prefix of each block.
    ``separable`` names the pointwise half where the second layer is a separable pair. The
    embedding is ``embedding``, a 1x1 convolution, or a matrix after flattening when ``flat``.
    """

    name: str
    trainer: str
    loss: str
    preprocessing: Preprocessing
    stem: Unit
    stem_depthwise: Unit
    blocks: tuple[Bottleneck, ...]
    expand: Unit
    depthwise: Unit
    project: Unit
    last: Unit
    global_depthwise: Unit
    embedding: Unit
    separable: Unit | None = None
    flat: bool = False

    @property
    def architecture(self) -> str:
        """Name of the architecture."""
        return "MobileFaceNet"

    def _units(self) -> list[Unit]:
        units = [self.stem, self.stem_depthwise]
        units += [self.separable] if self.separable else []
        for block in self.blocks:
            units += [
                part.under(block.prefix) for part in (self.expand, self.depthwise, self.project)
            ]
        return [*units, self.last, self.global_depthwise, self.embedding]

    def tensor_names(self) -> tuple[str, ...]:
        """Return the names of the tensors that must be there, in the network's order."""
        return tuple(key for unit in self._units() for key in unit.tensor_names())

    def build(self, tensors: Mapping[str, FloatArray]) -> Network:
        """Return the network made of ``tensors``.

        Raises:
            ArchitectureError: A tensor has a shape that does not fit.
        """
        builder = _Builder(tensors)
        x = builder.unit(INPUT, self.stem, stride=2, padding=1)
        x = builder.unit(x, self.stem_depthwise, padding=1, depthwise=True)
        if self.separable:
            x = builder.unit(x, self.separable)
        for block in self.blocks:
            x = self._block(builder, x, block)
        x = builder.unit(x, self.last)
        x = builder.unit(x, self.global_depthwise, depthwise=True)
        builder.head(x, self.embedding, flat=self.flat)
        crop_size = self._crop_size(tensors)
        return Network(tuple(builder.layers), crop_size, _TEMPLATES[crop_size], self.preprocessing)

    def _block(self, builder: _Builder, x: str, block: Bottleneck) -> str:
        expand, depthwise, project = (
            part.under(block.prefix) for part in (self.expand, self.depthwise, self.project)
        )
        y = builder.unit(x, expand)
        y = builder.unit(y, depthwise, stride=block.stride, padding=1, depthwise=True)
        y = builder.unit(y, project)
        if block.stride == 1 and builder.width(expand, axis=1) == builder.width(project, axis=0):
            y = builder.add(Add(f"{block.prefix}add", input=y, skip=x))
        return y

    def _crop_size(self, tensors: Mapping[str, FloatArray]) -> Size:
        # The global depthwise kernel covers the whole last map, so it tells the crop's size.
        kernel = tensors[f"{self.global_depthwise.conv}.weight"].shape[2:]
        size = Size(_TOTAL_STRIDE * kernel[1], _TOTAL_STRIDE * kernel[0])
        if size not in _TEMPLATES:
            known = " or ".join(f"{s.height_px}x{s.width_px}" for s in _TEMPLATES)
            raise ArchitectureError(
                f"the global depthwise kernel {kernel[0]}x{kernel[1]} means crops of "
                f"{size.height_px}x{size.width_px} (height x width); known are {known}"
            )
        return size


class _Builder:
    """Collects layers; layers are named after the keys they were read from."""

    def __init__(self, tensors: Mapping[str, FloatArray]) -> None:
        self._tensors = tensors
        self.layers: list[Layer] = []

    def add(self, layer: Layer) -> str:
        self.layers.append(layer)
        return layer.name

    def width(self, unit: Unit, *, axis: int) -> int:
        return int(self._tensors[f"{unit.conv}.weight"].shape[axis])

    def unit(
        self, x: str, unit: Unit, *, stride: int = 1, padding: int = 0, depthwise: bool = False
    ) -> str:
        weight = self._weight(unit, axes=4)
        bias = self._tensors[f"{unit.conv}.bias"] if unit.bias else None
        groups = int(weight.shape[0]) if depthwise else 1
        x = self.add(Conv(unit.conv, x, weight, bias, stride, padding, groups))
        x = self._norm(x, unit)
        if unit.activation:
            slope = self._tensors[f"{unit.activation}.weight"].reshape(-1)
            x = self.add(PRelu(unit.activation, x, slope))
        elif unit.plain:
            x = self.add(Relu(f"{unit.norm}.{unit.plain}", x, _CEILINGS[unit.plain]))
        return x

    def head(self, x: str, unit: Unit, *, flat: bool) -> None:
        if flat:
            x = self.add(Flatten("flatten", x))
            self._norm(self.add(Linear(unit.conv, x, self._weight(unit, axes=2))), unit)
        else:
            self.add(Flatten("flatten", self.unit(x, unit)))

    def _weight(self, unit: Unit, *, axes: int) -> FloatArray:
        weight = self._tensors[f"{unit.conv}.weight"]
        if weight.ndim != axes:
            raise ArchitectureError(
                f"{unit.conv}.weight must have {axes} axes, got shape {weight.shape}"
            )
        return weight

    def _norm(self, x: str, unit: Unit) -> str:
        parts = ("weight", "bias", "running_mean", "running_var")
        gamma, beta, mean, variance = (self._tensors[f"{unit.norm}.{part}"] for part in parts)
        return self.add(BatchNorm(unit.norm, x, gamma, beta, mean, variance))
