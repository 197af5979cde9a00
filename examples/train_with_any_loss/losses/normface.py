"""NormFace: softmax on cosines, with a learnt scale.

Wang et al., "NormFace: L2 Hypersphere Embedding for Face Verification", ACM MM 2017.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from examples.train_with_any_loss.losses.softmax import class_weight, cosines


class NormFace(nn.Module):
    """Cross-entropy of scale * cosine; without a scale it could not fall far enough."""

    def __init__(self, size: int, people: int, scale: float = 16.0) -> None:
        super().__init__()
        self.weight = class_weight(people, size)
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(self.scale * cosines(embeddings, self.weight), labels)
