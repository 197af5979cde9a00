"""Layers from a checkpoint's tensors, one unit after the other."""

from __future__ import annotations

from collections.abc import Mapping

from edgeface.errors import ArchitectureError
from edgeface.types import FloatArray
from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.network import (
    BatchNorm,
    Conv,
    Flatten,
    Layer,
    Linear,
    PRelu,
    Relu,
)

__all__ = ["LayerBuilder"]

_CEILINGS = {"relu": None, "relu6": 6.0}


class LayerBuilder:
    """Collects layers; layers are named after the keys they were read from."""

    def __init__(self, tensors: Mapping[str, FloatArray]) -> None:
        self._tensors = tensors
        self.layers: list[Layer] = []

    def add(self, layer: Layer) -> str:
        """Append ``layer`` and return its name, the name of what it gives."""
        self.layers.append(layer)
        return layer.name

    def width(self, unit: Unit, *, axis: int) -> int:
        """Return the length of an axis of a convolution's weights: 0 outputs, 1 inputs."""
        return int(self._tensors[f"{unit.conv}.weight"].shape[axis])

    def unit(
        self, x: str, unit: Unit, *, stride: int = 1, padding: int = 0, depthwise: bool = False
    ) -> str:
        """Append a convolution, its BatchNorm and its activation; return the last one's name."""
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
        """Append the embedding: a matrix after flattening when ``flat``, else a convolution."""
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
