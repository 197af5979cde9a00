"""Opens the search that was asked for, or the one that suits."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from edgeface.errors import InvalidInputError
from edgeface.gallery.search.base import SearchIndex
from edgeface.gallery.search.coding import Float16Coding, Float32Coding, Int8Coding
from edgeface.gallery.search.exact import ExactSearch
from edgeface.gallery.search.growing import GrowingSearch
from edgeface.gallery.search.rows import FileRows, MemoryRows, RowStore

__all__ = ["SEARCH_KINDS", "SearchOptions", "open_search"]

SEARCH_KINDS = ("auto", "float32", "float16", "int8", "graph")
# Below this many rows one float32 product takes under a millisecond, and short forms gain less
# than the second stage costs: tests/benchmarks/test_search.py.
_SHORT_FORMS_FROM_ROWS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """How a gallery is searched.

    ``kind`` is one of :data:`SEARCH_KINDS`; see :mod:`edgeface.gallery.search`. ``auto`` is
    always exact: ``float32``, and ``int8`` from ten thousand rows on where numkong is installed;
    ``expected_rows`` spares it the change on the way. ``rows_folder`` names a folder for the
    float32 originals of ``int8``, ``float16`` and ``graph``; None keeps them in memory. They are
    encrypted there with a key that only this process has, unless ``encrypt_rows`` is false.

    ``graph_recall_effort`` is how many rows the graph compares before it answers: more find the
    right one more often and take longer. None takes as many as found 99 of 100 in measurements:
    128, and from 100,000 rows on more as they grow, 510 for a million.
    """

    kind: str = "auto"
    expected_rows: int = 0
    rows_folder: Path | None = None
    encrypt_rows: bool = True
    graph_recall_effort: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in SEARCH_KINDS:
            raise InvalidInputError(f"unknown search {self.kind!r}, choose one of {SEARCH_KINDS}")
        effort = self.graph_recall_effort
        if self.expected_rows < 0 or (effort is not None and effort < 1):
            raise InvalidInputError(
                "expected_rows must be at least 0 and graph_recall_effort at least 1, got "
                f"{self.expected_rows} and {effort}"
            )


def open_search(embedding_size: int, options: SearchOptions | None = None) -> SearchIndex:
    """Return an empty index for rows of ``embedding_size`` numbers; the caller closes it.

    Raises:
        InvalidInputError: ``embedding_size`` is below 1.
        MissingDependencyError: The extra ``search`` is not installed and the kind needs it.
        GalleryError: The file for rows cannot be made.
    """
    options = options or SearchOptions()
    if embedding_size < 1:
        raise InvalidInputError(f"embedding_size must be at least 1, got {embedding_size}")
    kind = options.kind
    if kind == "auto":
        return _automatic(embedding_size, options)
    if kind == "float32":
        return ExactSearch(Float32Coding(), embedding_size, None)
    if kind == "graph":
        from edgeface.gallery.search.graph import GraphSearch

        store = _store(embedding_size, options)
        return GraphSearch(embedding_size, store, effort=options.graph_recall_effort)
    coding = Int8Coding(embedding_size) if kind == "int8" else Float16Coding(embedding_size)
    return ExactSearch(coding, embedding_size, _store(embedding_size, options))


def _automatic(embedding_size: int, options: SearchOptions) -> SearchIndex:
    def short_forms() -> ExactSearch:
        store = _store(embedding_size, options)
        return ExactSearch(Int8Coding(embedding_size), embedding_size, store)

    small = ExactSearch(Float32Coding(), embedding_size, None)
    if find_spec("numkong") is None:
        return small
    if options.expected_rows >= _SHORT_FORMS_FROM_ROWS:
        return short_forms()
    return GrowingSearch(small, short_forms, _SHORT_FORMS_FROM_ROWS)


def _store(embedding_size: int, options: SearchOptions) -> RowStore:
    if options.rows_folder is None:
        return MemoryRows(embedding_size)
    return FileRows(options.rows_folder, embedding_size, encrypt=options.encrypt_rows)
