"""Exact search: one matrix product over every stored template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeface.types import Candidate, FloatArray

__all__ = ["TemplateMatrix", "is_usable"]

# As for edgeface.types.Template: float16 storage of a unit vector stays within 5e-4 of length 1.
_LENGTH_TOLERANCE = 1e-3


def is_usable(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """Return (n,) bool: which rows of (n, embedding size) are finite and of unit length."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        # A NaN or infinity in a row makes its length one; neither is near 1.
        return np.asarray(np.abs(lengths - 1.0) <= _LENGTH_TOLERANCE, np.bool_)


@dataclass(frozen=True, slots=True, eq=False)
class TemplateMatrix:
    """The templates of a gallery, ready for search.

    ``names`` are the subjects in ascending order. ``vectors`` is (n, embedding size) float32 of
    unit rows, those of one subject beside each other in the order of ``names``; ``starts`` is
    (subjects,) int64, the first row of each. ``quarantined`` counts the stored rows left out.
    """

    names: tuple[str, ...]
    vectors: FloatArray
    starts: npt.NDArray[np.int64]
    quarantined: int = 0

    @classmethod
    def build(
        cls, names: Sequence[str], vectors: FloatArray, *, quarantined: int = 0
    ) -> TemplateMatrix:
        """Return the matrix of ``vectors`` (n, embedding size), where row i is of ``names[i]``.

        Rows that are not finite or not of unit length are left out and counted: one NaN row
        would win every argmax.
        """
        usable = is_usable(vectors)
        order = sorted(np.flatnonzero(usable).tolist(), key=names.__getitem__)
        sorted_names = [names[i] for i in order]
        first = [i for i, name in enumerate(sorted_names) if name != sorted_names[i - 1] or i == 0]
        return cls(
            names=tuple(sorted_names[i] for i in first),
            vectors=_unit_rows(vectors[order]),
            starts=np.asarray(first, np.int64),
            quarantined=quarantined + int(len(usable) - usable.sum()),
        )

    def search(self, probes: FloatArray, k: int) -> list[list[Candidate]]:
        """Return up to ``k`` candidates for each row of ``probes`` (m, embedding size)."""
        if not self.names:
            return [[] for _ in probes]
        scores = self.vectors @ _unit_rows(probes).T
        best = np.maximum.reduceat(scores, self.starts, axis=0)
        # Rounding takes the product of two unit vectors up to 1e-7 beyond 1.
        return [self._top(column, k) for column in np.clip(best, -1.0, 1.0).T]

    def _top(self, scores: npt.NDArray[np.float32], k: int) -> list[Candidate]:
        order = np.argsort(-scores, kind="stable")[:k]
        return [Candidate(self.names[i], float(scores[i])) for i in order]


def _unit_rows(vectors: FloatArray) -> FloatArray:
    rows = vectors.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.ascontiguousarray(rows / lengths, dtype=np.float32)
