"""Softmax cross-entropy over the people of the training set, as DeepFace and DeepID began.

Taigman et al., "DeepFace: Closing the Gap to Human-Level Performance", CVPR 2014.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Softmax(nn.Module):
    """A linear classifier on embeddings of any length; compared by cosine afterwards."""

    def __init__(self, size: int, people: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(size, people)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(self.classifier(embeddings), labels)


def cosines(embeddings: Tensor, weight: Tensor) -> Tensor:
    """Return (n, people) cosines between embeddings and the rows of ``weight``."""
    return functional.linear(functional.normalize(embeddings), functional.normalize(weight))


def class_weight(people: int, size: int) -> nn.Parameter:
    """Return the (people, size) rows that margin losses compare embeddings with."""
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(people, size)))


def at_labels(values: Tensor, labels: Tensor) -> Tensor:
    """Return the entry of each row at its label, as a column."""
    return values.gather(1, labels[:, None])
