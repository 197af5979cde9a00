"""Makes pictures of faces that do not exist, out of a recogniser's BatchNorm statistics.

DeepInversion (Yin et al., "Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion",
CVPR 2020) for face embeddings: starting from a drawn oval, pictures are moved by gradient descent
until the statistics that they cause at every BatchNorm are those that the layer kept while it was
trained. No face image is read, and no class weight: the result is nobody.

    python invert.py CHECKPOINT --output DIR [--count 256] [--steps 200] [--seed 0]

An interrupted run goes on where it stopped when it is started again with the same arguments.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import struct
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
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
from edgeface_export.architectures.recognition import recognise
from edgeface_export.checkpoints import read_checkpoint
from edgeface_export.graph.emit import fold

Pictures = npt.NDArray[np.uint8]
LEVELS_PX = (7, 14, 28, 56, 112)
"""Sides of the pyramid whose sum is a picture: coarse levels move whole regions at once, which
gives the falling spectrum of natural images that single pixels never find."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InversionOptions:
    """How pictures are made.

    ``chunk`` pictures are optimised together, and their common statistics are compared.
    ``step_size`` is Adam's, falling to zero along a cosine. Weights are relative to the mean
    divergence of a BatchNorm, which starts near 5 and ends near 0.1: ``variation`` bounds the
    differences of neighbouring pixels, ``distance`` the way from the drawn start, ``symmetry`` the
    difference of left and right at a quarter of the resolution, ``spread`` the likeness of
    different pictures' embeddings, ``identity`` the distance to a random embedding of each.
    """

    count: int = 256
    chunk: int = 32
    steps: int = 200
    step_size: float = 0.06
    variation: float = 0.02
    distance: float = 0.002
    symmetry: float = 0.05
    spread: float = 1.0
    identity: float = 0.0
    seed: int = 0


class MomentsOf(torch.autograd.Function):
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
        self.embedding_layer = next(
            layer.name for layer in reversed(self._layers) if isinstance(layer, Conv | Linear)
        )
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
                return x.relu() if layer.ceiling is None else x.clamp(0.0, layer.ceiling)
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


def drawn_faces(count: int, generator: torch.Generator) -> Tensor:
    """Return (count, 3, 112, 112) drawings of 0..1: an oval with eyes, brows, nose and mouth.

    The features lie where the alignment template has them. Colours, light and sizes are random.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *(shape or (1, 1, 1)), generator=generator)

    y, x = torch.meshgrid(torch.arange(112.0), torch.arange(112.0), indexing="ij")

    def spot(centre: tuple[float, float], radius: tuple[float, float], power: int = 2) -> Tensor:
        across = ((x - centre[0] - shift[:, 0]) / (radius[0] * width)).abs() ** power
        down = ((y - centre[1] - shift[:, 1]) / (radius[1] * width)).abs() ** power
        return torch.exp(-(across + down))

    shift = torch.randn(count, 2, 1, 1, 1, generator=generator) * 1.5
    width = uniform(0.9, 1.1)
    tone = uniform(0.25, 0.85)
    skin = tone * torch.cat([uniform(1.0, 1.1), uniform(0.75, 0.85), uniform(0.6, 0.75)], 1)
    behind = uniform(0.05, 0.8, 3, 1, 1) * 0.5 + uniform(0.05, 0.8) * 0.5
    noise = torch.randn(count, 3, 6, 6, generator=generator) * 0.12
    picture = behind + functional.interpolate(noise, (112, 112), mode="bicubic")
    hair = uniform(0.02, 0.45) * torch.cat([uniform(1.0, 1.1), uniform(0.75, 0.9), uniform(0.5, 0.8)], 1)
    picture = torch.lerp(picture, hair.expand_as(picture), spot((56, 38), (50, 56), 6))
    face = spot((56, 66), (43, 58), 6)
    light = 1 + uniform(-0.25, 0.25) * (x - 56) / 56 + uniform(-0.15, 0.15) * (y - 56) / 56
    picture = torch.lerp(picture, skin * light, face)
    for eye_x, eye_y in ((38.3, 51.7), (73.5, 51.5)):
        picture = picture * (1 - 0.6 * spot((eye_x, eye_y), (6, 3.5)))
        picture = picture * (1 - uniform(0.1, 0.5) * spot((eye_x, eye_y - 10), (11, 3), 4))
    picture = picture * (1 - 0.3 * spot((56, 76), (8, 3)))
    mouth = uniform(0.1, 0.4) * spot((56, 92.3), (14, 4), 4)
    picture = picture * (1 - mouth * torch.tensor([0.4, 1.0, 0.9]).reshape(1, 3, 1, 1))
    return picture.clamp(0.02, 0.98)


class Chunk:
    """Pictures that are optimised together: a drawn start plus a pyramid of changes, as logits."""

    def __init__(self, index: int, options: InversionOptions) -> None:
        self.options = options
        self.seed = options.seed * 100_003 + index
        generator = torch.Generator().manual_seed(self.seed)
        count = min(options.chunk, options.count - index * options.chunk)
        self.start = torch.logit(drawn_faces(count, generator))
        self.levels = [
            (torch.randn(count, 3, side, side, generator=generator) * 0.05).requires_grad_()
            for side in LEVELS_PX
        ]
        self.targets = torch.randn(count, 1024, generator=generator)
        self.optimiser = torch.optim.Adam(self.levels, lr=options.step_size, betas=(0.8, 0.99))
        self.step = 0

    def logits(self) -> Tensor:
        """Return (n, 3, 112, 112) unbounded values whose sigmoid is the picture."""
        parts = [
            functional.interpolate(level, (112, 112), mode="bilinear", align_corners=False)
            for level in self.levels
        ]
        return self.start + torch.stack(parts).sum(0)

    def pictures(self) -> Pictures:
        """Return the pictures as (n, 112, 112, 3) uint8 RGB."""
        with torch.no_grad():
            values = (torch.sigmoid(self.logits()) * 255).round().to(torch.uint8)
        return np.ascontiguousarray(values.permute(0, 2, 3, 1).numpy())

    def advance(self, networks: Sequence[InvertibleNetwork]) -> dict[str, float]:
        """Move the pictures one step and return the terms of the loss before it."""
        self.optimiser.param_groups[0]["lr"] = (
            self.options.step_size * 0.5 * (1 + math.cos(math.pi * self.step / self.options.steps))
        )
        self.optimiser.zero_grad()
        terms = self._terms(networks)
        total = torch.stack(list(terms.values())).sum()
        total.backward()
        self.optimiser.step()
        self.step += 1
        return {"loss": float(total), **{name: float(term) for name, term in terms.items()}}

    def _terms(self, networks: Sequence[InvertibleNetwork]) -> dict[str, Tensor]:
        options = self.options
        logits = self.logits()
        values = torch.sigmoid(logits)
        small = functional.avg_pool2d(values, 4)
        terms = {
            "variation": options.variation * _variation(values * 255),
            "distance": options.distance * (logits - self.start).square().mean(),
            "symmetry": options.symmetry * (small - small.flip(3)).square().mean() * 100,
        }
        for number, network in enumerate(networks):
            features, divergence = network(self._jittered(values) * 255)
            unit = functional.normalize(features)
            targets = functional.normalize(self._target_features(network, features.shape[1]))
            terms[f"divergence{number}"] = divergence
            terms[f"spread{number}"] = options.spread * _likeness(unit)
            terms[f"identity{number}"] = options.identity * (1 - (unit * targets).sum(1)).mean()
        return terms

    def _jittered(self, values: Tensor) -> Tensor:
        """Return the pictures mirrored every other time and shifted by at most one pixel."""
        generator = np.random.default_rng((self.seed, self.step))
        rows, columns = generator.integers(-1, 2, 2)
        values = values.flip(3) if generator.random() < 0.5 else values
        return torch.roll(values, (int(rows), int(columns)), (2, 3))

    def _target_features(self, network: InvertibleNetwork, size: int) -> Tensor:
        """Return a random embedding for each picture, distributed as the last BatchNorm knew."""
        moments = network.wanted.get(network.embedding_layer)
        targets = self.targets[:, :size]
        return targets if moments is None else moments.mean + targets * moments.variance.sqrt()

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {
            "levels": [level.detach() for level in self.levels],
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Take up the state of an interrupted run."""
        with torch.no_grad():
            for level, saved in zip(self.levels, state["levels"], strict=True):
                level.copy_(saved)
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]


def _variation(values: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbouring pixels, on the 0..255 scale."""
    across = (values[..., 1:] - values[..., :-1]).abs().mean()
    return across + (values[..., 1:, :] - values[..., :-1, :]).abs().mean()


def _likeness(unit: Tensor) -> Tensor:
    """Return the mean square of the cosine of different rows: 1/size for random directions."""
    cosines = unit @ unit.T
    others = cosines.numel() - len(unit)
    return (cosines.square().sum() - len(unit)) / max(others, 1)
