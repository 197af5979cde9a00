"""Layers beyond those of plain convolutional networks: pooling, attention, normalised channels.

They stand in float in every artefact. All but ``HardSigmoid`` and ``HardSwish`` keep the channels
of their network from being balanced too; see :mod:`edgeface_export.quantise.partial`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from edgeface.errors import ArchitectureError
from edgeface.types import FloatArray

__all__ = [
    "ChannelNorm",
    "Concat",
    "CrossCovariance",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "MaxPool",
    "Operation",
    "Shift",
    "Slice",
    "Sum",
]

_Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MaxPool:
    """The largest value of each window of ``kernel`` x ``kernel``, a step of ``stride`` apart.

    ``ceil`` counts windows that reach beyond the edge, as Caffe does.
    """

    name: str
    input: str
    kernel: int
    stride: int
    padding: int = 0
    ceil: bool = False

    def output_shape(self, shape: _Shape) -> _Shape:
        """Return (channels, height, width) for an input of that form."""
        channels, *sides = shape
        counted = tuple(self.count(side) for side in sides)
        if min(counted) < 1 or 2 * self.padding > self.kernel:
            raise ArchitectureError(f"{self.name}: its window is larger than its {shape} input")
        return channels, *counted

    def count(self, side: int) -> int:
        """Return how many windows there are along a side of that many values."""
        over = side + 2 * self.padding - self.kernel
        if not self.ceil:
            return over // self.stride + 1
        found = -(-over // self.stride) + 1
        # A window must begin inside of the picture or its left padding.
        return found - ((found - 1) * self.stride >= side + self.padding)


@dataclass(frozen=True, slots=True, eq=False)
class ChannelNorm:
    """LayerNorm over the channels of each position: to mean 0 and variance 1, then gamma, beta."""

    name: str
    input: str
    gamma: FloatArray
    beta: FloatArray
    epsilon: float = 1e-6

    def output_shape(self, shape: _Shape) -> _Shape:
        """Return the input shape."""
        if self.gamma.shape != shape[:1] or self.beta.shape != shape[:1]:
            raise ArchitectureError(
                f"{self.name}: {self.gamma.shape} and {self.beta.shape} values for "
                f"{shape[0]} channels"
            )
        return shape


@dataclass(frozen=True, slots=True)
class Gelu:
    """x times the share of a normal distribution below x (Hendrycks and Gimpel, 2016)."""

    name: str
    input: str

    def output_shape(self, shape: _Shape) -> _Shape:
        """Return the input shape."""
        return shape


@dataclass(frozen=True, slots=True)
class HardSigmoid:
    """A straight line in a sigmoid's place: steepness * x + middle, cut to 0..1.

    The defaults are those of MobileNetV3 (Howard et al., 2019, arXiv:1905.02244).
    """

    name: str
    input: str
    steepness: float = 1 / 6
    middle: float = 0.5

    def output_shape(self, shape: _Shape) -> _Shape:
        """Return the input shape."""
        return shape


@dataclass(frozen=True, slots=True)
class HardSwish:
    """x times its :class:`HardSigmoid` (Howard et al., 2019, arXiv:1905.02244)."""

    name: str
    input: str

    def output_shape(self, shape: _Shape) -> _Shape:
        """Return the input shape."""
        return shape


@dataclass(frozen=True, slots=True)
class Slice:
    """Channels from ``start`` up to ``stop``."""

    name: str
    input: str
    start: int
    stop: int

    def output_shape(self, shape: _Shape) -> _Shape:
        """Return the shape of the channels that are left."""
        if not 0 <= self.start < self.stop <= shape[0]:
            raise ArchitectureError(
                f"{self.name}: channels {self.start} to {self.stop} of {shape[0]}"
            )
        return self.stop - self.start, *shape[1:]


@dataclass(frozen=True, slots=True)
class Concat:
    """The channels of ``input`` and of ``others``, one after the other."""

    name: str
    input: str
    others: tuple[str, ...]

    def joined(self, shapes: tuple[_Shape, ...]) -> _Shape:
        """Return the shape of inputs of the ``shapes`` together."""
        if len({shape[1:] for shape in shapes}) != 1:
            raise ArchitectureError(f"{self.name}: the shapes {shapes} differ beyond the channels")
        return sum(shape[0] for shape in shapes), *shapes[0][1:]


@dataclass(frozen=True, slots=True)
class Sum:
    """The sum of ``input`` and ``others`` where INT8 leaves it alone; else it is an ``Add``."""

    name: str
    input: str
    others: tuple[str, ...]

    def joined(self, shapes: tuple[_Shape, ...]) -> _Shape:
        """Return the shape of inputs of the ``shapes`` together."""
        if len(set(shapes)) != 1:
            raise ArchitectureError(f"{self.name}: the shapes {shapes} differ")
        return shapes[0]


@dataclass(frozen=True, slots=True, eq=False)
class Shift:
    """``input`` plus ``values``, (channels, height, width), which are the same for every crop."""

    name: str
    input: str
    values: FloatArray

    def output_shape(self, shape: _Shape) -> _Shape:
        """Return the input shape."""
        if self.values.shape != shape:
            raise ArchitectureError(f"{self.name}: {self.values.shape} added to {shape}")
        return shape


@dataclass(frozen=True, slots=True, eq=False)
class CrossCovariance:
    """Attention of channels on channels (El-Nouby et al., "XCiT", 2021, arXiv:2106.09681).

    ``input`` holds queries, keys and values one after the other, each in ``temperature.size``
    heads. Queries and keys are brought to unit length over the positions; their products, times
    the temperature of the head, become shares by softmax, by which the values are mixed.
    """

    name: str
    input: str
    temperature: FloatArray

    @property
    def heads(self) -> int:
        """Number of heads."""
        return int(self.temperature.size)

    def output_shape(self, shape: _Shape) -> _Shape:
        """Return a third of the channels of the input shape."""
        if shape[0] % (3 * self.heads):
            raise ArchitectureError(
                f"{self.name}: {shape[0]} channels are not queries, keys and values of "
                f"{self.heads} heads"
            )
        return shape[0] // 3, *shape[1:]

    def multiply_adds(self, shape: _Shape) -> int:
        """Return the multiply-adds for one crop, given the input shape."""
        channels, rows, columns = shape
        each = channels // 3
        return 2 * each * (each // self.heads) * rows * columns


Operation: TypeAlias = (
    MaxPool
    | ChannelNorm
    | Gelu
    | HardSigmoid
    | HardSwish
    | Slice
    | Concat
    | Sum
    | Shift
    | CrossCovariance
)
