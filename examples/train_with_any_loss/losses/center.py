"""Softmax with center loss: embeddings are drawn to a moving centre of their person.

Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition", ECCV 2016.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class SoftmaxWithCenters(nn.Module):
    """L = L_softmax + weight / 2 * sum |x - c|^2 / n; the paper's weight 0.003, rate 0.5."""

    centers: Tensor

    def __init__(self, size: int, people: int, weight: float = 0.003, rate: float = 0.5) -> None:
        super().__init__()
        self.classifier = nn.Linear(size, people)
        self.register_buffer("centers", torch.zeros(people, size))
        self.weight, self.rate = weight, rate

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        identity = functional.cross_entropy(self.classifier(embeddings), labels)
        away = (embeddings - self.centers[labels]).square().sum(dim=1).mean() / 2
        if self.training:
            self.move(embeddings.detach(), labels)
        return identity + self.weight * away

    @torch.no_grad()
    def move(self, embeddings: Tensor, labels: Tensor) -> None:
        """Move each seen centre by the paper's equation 4: the mean with one more in its count."""
        count = torch.zeros(len(self.centers)).index_add_(0, labels, torch.ones(len(labels)))
        total = torch.zeros_like(self.centers).index_add_(
            0, labels, self.centers[labels] - embeddings
        )
        self.centers -= self.rate * total / (1 + count[:, None])
