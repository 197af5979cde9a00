"""The seam for searches among stored rows, and the checks that every one of them makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from edgeface.errors import InvalidInputError
from edgeface.types import FloatArray

__all__ = [
    "Hit",
    "SearchIndex",
    "SubjectArray",
    "as_subjects",
    "checked_probes",
    "checked_rows",
    "is_usable",
]

SubjectArray: TypeAlias = npt.NDArray[np.int64]
# As for edgeface.types.Template: float16 storage of a unit vector stays within 5e-4 of length 1.
_LENGTH_TOLERANCE = 1e-3
# Rows that are brought to float64 at once: 32 MB at 512 numbers.
_BLOCK_ROWS = 8192


@dataclass(frozen=True, slots=True)
class Hit:
    """A subject found, by its number; ``score`` is the cosine of its best row, in -1..1."""

    subject: int
    score: float


class SearchIndex(Protocol):
    """Rows of unit length, each of a subject, and the search among them.

    Subjects are numbers of the caller's choice, several rows may have one. Names are the caller's
    business: an index holds none. Every method may be called from several threads.
    """

    @property
    def embedding_size(self) -> int:
        """The length of every row."""
        ...

    @property
    def is_exact(self) -> bool:
        """Whether every answer is that of comparing all rows; else most are."""
        ...

    @property
    def description(self) -> str:
        """What searches and where the rows are, in words for people."""
        ...

    def __len__(self) -> int:
        """Return how many rows there are."""
        ...

    def add(self, subjects: Sequence[int] | SubjectArray, rows: FloatArray) -> None:
        """Add (n, embedding size) ``rows``; row i belongs to ``subjects[i]``.

        Raises:
            InvalidInputError: A row is not finite or not of length 1 within 1e-3, the shape is
                another, or the lengths differ. Nothing is added then.
        """
        ...

    def remove(self, subject: int) -> int:
        """Take every row of ``subject`` away, overwrite it, and return how many there were."""
        ...

    def search_many(self, probes: FloatArray, k: int) -> list[list[Hit]]:
        """Return up to ``k`` subjects for each of (m, embedding size) ``probes``, best first.

        Subjects whose score equals that of the last one follow it, so that the caller can order
        ties by its own rule; ties are ordered by number. An empty index finds nobody.

        Raises:
            InvalidInputError: A probe is not finite or not of length 1 within 1e-3, the shape is
                another, or ``k`` is below 1.
        """
        ...

    def close(self) -> None:
        """Free the memory and files of the index; may be called twice."""
        ...


def is_usable(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """Return (n,) bool: which rows of (n, embedding size) are finite and of unit length."""
    return _scaled(vectors)[1]


def as_subjects(subjects: Sequence[int] | SubjectArray, n_rows: int) -> SubjectArray:
    """Return ``subjects`` as (n_rows,) int64.

    Raises:
        InvalidInputError: They are not whole numbers, or not as many as there are rows.
    """
    numbers = np.asarray(subjects)
    if numbers.shape != (n_rows,) or (n_rows and numbers.dtype.kind not in "iu"):
        raise InvalidInputError(
            f"wanted a whole number for each of {n_rows} rows, got shape {numbers.shape} of "
            f"{numbers.dtype}"
        )
    return numbers.astype(np.int64)


def checked_rows(rows: object, embedding_size: int) -> FloatArray:
    """Return ``rows`` as (n, embedding size) float32 of length 1.

    Raises:
        InvalidInputError: They are not, within 1e-3.
    """
    return _checked("rows", rows, embedding_size)


def checked_probes(probes: object, embedding_size: int, k: int) -> FloatArray:
    """Return ``probes`` as (m, embedding size) float32 of length 1.

    Raises:
        InvalidInputError: They are not, within 1e-3, or ``k`` is below 1.
    """
    if k < 1:
        raise InvalidInputError(f"k must be at least 1, got {k}")
    return _checked("probes", probes, embedding_size)


def _checked(name: str, values: object, embedding_size: int) -> FloatArray:
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
        got = f"{type(values).__name__} {getattr(values, 'dtype', '')}".strip()
        raise InvalidInputError(f"{name} must be an array of floating-point numbers, got {got}")
    if values.ndim != 2 or values.shape[1] != embedding_size:
        raise InvalidInputError(f"{name} must have shape (n, {embedding_size}), got {values.shape}")
    rows, usable = _scaled(values)
    if not usable.all():
        bad = np.flatnonzero(~usable)
        raise InvalidInputError(
            f"{len(bad)} of {len(values)} {name} are not finite or not of length 1, the first is "
            f"number {bad[0]}; leave them out, or make the templates again"
        )
    return rows


def _scaled(vectors: npt.NDArray[np.floating]) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Return (n, d) ``vectors`` as float32 of length 1 to its last bit, and which of them may be.

    A row that may not, because it is not finite or not of length 1 within the tolerance, is what
    it is.
    """
    rows = np.empty(vectors.shape, np.float32)
    usable = np.empty(len(vectors), np.bool_)
    for start in range(0, len(vectors), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        exact = vectors[block].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            lengths = np.sqrt(np.einsum("ij,ij->i", exact, exact))
            # A NaN or infinity in a row makes its length one; neither is near 1.
            usable[block] = np.abs(lengths - 1.0) <= _LENGTH_TOLERANCE
            rows[block] = exact / lengths[:, None]
    return rows, usable
