"""EdgeNeXt (Maaz et al., 2022, arXiv:2206.10589), the backbone of EdgeFace (arXiv:2307.01838).

Four stages of blocks at a quarter of the picture and down. A block of convolution is a depthwise
one, LayerNorm, and two matrices over the channels with GELU between; the last block of the three
later stages mixes parts of the channels in turn and then all of them by cross-covariance attention.
Widths, heads, kernels and ranks are read from the tensors, and so is where positions are encoded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeface.errors import ArchitectureError
from edgeface.types import FloatArray, Size
from edgeface_export.architectures.network import (
    INPUT,
    Conv,
    Flatten,
    GlobalAveragePool,
    Layer,
    Linear,
    Network,
    Preprocessing,
)
from edgeface_export.architectures.operations import (
    ChannelNorm,
    Concat,
    CrossCovariance,
    Gelu,
    Shift,
    Slice,
    Sum,
)

__all__ = ["EdgeNextLayout"]

_CROP_SIZE = Size(112, 112)
_ENCODED_STAGE = 1
# Of PositionalEncodingFourier (EdgeNeXt's code): base of the wavelengths, and what keeps a
# division from zero.
_WAVELENGTH, _LEAST = 10000.0, 1e-6


@dataclass(frozen=True, slots=True)
class EdgeNextLayout:
    """Where timm keeps the parts; ``depths`` count the blocks of each stage.

    ``low_rank`` has each matrix, the last one too, as the product of two (EdgeFace's LoRaLin).
    """

    name: str
    trainer: str
    loss: str
    preprocessing: Preprocessing
    depths: tuple[int, int, int, int]
    low_rank: bool = False

    @property
    def architecture(self) -> str:
        """Name of the architecture."""
        return "EdgeFace (EdgeNeXt)"

    def tensor_names(self) -> tuple[str, ...]:
        """Return the names of the tensors that must be there, in the network's order."""
        names = [*_both("stem.0"), *_both("stem.1")]
        for stage, depth in enumerate(self.depths):
            if stage:
                names += [*_both(f"stages.{stage}.downsample.0")]
                names += [*_both(f"stages.{stage}.downsample.1")]
            for block in range(depth):
                names += self._block_names(stage, block)
        return (*names, *_both("head.norm"), *self._matrix_names("head.fc"))

    def _block_names(self, stage: int, block: int) -> Iterator[str]:
        at = f"stages.{stage}.blocks.{block}"
        yield f"{at}.gamma"
        if self._is_split(stage, block):
            yield f"{at}.gamma_xca"
            for k in range(stage if stage > 1 else 1):
                yield from _both(f"{at}.convs.{k}")
            if stage == _ENCODED_STAGE:
                yield from _both(f"{at}.pos_embd.token_projection")
            yield from _both(f"{at}.norm_xca")
            yield f"{at}.xca.temperature"
            yield from self._matrix_names(f"{at}.xca.qkv")
            yield from self._matrix_names(f"{at}.xca.proj")
        else:
            yield from _both(f"{at}.conv_dw")
        yield from _both(f"{at}.norm")
        yield from self._matrix_names(f"{at}.mlp.fc1")
        yield from self._matrix_names(f"{at}.mlp.fc2")

    def _is_split(self, stage: int, block: int) -> bool:
        return stage > 0 and block == self.depths[stage] - 1

    def _matrix_names(self, at: str) -> tuple[str, ...]:
        if not self.low_rank:
            return _both(at)
        return (f"{at}.linear1.weight", *_both(f"{at}.linear2"))

    def build(self, tensors: Mapping[str, FloatArray]) -> Network:
        """Return the network made of ``tensors``.

        Raises:
            ArchitectureError: A tensor has a shape that does not fit.
        """
        builder = _Builder(tensors, self.low_rank)
        x = builder.norm(builder.convolution(INPUT, "stem.0", stride=4), "stem.1")
        side = _CROP_SIZE.height_px // 4
        for stage, depth in enumerate(self.depths):
            if stage:
                at = f"stages.{stage}.downsample"
                x = builder.convolution(builder.norm(x, f"{at}.0"), f"{at}.1", stride=2)
                side = (side - 2) // 2 + 1
            for block in range(depth):
                at = f"stages.{stage}.blocks.{block}"
                split = self._is_split(stage, block)
                x = builder.split_block(x, at, side) if split else builder.conv_block(x, at)
        x = builder.add(GlobalAveragePool("head.global_pool", x))
        x = builder.add(Flatten("head.flatten", builder.norm(x, "head.norm")))
        builder.end(x, "head.fc")
        return Network(tuple(builder.layers), _CROP_SIZE, "arcface-112x112", self.preprocessing)


def _both(at: str) -> tuple[str, str]:
    return f"{at}.weight", f"{at}.bias"


class _Builder:
    def __init__(self, tensors: Mapping[str, FloatArray], low_rank: bool) -> None:
        self._tensors = tensors
        self._low_rank = low_rank
        self.layers: list[Layer] = []

    def add(self, layer: Layer) -> str:
        self.layers.append(layer)
        return layer.name

    def pair(self, at: str, *, axes: int) -> tuple[FloatArray, FloatArray]:
        weight, bias = self._tensors[f"{at}.weight"], self._tensors[f"{at}.bias"]
        if weight.ndim != axes or bias.shape != weight.shape[:1]:
            raise ArchitectureError(
                f"{at}: weight {weight.shape} must have {axes} axes and a bias of its length, "
                f"got {bias.shape}"
            )
        return weight, bias

    def convolution(self, x: str, at: str, *, stride: int = 1, depthwise: bool = False) -> str:
        weight, bias = self.pair(at, axes=4)
        padding = weight.shape[2] // 2 if depthwise else 0
        groups = len(weight) if depthwise else 1
        return self.add(Conv(at, x, weight, bias, stride, padding, groups))

    def norm(self, x: str, at: str) -> str:
        gamma, beta = self.pair(at, axes=1)
        return self.add(ChannelNorm(at, x, gamma, beta))

    def matrix(self, x: str, at: str, factors: FloatArray | None = None) -> str:
        """Append a matrix over the channels of each position, its outputs times ``factors``."""
        if self._low_rank:
            x = self.add(Conv(f"{at}.linear1", x, self._first(at)[:, :, None, None]))
            at = f"{at}.linear2"
        weight, bias = self.pair(at, axes=2)
        if factors is not None:
            if factors.shape != bias.shape:
                raise ArchitectureError(f"{at}: gamma {factors.shape} for {bias.shape} outputs")
            weight, bias = weight * factors[:, None], bias * factors
        return self.add(Conv(at, x, weight[:, :, None, None], bias))

    def end(self, x: str, at: str) -> None:
        """Append the matrix that makes the embedding."""
        if self._low_rank:
            x = self.add(Linear(f"{at}.linear1", x, self._first(at)))
            at = f"{at}.linear2"
        weight, bias = self.pair(at, axes=2)
        self.add(Linear(at, x, weight, bias))

    def _first(self, at: str) -> FloatArray:
        weight = self._tensors[f"{at}.linear1.weight"]
        if weight.ndim != 2:
            raise ArchitectureError(f"{at}.linear1.weight must have 2 axes, got {weight.shape}")
        return weight

    def conv_block(self, x: str, at: str) -> str:
        y = self.convolution(x, f"{at}.conv_dw", depthwise=True)
        return self._mixed(y, x, at)

    def split_block(self, x: str, at: str, side: int) -> str:
        y = self._scales(x, at)
        if f"{at}.pos_embd.token_projection.weight" in self._tensors:
            y = self.add(Shift(f"{at}.pos_embd", y, self._positions(at, side)))
        z = self.matrix(self.norm(y, f"{at}.norm_xca"), f"{at}.xca.qkv")
        temperature = self._tensors[f"{at}.xca.temperature"]
        z = self.add(CrossCovariance(f"{at}.xca", z, temperature))
        z = self.matrix(z, f"{at}.xca.proj", self._tensors[f"{at}.gamma_xca"])
        y = self.add(Sum(f"{at}.attended", z, (y,)))
        return self._mixed(y, x, at)

    def _mixed(self, y: str, x: str, at: str) -> str:
        """Append LayerNorm, the two matrices and the sum with ``x``, which came into the block."""
        y = self.matrix(self.norm(y, f"{at}.norm"), f"{at}.mlp.fc1")
        y = self.add(Gelu(f"{at}.mlp.act", y))
        y = self.matrix(y, f"{at}.mlp.fc2", self._tensors[f"{at}.gamma"])
        # Not Add: a few channels of what is summed are so large that one INT8 step for all of them
        # leaves nothing of the others (cosine to float 0.53), so sums stay in float.
        return self.add(Sum(f"{at}.add", y, (x,)))

    def _scales(self, x: str, at: str) -> str:
        """Append the depthwise convolutions of parts of the channels, each fed by the one before.

        The parts are those of ``torch.chunk``: of equal width, the last of what is left.
        """
        count = sum(f"{at}.convs.{k}.weight" in self._tensors for k in range(8))
        width = len(self._tensors[f"{at}.convs.0.weight"])
        channels = len(self._tensors[f"{at}.gamma"])
        starts = [k * width for k in range(count + 1)]
        cut = [
            self.add(Slice(f"{at}.part{k}", x, start, min(start + width, channels)))
            for k, start in enumerate(starts)
        ]
        made: list[str] = []
        for k in range(count):
            fed = cut[k]
            if made:
                fed = self.add(Sum(f"{at}.fed{k}", fed, (made[-1],)))
            made.append(self.convolution(fed, f"{at}.convs.{k}", depthwise=True))
        return self.add(Concat(f"{at}.scales", made[0], (*made[1:], cut[-1])))

    def _positions(self, at: str, side: int) -> FloatArray:
        weight, bias = self.pair(f"{at}.pos_embd.token_projection", axes=4)
        waves = _fourier(side, weight.shape[1] // 2)
        if weight.shape[1:] != (len(waves), 1, 1):
            raise ArchitectureError(f"{at}.pos_embd: a projection of shape {weight.shape}")
        projected = np.tensordot(weight[:, :, 0, 0].astype(np.float64), waves, axes=1)
        return np.asarray(projected + bias[:, None, None], np.float32)


def _fourier(side: int, count: int) -> npt.NDArray[np.float64]:
    """Return (2 count, side, side): sines and cosines of the row, then of the column."""
    places = np.arange(1, side + 1) / (side + _LEAST) * 2 * math.pi
    angles = places[:, None] / _WAVELENGTH ** (2 * (np.arange(count) // 2) / count)
    waves = np.where(np.arange(count) % 2 == 0, np.sin(angles), np.cos(angles)).T
    rows = np.broadcast_to(waves[:, :, None], (count, side, side))
    columns = np.broadcast_to(waves[:, None, :], (count, side, side))
    return np.concatenate([rows, columns])
