"""SphereFace (A-Softmax): class rows of length 1, the angle to the own class multiplied.

Liu et al., "SphereFace: Deep Hypersphere Embedding for Face Recognition", CVPR 2017.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from examples.train_with_any_loss.losses.l_softmax import plain_share, psi
from examples.train_with_any_loss.losses.softmax import at_labels, class_weight, cosines


class SphereFace(nn.Module):
    """|x| psi(angle) with multiple 4 and the paper's annealing from 1000 down to 5."""

    steps: Tensor

    def __init__(self, size: int, people: int, multiple: int = 4, share: float = 1000.0) -> None:
        super().__init__()
        self.weight = class_weight(people, size)
        self.multiple, self.share = multiple, share
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        lengths = embeddings.norm(dim=1, keepdim=True)
        cosine = cosines(embeddings, self.weight)
        own = at_labels(cosine, labels)
        part = plain_share(int(self.steps), self.share)
        target = (part * own + psi(own, self.multiple)) / (1 + part)
        if self.training:
            self.steps += 1
        logits = lengths * cosine.scatter(1, labels[:, None], target)
        return functional.cross_entropy(logits, labels)
