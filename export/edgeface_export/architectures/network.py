"""A network as a list of layers with its trained numbers, before anything is folded.

One description serves the ONNX emitter (which folds BatchNorm), the reference forward that the
emitted graph is measured against (which does not), the data-free ranges (which read BatchNorm's
statistics), and the count of multiply-adds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgeface.errors import ArchitectureError
from edgeface.types import FloatArray, Size
from edgeface_export.architectures.operations import Concat, Operation, Sum

__all__ = [
    "INPUT",
    "Add",
    "BatchNorm",
    "Conv",
    "Flatten",
    "Gate",
    "GlobalAveragePool",
    "Layer",
    "Linear",
    "Network",
    "Output",
    "PRelu",
    "Preprocessing",
    "Relu",
    "Shape",
    "Sigmoid",
    "sources",
]

INPUT = "normalised"
"""Name of the tensor that the first layer reads: the preprocessed crop, (n, 3, height, width)."""

Shape: TypeAlias = tuple[int, ...]


class Output(str, Enum):
    """What the last layer's values become: a row of length 1, or probabilities of classes."""

    EMBEDDING = "embedding"
    CLASS_SCORES = "class-scores"


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What the trainer did to a uint8 crop: channels in ``colour_order``, then (x - mean) / scale.

    ``mean`` and ``scale`` are per channel, in the order of ``colour_order``, on the 0..255 scale.
    """

    colour_order: str
    mean: tuple[float, float, float]
    scale: tuple[float, float, float]

    def __post_init__(self) -> None:
        if self.colour_order not in ("RGB", "BGR"):
            raise ArchitectureError(f"colour order must be RGB or BGR, got {self.colour_order!r}")
        values = (*self.mean, *self.scale)
        if not np.isfinite(values).all() or min(self.scale) <= 0:
            raise ArchitectureError(f"mean and scale must be finite, scale positive, got {values}")

    @classmethod
    def uniform(cls, colour_order: str, mean: float, scale: float) -> Preprocessing:
        """Return the preprocessing with one mean and one scale for all channels."""
        return cls(colour_order, (mean,) * 3, (scale,) * 3)

    def __str__(self) -> str:
        same = len(set(self.mean)) == 1 and len(set(self.scale)) == 1
        mean = f"{self.mean[0]:g}" if same else "(" + ", ".join(f"{m:g}" for m in self.mean) + ")"
        scale = (
            f"{self.scale[0]:g}" if same else "(" + ", ".join(f"{s:g}" for s in self.scale) + ")"
        )
        return f"{self.colour_order}, (x - {mean}) / {scale}"


@dataclass(frozen=True, slots=True, eq=False)
class Conv:
    """A convolution; ``weight`` is (out, in / groups, kernel height, kernel width).

    ``padding`` is of every side, or (above and below, left and right).
    """

    name: str
    input: str
    weight: FloatArray
    bias: FloatArray | None = None
    stride: int = 1
    padding: int | tuple[int, int] = 0
    groups: int = 1

    @property
    def pads(self) -> tuple[int, int]:
        """Rows of zeros above and below, columns to the left and to the right."""
        pad = self.padding
        return (pad, pad) if isinstance(pad, int) else pad

    def output_shape(self, shape: Shape) -> Shape:
        """Return (channels, height, width) for an input of that form."""
        channels, height, width = shape
        out, per_group, kernel_height, kernel_width = self.weight.shape
        if per_group * self.groups != channels or out % self.groups:
            raise ArchitectureError(
                f"{self.name}: weights {self.weight.shape} in {self.groups} group(s) do not fit "
                f"{channels} input channels"
            )
        if self.bias is not None:
            _require_channels(self.name, self.bias, (out,), part="bias")
        rows = (height + 2 * self.pads[0] - kernel_height) // self.stride + 1
        columns = (width + 2 * self.pads[1] - kernel_width) // self.stride + 1
        if rows < 1 or columns < 1:
            raise ArchitectureError(f"{self.name}: its kernel is larger than its {shape} input")
        return out, rows, columns

    def multiply_adds(self, shape: Shape) -> int:
        """Return the multiply-adds for one crop, given the input shape."""
        _, rows, columns = self.output_shape(shape)
        return int(self.weight.size) * rows * columns


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """A fully connected layer; ``weight`` is (out, in)."""

    name: str
    input: str
    weight: FloatArray
    bias: FloatArray | None = None

    def output_shape(self, shape: Shape) -> Shape:
        """Return (out,) for an input of shape (in,)."""
        if shape != (self.weight.shape[1],):
            raise ArchitectureError(
                f"{self.name}: weights {self.weight.shape} do not fit an input of shape {shape}"
            )
        if self.bias is not None:
            _require_channels(self.name, self.bias, self.weight.shape, part="bias")
        return (int(self.weight.shape[0]),)

    def multiply_adds(self, shape: Shape) -> int:
        """Return the multiply-adds for one crop."""
        del shape
        return int(self.weight.size)


@dataclass(frozen=True, slots=True, eq=False)
class BatchNorm:
    """BatchNorm in inference: gamma * (x - mean) / sqrt(variance + epsilon) + beta, per channel."""

    name: str
    input: str
    gamma: FloatArray
    beta: FloatArray
    mean: FloatArray
    variance: FloatArray
    epsilon: float = 1e-5

    def output_shape(self, shape: Shape) -> Shape:
        """Return the input shape."""
        for part in ("gamma", "beta", "mean", "variance"):
            _require_channels(self.name, getattr(self, part), shape, part=part)
        if (self.variance < 0).any():
            raise ArchitectureError(
                f"{self.name}: its variance must be 0 or more, got {self.variance.min():g}"
            )
        return shape

    def scale_and_shift(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return (scale, shift) in float64, so that the layer is x * scale + shift."""
        variance = self.variance.astype(np.float64)
        scale = self.gamma.astype(np.float64) / np.sqrt(variance + self.epsilon)
        return scale, self.beta.astype(np.float64) - self.mean.astype(np.float64) * scale


@dataclass(frozen=True, slots=True, eq=False)
class PRelu:
    """Per channel: x where positive, slope * x elsewhere."""

    name: str
    input: str
    slope: FloatArray

    def output_shape(self, shape: Shape) -> Shape:
        """Return the input shape."""
        _require_channels(self.name, self.slope, shape, part="slope")
        return shape


@dataclass(frozen=True, slots=True)
class Relu:
    """Zero where negative, and at most ``ceiling`` where there is one (6 for ReLU6)."""

    name: str
    input: str
    ceiling: float | None = None

    def output_shape(self, shape: Shape) -> Shape:
        """Return the input shape."""
        return shape


@dataclass(frozen=True, slots=True)
class Add:
    """The sum of a residual block: ``input`` is the computed branch, ``skip`` what went into it."""

    name: str
    input: str
    skip: str

    def output_shape(self, shape: Shape) -> Shape:
        """Return the input shape."""
        return shape


@dataclass(frozen=True, slots=True)
class Flatten:
    """From (channels, height, width) to one axis, in that order."""

    name: str
    input: str

    def output_shape(self, shape: Shape) -> Shape:
        """Return the product of the input shape."""
        return (int(np.prod(shape)),)


@dataclass(frozen=True, slots=True)
class GlobalAveragePool:
    """The mean of each channel: from (channels, height, width) to (channels, 1, 1)."""

    name: str
    input: str

    def output_shape(self, shape: Shape) -> Shape:
        """Return (channels, 1, 1)."""
        return shape[0], 1, 1


@dataclass(frozen=True, slots=True)
class Sigmoid:
    """1 / (1 + exp(-x))."""

    name: str
    input: str

    def output_shape(self, shape: Shape) -> Shape:
        """Return the input shape."""
        return shape


@dataclass(frozen=True, slots=True)
class Gate:
    """``input`` times one number for each channel, which ``skip`` (channels, 1, 1) gives."""

    name: str
    input: str
    skip: str

    def output_shape(self, shape: Shape) -> Shape:
        """Return the input shape."""
        return shape


Layer: TypeAlias = (
    Conv
    | Linear
    | BatchNorm
    | PRelu
    | Relu
    | Add
    | Flatten
    | GlobalAveragePool
    | Sigmoid
    | Gate
    | Operation
)


def sources(layer: Layer) -> tuple[str, ...]:
    """Return the names of what ``layer`` reads; the first is its ``input``."""
    if isinstance(layer, Add | Gate):
        return layer.input, layer.skip
    return (layer.input, *layer.others) if isinstance(layer, Concat | Sum) else (layer.input,)


def _require_channels(name: str, values: FloatArray, shape: Shape, *, part: str) -> None:
    if values.shape != shape[:1]:
        raise ArchitectureError(
            f"{name}: {values.size} values for {shape[0]} channels in its {part} {values.shape}"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """Layers in order; each reads ``INPUT`` or the output of an earlier layer, by name.

    The last layer's output is the embedding before it is brought to unit length, or the values
    that become probabilities, as ``output`` says. ``alignment_template`` is empty for a network
    that reads a wider piece of the frame than an aligned face.
    """

    layers: tuple[Layer, ...]
    crop_size: Size
    alignment_template: str
    preprocessing: Preprocessing
    output: Output = Output.EMBEDDING
    shapes: Mapping[str, Shape] = field(init=False)

    def __post_init__(self) -> None:
        shapes: dict[str, Shape] = {INPUT: (3, self.crop_size.height_px, self.crop_size.width_px)}
        for layer in self.layers:
            for _, array in _arrays(layer):
                if not np.isfinite(array).all():
                    raise ArchitectureError(f"{layer.name}: its numbers hold NaN or infinity")
            if layer.name in shapes:
                raise ArchitectureError(f"two layers are called {layer.name}")
            shapes[layer.name] = _output_shape(layer, shapes)
        if len(shapes[self.layers[-1].name]) != 1:
            raise ArchitectureError(
                f"the network ends in {shapes[self.layers[-1].name]}, wanted one axis"
            )
        object.__setattr__(self, "shapes", shapes)

    @property
    def embedding_size(self) -> int:
        """Number of values of an embedding, or of classes."""
        return self.shapes[self.layers[-1].name][0]

    @property
    def parameters(self) -> int:
        """Number of trained values; BatchNorm's running statistics are not counted."""
        return sum(
            int(array.size)
            for layer in self.layers
            for name, array in _arrays(layer)
            if name not in ("mean", "variance", "values")
        )

    def multiply_adds(self) -> dict[str, int]:
        """Return the multiply-adds of each convolution and fully connected layer, by name."""
        return {
            layer.name: layer.multiply_adds(self.shapes[layer.input])
            for layer in self.layers
            if isinstance(layer, Conv | Linear)
        }


def _output_shape(layer: Layer, shapes: dict[str, Shape]) -> Shape:
    missing = [name for name in sources(layer) if name not in shapes]
    if missing:
        raise ArchitectureError(f"{layer.name}: nothing before it gives {', '.join(missing)}")
    if isinstance(layer, Concat | Sum):
        return layer.joined(tuple(shapes[name] for name in sources(layer)))
    found = layer.output_shape(shapes[layer.input])
    if isinstance(layer, Add | Gate):
        skip = shapes[layer.skip]
        if skip != ((found[0], 1, 1) if isinstance(layer, Gate) else found):
            raise ArchitectureError(f"{layer.name}: branch {found}, skip {skip}")
    return found


_ARRAYS = ["weight", "bias", "gamma", "beta", "mean", "variance", "slope", "values", "temperature"]


def _arrays(layer: Layer) -> Iterator[tuple[str, FloatArray]]:
    for name in _ARRAYS:
        value = getattr(layer, name, None)
        if value is not None:
            yield name, value
