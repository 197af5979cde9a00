"""Exact search: a coarse product over all rows, then the originals of those that may be best."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeface.gallery.search.base import (
    Hit,
    SubjectArray,
    as_subjects,
    checked_probes,
    checked_rows,
)
from edgeface.gallery.search.coding import Coding, Prepared
from edgeface.gallery.search.ranking import best_hits, most_rows_of_one
from edgeface.gallery.search.rows import RowStore
from edgeface.gallery.search.table import RowTable
from edgeface.types import FloatArray

__all__ = ["ExactSearch"]

# Probes that share one pass over the rows: the columns of one tile of the matrix units.
_BATCH_PROBES = 16
# So many coarse scores stay in the second-level cache.
_BLOCK_SCORES = 1 << 16
# Rows whose best coarse score stands for all of them until one of them matters.
_GROUP_ROWS = 64
# Rows that are encoded at once.
_ENCODED_ROWS = 8192
# Below every coarse score; what fills up the last group is lower still.
_NO_SCORE = np.float32(-3.0)
Positions = npt.NDArray[np.int64]


class ExactSearch:
    """A :class:`~edgeface.gallery.search.base.SearchIndex` that misses nobody.

    Args:
        coding: The short form of the coarse product.
        embedding_size: The length of a row.
        store: Keeps the originals; None where the short form is the row itself.
    """

    is_exact = True

    def __init__(self, coding: Coding, embedding_size: int, store: RowStore | None) -> None:
        self._coding = coding
        self._size = embedding_size
        self._store = store
        self._lock = threading.RLock()
        columns: dict[str, tuple[npt.DTypeLike, int]] = {
            "codes": (coding.dtype, embedding_size),
            "scale": (np.float32, 0),
            "error": (np.float32, 0),
            "subject": (np.int64, 0),
        }
        if store is not None:
            columns["slot"] = (np.int64, 0)
        self._table = RowTable(columns)
        self._most_rows: int | None = 1

    @property
    def embedding_size(self) -> int:
        """The length of every row."""
        return self._size

    @property
    def description(self) -> str:
        """What searches and where the rows are, in words for people."""
        where = "" if self._store is None else f", originals in {type(self._store).__name__}"
        return f"exact, {self._coding.name}{where}"

    def __len__(self) -> int:
        return len(self._table)

    def add(self, subjects: Sequence[int] | SubjectArray, rows: FloatArray) -> None:
        """Add ``rows``: see :meth:`SearchIndex.add`."""
        usable = checked_rows(rows, self._size)
        numbers = as_subjects(subjects, len(usable))
        with self._lock:
            slots = None if self._store is None else self._store.append(usable)
            for start in range(0, len(usable), _ENCODED_ROWS):
                part = slice(start, start + _ENCODED_ROWS)
                encoded = self._coding.encode(usable[part])
                self._table.append(
                    codes=encoded.codes,
                    scale=encoded.scale,
                    error=encoded.error,
                    subject=numbers[part],
                    **({} if slots is None else {"slot": slots[part]}),
                )
            self._most_rows = most_rows_of_one(self._table, self._most_rows, numbers)

    def remove(self, subject: int) -> int:
        """Take the rows of ``subject`` away: see :meth:`SearchIndex.remove`."""
        with self._lock:
            positions = self._table.positions("subject", subject)
            if self._store is not None:
                self._store.forget(self._table.gather("slot", positions))
            self._table.remove(positions)
        return len(positions)

    def search_many(self, probes: FloatArray, k: int) -> list[list[Hit]]:
        """Return up to ``k`` subjects for each probe: see :meth:`SearchIndex.search_many`."""
        usable = checked_probes(probes, self._size, k)
        with self._lock:
            if self._most_rows is None:
                self._most_rows = most_rows_of_one(self._table, None, None)
            hits: list[list[Hit]] = []
            for start in range(0, len(usable), _BATCH_PROBES):
                hits += self._search(usable[start : start + _BATCH_PROBES], k)
        return hits

    def contents(self) -> Iterator[tuple[SubjectArray, FloatArray]]:
        """Give the subjects and the rows, some thousand at a time."""
        with self._lock:
            for first in range(0, len(self._table), _ENCODED_ROWS):
                positions = np.arange(first, min(first + _ENCODED_ROWS, len(self._table)))
                yield self._table.gather("subject", positions), self._rows(positions)

    def close(self) -> None:
        """Free everything: see :meth:`SearchIndex.close`."""
        with self._lock:
            self._table.clear()
            if self._store is not None:
                self._store.close()

    def _search(self, probes: FloatArray, k: int) -> list[list[Hit]]:
        if not len(self._table):
            return [[] for _ in probes]
        scan = _Scan(self._coding.prepare(probes), k * (self._most_rows or 1))
        block_rows = _BLOCK_SCORES // len(probes)
        for first, columns in self._table.segments():
            for start in range(0, len(columns["codes"]), block_rows):
                part = slice(start, start + block_rows)
                scan.see(
                    first + start,
                    columns["codes"][part],
                    columns["scale"][part],
                    float(columns["error"][part].max()),
                )
        return [
            self._decided(probe, *scan.found(column), scan.prepared, column, k)
            for column, probe in enumerate(probes)
        ]

    def _decided(
        self,
        probe: FloatArray,
        positions: Positions,
        coarse: FloatArray,
        prepared: Prepared,
        column: int,
        k: int,
    ) -> list[Hit]:
        """Return the hits of one probe among the rows at ``positions``."""
        error = self._table.gather("error", positions)
        bound = prepared.constant[column] + prepared.slope[column] * error
        subjects = self._table.gather("subject", positions)
        # Every row of the k-th best subject or a better one reaches the k-th best lower bound.
        certain = best_hits(subjects, coarse - bound, k)[-1].score
        kept = np.flatnonzero(coarse + bound >= certain)
        rows = self._rows(positions[kept])
        # Sums of one row do not depend on its neighbours: every index gives the same bits.
        exact = (rows * probe.astype(np.float64)).sum(axis=1)
        # Rounding takes the product of two unit vectors up to 1e-7 beyond 1.
        scores = np.clip(exact, -1.0, 1.0).astype(np.float32)
        return best_hits(subjects[kept], scores, k)

    def _rows(self, positions: Positions) -> FloatArray:
        if self._store is None:
            rows: FloatArray = self._table.gather("codes", positions)
            return rows
        return self._store.read(self._table.gather("slot", positions))


@dataclass(slots=True, eq=False)
class _Scan:
    """One pass over all rows: keeps those that may be among the best ``n_certain`` rows.

    ``n_certain`` rows always hold k subjects. ``_certain`` (n_certain, m) are the best lower
    bounds so far, of groups of rows; a group of which no row reaches the least of them is out.
    """

    prepared: Prepared
    n_certain: int
    _certain: FloatArray = field(init=False)
    _found: list[tuple[Positions, npt.NDArray[np.intp], FloatArray]] = field(init=False)

    def __post_init__(self) -> None:
        m = len(self.prepared.scale)
        self._certain = np.full((self.n_certain, m), -np.inf, np.float32)
        self._found = []

    def see(
        self, first: int, codes: npt.NDArray[Any], scale: FloatArray, largest_error: float
    ) -> None:
        """Look at the rows from position ``first`` on; ``scale`` is that of each row."""
        n = len(codes)
        # Groups must not be fewer than the rows that are certain, or little is ever left out.
        group = min(_GROUP_ROWS, max(1, n // (2 * self.n_certain)))
        n_groups = -(-n // group)
        coarse = np.full((n_groups * group, len(self.prepared.scale)), -np.inf, np.float32)
        product = self.prepared.product(codes)
        # Whole numbers become float32 here: up to 2^24 exactly, and never off by over half a bit.
        np.multiply(product, scale[:, None], out=coarse[:n], dtype=np.float32, casting="same_kind")
        coarse[:n] *= self.prepared.scale
        bound = self.prepared.constant + self.prepared.slope * np.float32(largest_error)
        # A group is every n_groups-th row: the maximum then runs along whole stretches of memory.
        best = coarse.reshape(group, -1).max(axis=0).reshape(n_groups, -1)
        self._raise(best - bound)
        self._keep(first, coarse, best, self._certain.min(axis=0) - bound)

    def found(self, column: int) -> tuple[Positions, FloatArray]:
        """Return the positions and coarse scores of the rows kept for one probe."""
        kept = [(at[of == column], coarse[of == column]) for at, of, coarse in self._found]
        return np.concatenate([at for at, _ in kept]), np.concatenate([c for _, c in kept])

    def _raise(self, lower: FloatArray) -> None:
        if (lower.max(axis=0) > self._certain.min(axis=0)).any():
            both = np.concatenate([self._certain, lower])
            cut = len(both) - self.n_certain
            self._certain = np.partition(both, cut, axis=0)[cut:]

    def _keep(self, first: int, coarse: FloatArray, best: FloatArray, wanted: FloatArray) -> None:
        groups, columns = np.nonzero(best >= wanted)
        if not len(groups):
            return
        rows = groups[:, None] + np.arange(0, len(coarse), len(best))
        scores = coarse[rows, columns[:, None]]
        reaches = scores >= np.maximum(wanted[columns], _NO_SCORE)[:, None]
        which, _ = np.nonzero(reaches)
        self._found.append((first + rows[reaches], columns[which], scores[reaches]))
