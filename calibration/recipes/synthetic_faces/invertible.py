"""A described network as PyTorch code that tells how far it is from what BatchNorm remembers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch  # noqa: TID253 - the recipe is a script of its own, nothing imports it
import torch.nn.functional as functional  # noqa: TID253
from torch import Tensor  # noqa: TID253

from edgeface_export.architectures.network import (
    INPUT,
    Add,
    BatchNorm,
    Conv,
    Flatten,
    Linear,
    Network,
    PRelu,
    Relu,
)
from edgeface_export.graph.emit import fold

__all__ = ["InvertibleNetwork", "MomentsOf", "WantedMoments"]


class MomentsOf(torch.autograd.Function):  # type: ignore[misc]
    """Returns its input untouched, and mean and variance of each channel, in float32.

    Autograd's own var_mean takes half of the time of an iteration; this one pass each way.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (x, mean, variance) for (n, channels, height, width) or (n, channels) x."""
        rows = x.movedim(1, -1).reshape(-1, x.shape[1])
        mean = rows.sum(0) / len(rows)
        variance = (rows * rows).sum(0) / len(rows) - mean * mean
        ctx.save_for_backward(x, mean)
        ctx.rows = len(rows)
        return x.view_as(x), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Return the gradient of x from those of the three results."""
        of_x, of_mean, of_variance = gradients
        x, mean = ctx.saved_tensors
        scale = 2 * of_variance / ctx.rows
        shift = of_mean / ctx.rows - scale * mean
        form = (-1,) + (1,) * (x.ndim - 2)
        return torch.addcmul(of_x, x, scale.reshape(form)).add_(shift.reshape(form))


class InvertibleNetwork:
    """A network in PyTorch, layer by layer from its description, that tells its divergence.

    BatchNorm is folded into the layer before it; what it knew about its input is kept as the
    moments that the folded layer's output should have.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._layers = fold(network.layers)
        self._weights = {
            layer.name: (_weight(layer), None if layer.bias is None else torch.tensor(layer.bias))
            for layer in self._layers
            if isinstance(layer, Conv | Linear)
        }
        self._slopes = {
            layer.name: torch.tensor(layer.slope)
            for layer in self._layers
            if isinstance(layer, PRelu)
        }
        self.wanted = _wanted_moments(network)
        spec = network.preprocessing
        self._mean = torch.tensor(spec.mean).reshape(1, 3, 1, 1)
        self._scale = torch.tensor(spec.scale).reshape(1, 3, 1, 1)

    def __call__(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return ((n, size) embeddings, mean divergence) for (n, 3, 112, 112) RGB of 0..255."""
        side = (pictures.shape[3] - self.network.crop_size.width_px) // 2
        x = pictures[..., side : pictures.shape[3] - side]
        x = x if self.network.preprocessing.colour_order == "RGB" else x.flip(1)
        x = ((x - self._mean) / self._scale).contiguous(memory_format=torch.channels_last)
        at, divergences = {INPUT: x}, []
        for layer in self._layers:
            y = self._forward(layer, at)
            if layer.name in self.wanted:
                y, mean, variance = MomentsOf.apply(y)
                divergences.append(self.wanted[layer.name].divergence(mean, variance))
            at[layer.name] = y
        return at[self._layers[-1].name], torch.stack(divergences).mean()

    def _forward(self, layer: Any, at: Mapping[str, Tensor]) -> Tensor:
        x = at[layer.input]
        match layer:
            case Conv():
                weight, bias = self._weights[layer.name]
                return functional.conv2d(
                    x, weight, bias, layer.stride, layer.padding, 1, layer.groups
                )
            case Linear():
                return functional.linear(x, *self._weights[layer.name])
            case PRelu():
                return functional.prelu(x, self._slopes[layer.name])
            case Relu():
                # Not clamp: its gradient is three times slower.
                return (
                    x.relu() if layer.ceiling is None else functional.hardtanh(x, 0, layer.ceiling)
                )
            case Add():
                return x + at[layer.skip]
            case Flatten():
                return x.flatten(1)
            case _:
                raise TypeError(f"no forward for {type(layer).__name__}")


@dataclass(frozen=True, slots=True, eq=False)
class WantedMoments:
    """Mean and variance of each channel while training; ``floor`` is BatchNorm's epsilon."""

    mean: Tensor
    variance: Tensor
    floor: Tensor

    def divergence(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the Kullback-Leibler divergence of two Gaussians, the mean over channels.

        Unlike a difference of the moments it asks every channel of every layer for the same
        relative agreement, whatever its scale.
        """
        whole = self.variance + self.floor
        ratio = (variance.clamp(min=0) + self.floor) / whole
        off = (mean - self.mean).square() / whole
        return 0.5 * (ratio - 1 - ratio.log() + off).mean()


def _weight(layer: Conv | Linear) -> Tensor:
    weight = torch.tensor(layer.weight)
    return weight.contiguous(memory_format=torch.channels_last) if weight.ndim == 4 else weight


def _wanted_moments(network: Network) -> dict[str, WantedMoments]:
    """Return the moments that each folded layer's output had while training, by layer."""
    wanted = {}
    for layer in network.layers:
        if isinstance(layer, BatchNorm):
            scale, _ = layer.scale_and_shift()
            # A channel that was pruned to nothing has scale 0 and is equal to anything.
            square = np.maximum(scale**2, 1e-12)
            values = (layer.beta, square * layer.variance, square * layer.epsilon)
            wanted[layer.input] = WantedMoments(
                *(torch.tensor(np.asarray(value, np.float32)) for value in values)
            )
    return wanted
