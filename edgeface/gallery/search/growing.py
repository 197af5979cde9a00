"""Exact search that changes to short forms when there are many rows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from edgeface.gallery.search.base import Hit, SubjectArray
from edgeface.gallery.search.exact import ExactSearch
from edgeface.types import FloatArray

__all__ = ["GrowingSearch"]


class GrowingSearch:
    """A :class:`~edgeface.gallery.search.base.SearchIndex` that starts small. Always exact.

    Args:
        small: The index to start with, which holds the rows themselves.
        larger: Makes the index for many rows.
        from_rows: How many are many.
    """

    is_exact = True

    def __init__(
        self, small: ExactSearch, larger: Callable[[], ExactSearch], from_rows: int
    ) -> None:
        self._index = small
        self._larger: Callable[[], ExactSearch] | None = larger
        self._from_rows = from_rows
        self._lock = threading.RLock()

    @property
    def embedding_size(self) -> int:
        """The length of every row."""
        return self._index.embedding_size

    @property
    def description(self) -> str:
        """What searches now, in words for people."""
        return self._index.description

    def __len__(self) -> int:
        return len(self._index)

    def add(self, subjects: Sequence[int] | SubjectArray, rows: FloatArray) -> None:
        """Add ``rows``: see :meth:`SearchIndex.add`."""
        with self._lock:
            self._index.add(subjects, rows)
            if self._larger is not None and len(self._index) >= self._from_rows:
                self._change(self._larger)

    def remove(self, subject: int) -> int:
        """Take the rows of ``subject`` away: see :meth:`SearchIndex.remove`."""
        with self._lock:
            return self._index.remove(subject)

    def search_many(self, probes: FloatArray, k: int) -> list[list[Hit]]:
        """Return up to ``k`` subjects for each probe: see :meth:`SearchIndex.search_many`."""
        with self._lock:
            return self._index.search_many(probes, k)

    def close(self) -> None:
        """Free everything: see :meth:`SearchIndex.close`."""
        with self._lock:
            self._index.close()

    def _change(self, larger: Callable[[], ExactSearch]) -> None:
        index = larger()
        for subjects, rows in self._index.contents():
            index.add(subjects, rows)
        self._index.close()
        self._index, self._larger = index, None
