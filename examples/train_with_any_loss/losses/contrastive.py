"""DeepID2: identification by softmax, verification by the contrastive loss, together.

Sun et al., "Deep Learning Face Representation by Joint Identification-Verification", NIPS 2014;
the pair loss is Hadsell et al., CVPR 2006.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Contrastive(nn.Module):
    """Cross-entropy plus ``weight`` times the contrastive loss of all pairs of the batch."""

    def __init__(self, size: int, people: int, margin: float = 1.0, weight: float = 0.05) -> None:
        super().__init__()
        self.classifier = nn.Linear(size, people)
        self.margin, self.weight = margin, weight

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        identity = functional.cross_entropy(self.classifier(embeddings), labels)
        return identity + self.weight * contrastive(embeddings, labels, self.margin)


def contrastive(embeddings: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Return the mean over pairs: d^2 / 2 of mated ones, max(0, margin - d)^2 / 2 of others."""
    first, second = torch.triu_indices(len(labels), len(labels), offset=1)
    distance = (embeddings[first] - embeddings[second]).square().sum(dim=1).clamp_min(1e-12).sqrt()
    mated = labels[first] == labels[second]
    pairs = torch.where(mated, distance, functional.relu(margin - distance))
    return pairs.square().mean() / 2
