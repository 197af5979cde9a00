"""CosFace, also AM-Softmax: a margin subtracted from the cosine of the own class.

Wang et al., "CosFace", CVPR 2018; Wang et al., "Additive Margin Softmax", IEEE SPL 2018.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from examples.train_with_any_loss.losses.softmax import class_weight, cosines


class CosFace(nn.Module):
    """scale * (cosine - margin) for the own class; CosFace's scale 64 and margin 0.35."""

    def __init__(self, size: int, people: int, scale: float = 64.0, margin: float = 0.35) -> None:
        super().__init__()
        self.weight = class_weight(people, size)
        self.scale, self.margin = scale, margin

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        cosine = cosines(embeddings, self.weight)
        own = functional.one_hot(labels, len(self.weight))
        return functional.cross_entropy(self.scale * (cosine - self.margin * own), labels)


class AMSoftmax(CosFace):
    """The same loss as its other authors set it: scale 30, margin 0.35."""

    def __init__(self, size: int, people: int, scale: float = 30.0, margin: float = 0.35) -> None:
        super().__init__(size, people, scale, margin)
