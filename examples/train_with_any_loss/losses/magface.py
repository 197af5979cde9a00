"""MagFace: the length of an embedding is made to tell the quality of the picture.

Meng et al., "MagFace: A Universal Representation for Face Recognition and Quality Assessment",
CVPR 2021. The length, cut off when the embedding is normalised, is worth keeping as a quality.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from examples.train_with_any_loss.losses.arcface import add_angle
from examples.train_with_any_loss.losses.softmax import at_labels, class_weight, cosines

LEAST, MOST = 10.0, 110.0
LEAST_MARGIN, MOST_MARGIN = 0.45, 0.8


class MagFace(nn.Module):
    """ArcFace with a margin that grows with the length, and a pull towards great length."""

    def __init__(self, size: int, people: int, scale: float = 64.0, pull: float = 35.0) -> None:
        super().__init__()
        self.weight = class_weight(people, size)
        self.scale, self.pull = scale, pull

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        lengths = embeddings.norm(dim=1, keepdim=True).clamp(LEAST, MOST)
        cosine = cosines(embeddings, self.weight)
        target = add_angle(at_labels(cosine, labels), margin_of(lengths))
        identity = functional.cross_entropy(
            self.scale * cosine.scatter(1, labels[:, None], target), labels
        )
        return identity + self.pull * regulariser(lengths).mean()


def margin_of(lengths: Tensor) -> Tensor:
    """Return the margin, which grows linearly with the length."""
    slope = (MOST_MARGIN - LEAST_MARGIN) / (MOST - LEAST)
    return slope * (lengths - LEAST) + LEAST_MARGIN


def regulariser(lengths: Tensor) -> Tensor:
    """Return g(a) = 1 / a + a / u^2, least at the greatest length u."""
    return 1 / lengths + lengths / MOST**2
