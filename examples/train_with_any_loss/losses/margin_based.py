"""Margin-based loss with distance-weighted sampling of the negatives.

Wu et al., "Sampling Matters in Deep Embedding Learning", ICCV 2017, arXiv:1706.07567.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from examples.train_with_any_loss.losses.triplet import same_and_other, squared_distances


class MarginBased(nn.Module):
    """max(0, margin + y (d - beta)) with a learnt boundary beta: the paper's 0.2 and 1.2."""

    def __init__(self, size: int, people: int, margin: float = 0.2, beta: float = 1.2) -> None:
        super().__init__()
        self.size, self.margin = size, margin
        self.beta = nn.Parameter(torch.tensor(beta))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        distance = squared_distances(functional.normalize(embeddings)).clamp_min(1e-12).sqrt()
        mated, other = same_and_other(labels)
        anchor, positive = torch.nonzero(mated & other.any(dim=1)[:, None], as_tuple=True)
        if not len(anchor):
            return distance.sum() * 0
        chances = torch.where(other, sampling_weights(distance.detach(), self.size), 0.0)
        negative = torch.multinomial(chances[anchor], 1)[:, 0]
        return margin_loss(
            distance[anchor, positive], distance[anchor, negative], self.margin, self.beta
        )


def margin_loss(positive: Tensor, negative: Tensor, margin: float, beta: Tensor) -> Tensor:
    """Return the sum over pairs, over the number of pairs that violate their side."""
    terms = torch.cat(
        [functional.relu(margin + positive - beta), functional.relu(margin + beta - negative)]
    )
    return terms.sum() / max(1, int((terms > 0).sum()))


def sampling_weights(distance: Tensor, size: int, cutoff: float = 0.5) -> Tensor:
    """Return weights that undo how often distances occur between random points of a sphere.

    q(d) is proportional to d^(n-2) (1 - d^2/4)^((n-3)/2); distances below ``cutoff`` count as
    ``cutoff``, or noise of the nearest negatives would drown the rest.
    """
    clipped = distance.clamp(cutoff, math.sqrt(2) * 1.4)
    log_q = (size - 2) * clipped.log() + (size - 3) / 2 * (1 - clipped.square() / 4).log()
    return (log_q.min() - log_q).exp().clamp_min(1e-12)
