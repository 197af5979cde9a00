"""Layers from a checkpoint's tensors, one unit after the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from edgeface.errors import ArchitectureError
from edgeface.types import FloatArray
from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.network import (
    BatchNorm,
    Conv,
    Flatten,
    Gate,
    GlobalAveragePool,
    Layer,
    Linear,
    PRelu,
    Relu,
    Sigmoid,
)
from edgeface_export.architectures.operations import HardSigmoid, HardSwish

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
        self,
        x: str,
        unit: Unit,
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
        depthwise: bool = False,
        grouped: bool = False,
    ) -> str:
        """Append a convolution, its BatchNorm and its activation; return the last one's name.

        ``depthwise`` gives every channel a group of its own. ``grouped`` makes groups of as many
        channels as the weights have inputs.
        """
        return self.activation(
            self.linear(
                x, unit, stride=stride, padding=padding, depthwise=depthwise, grouped=grouped
            ),
            unit,
        )

    def linear(
        self,
        x: str,
        unit: Unit,
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
        depthwise: bool = False,
        grouped: bool = False,
    ) -> str:
        """Append the convolution of :meth:`unit` and its BatchNorm alone; return its name."""
        weight = self._weight(unit, axes=4)
        bias = self._tensors[f"{unit.conv}.bias"] if unit.bias else None
        groups = int(weight.shape[0]) if depthwise else 1
        if grouped:
            groups = max(1, int(weight.shape[0]) // max(1, int(weight.shape[1])))
        x = self.add(Conv(unit.conv, x, weight, bias, stride, padding, groups))
        return self._norm(x, unit) if unit.norm else x

    def around(
        self,
        x: str,
        unit: Unit,
        *,
        stride: int = 1,
        depthwise: bool = False,
        active: bool = True,
    ) -> str:
        """Append :meth:`unit` with zeros around the map, so that only ``stride`` makes it smaller.

        The kernel must be square, of odd sides. The activation is left out unless ``active``.
        """
        side = self._weight(unit, axes=4).shape[-1]
        padding = max(0, side - 1) // 2
        x = self.linear(x, unit, stride=stride, padding=padding, depthwise=depthwise)
        return self.activation(x, unit) if active else x

    def activation(self, x: str, unit: Unit) -> str:
        """Append the activation of :meth:`unit`, if it has one; return the last layer's name."""
        if unit.activation:
            slope = self._tensors[f"{unit.activation}.weight"].reshape(-1)
            if slope.size == 1:
                # torch's default: one slope for all channels.
                slope = np.full(self.width(unit, axis=0), slope[0], np.float32)
            return self.add(PRelu(unit.activation, x, slope))
        name = f"{unit.norm or unit.conv}.{unit.plain}"
        if unit.plain == "hardswish":
            return self.add(HardSwish(name, x))
        return self.add(Relu(name, x, _CEILINGS[unit.plain])) if unit.plain else x

    def norm_alone(self, x: str, norm: str, *, epsilon: float = 1e-5) -> str:
        """Append a BatchNorm that no convolution stands before, and return its name.

        It gets a depthwise 1x1 convolution of ones to be folded into.
        """
        channels = len(self._tensors[f"{norm}.running_mean"])
        x = self.every(x, f"{norm}.in", channels)
        return self._norm(x, Unit("", norm, epsilon=epsilon))

    def every(self, x: str, name: str, channels: int, *, stride: int = 1) -> str:
        """Append what takes every ``stride``-th row and column, as a convolution of ones."""
        ones = np.ones((channels, 1, 1, 1), np.float32)
        return self.add(Conv(name, x, ones, stride=stride, groups=channels))

    def excitation(self, x: str, units: Iterable[Unit], prefix: str, *, hard: bool = False) -> str:
        """Append what multiplies each channel by a number that the channels' means lead to.

        Its end is a sigmoid, or a ``hard`` one.
        """
        y = self.add(GlobalAveragePool(f"{prefix}pool", x))
        for unit in units:
            y = self.unit(y, unit)
        kind = HardSigmoid if hard else Sigmoid
        gate = self.add(kind(f"{prefix}sigmoid", y))
        return self.add(Gate(f"{prefix}gate", input=x, skip=gate))

    def head(self, x: str, unit: Unit, *, flat: bool) -> None:
        """Append the embedding: a matrix after flattening when ``flat``, else a convolution."""
        if flat:
            self.matrix_head(x, unit)
        else:
            self.add(Flatten("flatten", self.unit(x, unit)))

    def matrix_head(self, x: str, unit: Unit) -> None:
        """Append the embedding: flattening, a matrix and its BatchNorm where it has one."""
        bias = self._tensors[f"{unit.conv}.bias"] if unit.bias else None
        x = self.add(Flatten("flatten", x))
        x = self.add(Linear(unit.conv, x, self._weight(unit, axes=2), bias))
        if unit.norm:
            self._norm(x, unit)

    def _weight(self, unit: Unit, *, axes: int) -> FloatArray:
        weight = self._tensors[f"{unit.conv}.weight"]
        if unit.matrix and weight.ndim == 2:
            weight = weight[:, :, None, None]
        if weight.ndim != axes:
            raise ArchitectureError(
                f"{unit.conv}.weight must have {axes} axes, got shape {weight.shape}"
            )
        return weight

    def _norm(self, x: str, unit: Unit) -> str:
        mean, variance = (self._tensors[f"{unit.norm}.running_{part}"] for part in ("mean", "var"))
        # Without gamma and beta (affine=False) they are 1 and 0.
        gamma = self._tensors.get(f"{unit.norm}.weight", np.ones_like(mean))
        beta = self._tensors.get(f"{unit.norm}.bias", np.zeros_like(mean))
        return self.add(BatchNorm(unit.norm, x, gamma, beta, mean, variance, unit.epsilon))
