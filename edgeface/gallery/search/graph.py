"""Approximate search: usearch's graph of neighbours over int8 rows, then the originals."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeface.errors import InvalidInputError, MissingDependencyError
from edgeface.gallery.search.base import (
    Hit,
    SubjectArray,
    as_subjects,
    checked_probes,
    checked_rows,
)
from edgeface.gallery.search.ranking import best_hits, most_rows_of_one
from edgeface.gallery.search.rows import RowStore
from edgeface.gallery.search.table import RowTable
from edgeface.types import FloatArray

__all__ = ["GraphSearch", "effort_for"]

# Links of a row, usearch's default, and rows compared for them when it is added: twice usearch's,
# which takes twice as long and finds as many with half the effort: tests/benchmarks/test_search.py.
_CONNECTIVITY, _EFFORT_OF_ADDING = 16, 256
# Rows compared for an answer that found 99 of 100, at 100,000 and at 1,000,000 rows:
# tests/benchmarks/test_search.py.
_EFFORT, _EFFORT_ROWS, _EFFORT_GROWTH = 128, 100_000, 0.6
# Rows of the graph whose originals decide, for each row that could be wanted.
_DECIDED_PER_ROW = 4
_MIN_DECIDED = 8
_ADDED_ROWS = 8192
# The numbers of a unit row of d are 1 / sqrt(d) large on average; what is over 5.66 times as large
# (one of a hundred million, where they are normally distributed) is cut off. One scale for all
# rows lets the graph compare whole numbers.
_CUT_OFF = 5.66


class GraphSearch:
    """A :class:`~edgeface.gallery.search.base.SearchIndex` that compares few rows, and may miss.

    How often it misses depends on the rows and on ``effort``: measure it with
    ``tests/benchmarks/test_search.py`` on rows like yours. Scores are exact, whoever is found.

    Args:
        embedding_size: The length of a row.
        store: Keeps the originals.
        effort: Rows compared for an answer; None takes more as the rows grow.

    Raises:
        MissingDependencyError: usearch is not installed.
    """

    is_exact = False

    def __init__(self, embedding_size: int, store: RowStore, *, effort: int | None = None) -> None:
        self._size = embedding_size
        self._store = store
        self._steps = 127.0 / min(1.0, _CUT_OFF / embedding_size**0.5)
        self._fixed_effort = effort
        self._lock = threading.RLock()
        self._graph = _graph(embedding_size)
        self._table = RowTable(
            {"key": (np.int64, 0), "subject": (np.int64, 0), "slot": (np.int64, 0)}
        )
        self._by_key = _KeyMap()
        self._most_rows: int | None = 1

    @property
    def embedding_size(self) -> int:
        """The length of every row."""
        return self._size

    @property
    def description(self) -> str:
        """What searches and where the rows are, in words for people."""
        where = type(self._store).__name__
        return f"approximate, graph of effort {self.effort}, originals in {where}"

    @property
    def effort(self) -> int:
        """Rows compared for an answer; may be changed at any time."""
        if self._fixed_effort is not None:
            return self._fixed_effort
        return effort_for(len(self._table))

    @effort.setter
    def effort(self, effort: int) -> None:
        if effort < 1:
            raise InvalidInputError(f"the effort must be at least 1, got {effort}")
        with self._lock:
            self._fixed_effort = effort

    def __len__(self) -> int:
        return len(self._table)

    def add(self, subjects: Sequence[int] | SubjectArray, rows: FloatArray) -> None:
        """Add ``rows``: see :meth:`SearchIndex.add`."""
        usable = checked_rows(rows, self._size)
        numbers = as_subjects(subjects, len(usable))
        with self._lock:
            slots = self._store.append(usable)
            keys = self._by_key.add(numbers, slots)
            self._table.append(key=keys, subject=numbers, slot=slots)
            for start in range(0, len(usable), _ADDED_ROWS):
                part = slice(start, start + _ADDED_ROWS)
                self._graph.add(keys[part].astype(np.uint64), self._codes(usable[part]), threads=1)
            self._most_rows = most_rows_of_one(self._table, self._most_rows, numbers)

    def remove(self, subject: int) -> int:
        """Take the rows of ``subject`` away: see :meth:`SearchIndex.remove`."""
        with self._lock:
            positions = self._table.positions("subject", subject)
            keys = self._table.gather("key", positions)
            self._store.forget(self._table.gather("slot", positions))
            for key in keys.tolist():
                self._graph.remove(key)
            self._by_key.remove(keys)
            self._table.remove(positions)
        return len(positions)

    def search_many(self, probes: FloatArray, k: int) -> list[list[Hit]]:
        """Return up to ``k`` subjects for each probe: see :meth:`SearchIndex.search_many`."""
        usable = checked_probes(probes, self._size, k)
        with self._lock:
            if not len(self._table) or not len(usable):
                return [[] for _ in usable]
            if self._most_rows is None:
                self._most_rows = most_rows_of_one(self._table, None, None)
            wanted = max(_MIN_DECIDED, _DECIDED_PER_ROW * k * (self._most_rows or 1))
            codes = self._codes(usable)
            self._graph.expansion_search = self.effort
            n = min(wanted, len(self._table))
            found: Any = self._graph.search(codes, n, threads=1)
            # One probe gives one list, several give a list each and how far it is filled.
            keys = np.atleast_2d(found.keys).astype(np.int64)
            filled: Any = getattr(found, "counts", keys.shape[1])
            return [
                self._decided(probe, row[:count], k)
                for probe, row, count in zip(usable, keys, np.atleast_1d(filled), strict=True)
            ]

    def close(self) -> None:
        """Free everything: see :meth:`SearchIndex.close`."""
        with self._lock:
            self._graph.reset()
            self._table.clear()
            self._by_key = _KeyMap()
            self._store.close()

    def _codes(self, rows: FloatArray) -> npt.NDArray[np.int8]:
        steps = np.rint(rows * np.float32(self._steps)).clip(-127, 127)
        return np.asarray(steps, np.int8)

    def _decided(self, probe: FloatArray, keys: Any, k: int) -> list[Hit]:
        if not len(keys):
            return []
        subjects, slots = self._by_key.look_up(keys)
        rows = self._store.read(slots)
        exact = (rows * probe.astype(np.float64)).sum(axis=1)
        return best_hits(subjects, np.clip(exact, -1.0, 1.0).astype(np.float32), k)


class _KeyMap:
    """Subjects and slots by the key of a row, which is never given twice."""

    def __init__(self) -> None:
        self._next = 0
        self._subjects = np.empty(0, np.int64)
        self._slots = np.empty(0, np.int64)

    def add(self, subjects: SubjectArray, slots: Any) -> SubjectArray:
        """Return new keys of the rows."""
        keys = np.arange(self._next, self._next + len(subjects))
        self._next += len(subjects)
        if self._next > len(self._subjects):
            room = max(256, self._next - len(self._subjects), len(self._subjects) // 2)
            self._subjects = np.concatenate([self._subjects, np.zeros(room, np.int64)])
            self._slots = np.concatenate([self._slots, np.zeros(room, np.int64)])
        self._subjects[keys], self._slots[keys] = subjects, slots
        return keys

    def remove(self, keys: SubjectArray) -> None:
        """Forget the rows of ``keys``."""
        self._subjects[keys] = self._slots[keys] = -1

    def look_up(self, keys: SubjectArray) -> tuple[SubjectArray, SubjectArray]:
        """Return the subjects and slots of ``keys``."""
        return self._subjects[keys], self._slots[keys]


def effort_for(n_rows: int) -> int:
    """Return how many rows to compare among ``n_rows`` to find about 99 of 100."""
    return round(_EFFORT * math.pow(max(1.0, n_rows / _EFFORT_ROWS), _EFFORT_GROWTH))


def _graph(embedding_size: int) -> Any:
    try:
        from usearch.index import Index
    except ImportError as exc:
        raise MissingDependencyError("usearch", extra="search") from exc
    return Index(
        ndim=embedding_size,
        metric="ip",
        dtype="i8",
        connectivity=_CONNECTIVITY,
        expansion_add=_EFFORT_OF_ADDING,
        enable_key_lookups=True,
    )
