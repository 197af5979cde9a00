"""Triplet loss on embeddings of length 1, with semi-hard or batch-hard mining.

Schroff et al., "FaceNet", CVPR 2015 (semi-hard, squared distances, margin 0.2);
Hermans et al., "In Defense of the Triplet Loss", 2017, arXiv:1703.07737 (batch-hard).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class SemiHardTriplet(nn.Module):
    """Every mated pair with the hardest negative that is further than the positive."""

    def __init__(self, size: int = 0, people: int = 0, margin: float = 0.2) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        distance = squared_distances(functional.normalize(embeddings))
        mated, other = same_and_other(labels)
        anchor, positive = torch.nonzero(mated, as_tuple=True)
        to_positive = distance[anchor, positive][:, None]
        to_others = distance[anchor]
        further = other[anchor] & (to_others > to_positive)
        # Where every negative is nearer than the positive, the furthest of them is the least hard.
        semi_hard = torch.where(further, to_others, torch.inf).min(dim=1).values
        furthest = torch.where(other[anchor], to_others, -torch.inf).max(dim=1).values
        negative = torch.where(further.any(dim=1), semi_hard, furthest)
        usable = torch.isfinite(negative)
        loss = functional.relu(to_positive[:, 0] - negative + self.margin)[usable]
        return loss.sum() / max(1, len(loss))


class BatchHardTriplet(nn.Module):
    """Every face with its furthest positive and its nearest negative of the batch."""

    def __init__(self, size: int = 0, people: int = 0, margin: float = 0.2) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        squared = squared_distances(functional.normalize(embeddings))
        distance = squared.clamp_min(1e-12).sqrt()
        mated, other = same_and_other(labels)
        positive = torch.where(mated, distance, -torch.inf).max(dim=1).values
        negative = torch.where(other, distance, torch.inf).min(dim=1).values
        usable = torch.isfinite(positive) & torch.isfinite(negative)
        loss = functional.relu(positive - negative + self.margin)[usable]
        return loss.sum() / max(1, len(loss))


def squared_distances(embeddings: Tensor) -> Tensor:
    """Return (n, n) squared Euclidean distances of rows of length 1: 2 - 2 cosine."""
    return (2 - 2 * embeddings @ embeddings.T).clamp_min(0)


def same_and_other(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return (n, n) masks: pairs of one person, without the diagonal, and of two people."""
    same = labels[:, None] == labels[None]
    itself = torch.eye(len(labels), dtype=torch.bool)
    return same & ~itself, ~same
