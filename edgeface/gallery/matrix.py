"""The templates of a gallery by name, ready for search."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from edgeface.gallery.search.base import is_usable
from edgeface.gallery.search.selection import SearchOptions, open_search
from edgeface.types import Candidate, FloatArray

__all__ = ["TemplateMatrix", "is_usable"]


class TemplateMatrix:
    """Names and their templates over a :class:`~edgeface.gallery.search.SearchIndex`.

    Templates can be added and removed at any time; nothing is built again for that. Every method
    may be called from several threads.
    """

    def __init__(
        self,
        embedding_size: int,
        *,
        quarantined: int = 0,
        options: SearchOptions | None = None,
    ) -> None:
        self._index = open_search(embedding_size, options)
        self._quarantined = quarantined
        self._lock = threading.RLock()
        self._names: dict[int, str] = {}
        self._numbers: dict[str, int] = {}
        self._next = 0

    @classmethod
    def build(
        cls,
        names: Sequence[str],
        vectors: FloatArray,
        *,
        quarantined: int = 0,
        options: SearchOptions | None = None,
    ) -> TemplateMatrix:
        """Return the matrix of ``vectors`` (n, embedding size), where row i is of ``names[i]``."""
        options = options or SearchOptions(expected_rows=len(vectors))
        matrix = cls(vectors.shape[1], quarantined=quarantined, options=options)
        matrix.add(names, vectors)
        return matrix

    @property
    def names(self) -> tuple[str, ...]:
        """The subjects that have usable templates, in ascending order."""
        with self._lock:
            return tuple(sorted(self._numbers))

    @property
    def quarantined(self) -> int:
        """How many rows were left out because they were unusable."""
        return self._quarantined

    @property
    def description(self) -> str:
        """What searches, in words for people."""
        return self._index.description

    def __len__(self) -> int:
        return len(self._index)

    def add(self, names: Sequence[str], vectors: FloatArray) -> None:
        """Add (n, embedding size) ``vectors``, where row i is of ``names[i]``.

        Rows that are not finite or not of unit length are left out and counted: one NaN row
        would win every argmax.
        """
        usable = np.flatnonzero(is_usable(vectors))
        with self._lock:
            numbers = [self._number(names[i]) for i in usable.tolist()]
            rows = vectors if len(usable) == len(vectors) else vectors[usable]
            self._index.add(np.array(numbers, np.int64), rows)
            self._quarantined += len(vectors) - len(usable)

    def remove(self, name: str) -> int:
        """Take the rows of ``name`` away and return how many there were."""
        with self._lock:
            number = self._numbers.pop(name, None)
            if number is None:
                return 0
            del self._names[number]
            return self._index.remove(number)

    def search(self, probes: FloatArray, k: int) -> list[list[Candidate]]:
        """Return up to ``k`` candidates for each row of ``probes`` (m, embedding size).

        The score of a subject is that of its best row. Ties are ordered by name.
        """
        with self._lock:
            found = self._index.search_many(probes, k)
            named = [[Candidate(self._names[h.subject], h.score) for h in hits] for hits in found]
        return [sorted(row, key=lambda one: (-one.score, one.subject))[:k] for row in named]

    def close(self) -> None:
        """Free the memory and files of the search; may be called twice."""
        self._index.close()

    def _number(self, name: str) -> int:
        number = self._numbers.get(name)
        if number is None:
            number = self._next
            self._next += 1
            self._numbers[name] = number
            self._names[number] = name
        return number
