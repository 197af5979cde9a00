"""AdaFace: the margin follows the quality of the picture, told by the length of its embedding.

Kim et al., "AdaFace: Quality Adaptive Margin for Face Recognition", CVPR 2022.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from examples.train_with_any_loss.losses.softmax import at_labels, class_weight, cosines


class AdaFace(nn.Module):
    """scale * (cos(angle - m z) - (m + m z)), z the length against its running mean, in -1..1."""

    batch_mean: Tensor
    batch_std: Tensor

    def __init__(
        self,
        size: int,
        people: int,
        scale: float = 64.0,
        margin: float = 0.4,
        spread: float = 0.333,
    ) -> None:
        super().__init__()
        self.weight = class_weight(people, size)
        self.scale, self.margin, self.spread = scale, margin, spread
        # The authors start at 20 and 100, and let both follow the batches by a hundredth.
        self.register_buffer("batch_mean", torch.tensor(20.0))
        self.register_buffer("batch_std", torch.tensor(100.0))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        lengths = embeddings.detach().norm(dim=1, keepdim=True).clamp(0.001, 100)
        if self.training:
            self.batch_mean.lerp_(lengths.mean(), 0.01)
            self.batch_std.lerp_(lengths.std(), 0.01)
        z = ((lengths - self.batch_mean) / (self.batch_std + 1e-3) * self.spread).clamp(-1, 1)
        cosine = cosines(embeddings, self.weight)
        target = adapt(at_labels(cosine, labels), z, self.margin)
        return functional.cross_entropy(
            self.scale * cosine.scatter(1, labels[:, None], target), labels
        )


def adapt(cosine: Tensor, z: Tensor, margin: float) -> Tensor:
    """Return cos(angle - margin z) - margin (1 + z): ArcFace at z = -1, CosFace at 0."""
    angle = cosine.clamp(-1 + 1e-3, 1 - 1e-3).acos()
    return (angle - margin * z).clamp(1e-3, math.pi - 1e-3).cos() - margin * (1 + z)
