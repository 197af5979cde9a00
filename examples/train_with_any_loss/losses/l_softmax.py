"""L-Softmax: the angle to the own class is multiplied, lengths stay as they are.

Liu et al., "Large-Margin Softmax Loss for Convolutional Neural Networks", ICML 2016.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from examples.train_with_any_loss.losses.softmax import at_labels, class_weight, cosines


class LSoftmax(nn.Module):
    """|w| |x| psi(angle) for the own class, mixed with the plain logit by a falling share."""

    steps: Tensor

    def __init__(self, size: int, people: int, multiple: int = 2, share: float = 10.0) -> None:
        super().__init__()
        self.weight = class_weight(people, size)
        self.multiple, self.share = multiple, share
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        plain = functional.linear(embeddings, self.weight)
        lengths = embeddings.norm(dim=1, keepdim=True) * self.weight.norm(dim=1)[labels, None]
        own = at_labels(cosines(embeddings, self.weight), labels)
        part = plain_share(int(self.steps), self.share)
        target = lengths * (part * own + psi(own, self.multiple)) / (1 + part)
        if self.training:
            self.steps += 1
        return functional.cross_entropy(plain.scatter(1, labels[:, None], target), labels)


def psi(cosine: Tensor, multiple: int) -> Tensor:
    """Return (-1)^k cos(m a) - 2 k for a in [k pi/m, (k+1) pi/m]: falls from 1 to 1 - 2 m."""
    angle = cosine.clamp(-1 + 1e-6, 1 - 1e-6).acos()
    k = (angle.detach() * multiple / torch.pi).floor()
    return (1 - 2 * (k % 2)) * (multiple * angle).cos() - 2 * k


def plain_share(step: int, base: float, lowest: float = 5.0, speed: float = 0.12) -> float:
    """Return the share of the plain logit, which falls as training goes on (the authors' rule)."""
    return max(lowest, base / (1 + speed * step))
