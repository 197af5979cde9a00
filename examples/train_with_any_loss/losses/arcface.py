"""ArcFace: a margin added to the angle of the own class; and its sub-center form.

Deng et al., "ArcFace", CVPR 2019; Deng et al., "Sub-center ArcFace", ECCV 2020.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from examples.train_with_any_loss.losses.softmax import at_labels, class_weight, cosines


class ArcFace(nn.Module):
    """scale * cos(angle + margin) for the own class: the paper's 64 and 0.5."""

    def __init__(self, size: int, people: int, scale: float = 64.0, margin: float = 0.5) -> None:
        super().__init__()
        self.weight = class_weight(people, size)
        self.scale, self.margin = scale, margin

    def cosines(self, embeddings: Tensor) -> Tensor:
        return cosines(embeddings, self.weight)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        cosine = self.cosines(embeddings)
        target = add_angle(at_labels(cosine, labels), self.margin)
        return functional.cross_entropy(
            self.scale * cosine.scatter(1, labels[:, None], target), labels
        )


class SubCenterArcFace(ArcFace):
    """Several rows for each person, the nearest counts: wrong labels gather elsewhere."""

    def __init__(
        self, size: int, people: int, scale: float = 64.0, margin: float = 0.5, rows: int = 3
    ) -> None:
        super().__init__(size, people * rows, scale, margin)
        self.rows = rows

    def cosines(self, embeddings: Tensor) -> Tensor:
        every = super().cosines(embeddings)
        return torch.amax(every.unflatten(1, (-1, self.rows)), dim=2)


def add_angle(cosine: Tensor, margin: float | Tensor) -> Tensor:
    """Return cos(angle + margin); beyond pi, where that would rise again, a falling line.

    The line is the authors': cosine - margin * sin(margin).
    """
    margin = torch.as_tensor(margin)
    sine = (1 - cosine.square()).clamp_min(1e-12).sqrt()
    turned = cosine * margin.cos() - sine * margin.sin()
    return torch.where(cosine > (math.pi - margin).cos(), turned, cosine - margin * margin.sin())
