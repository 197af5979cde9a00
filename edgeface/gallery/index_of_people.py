"""The search index of a gallery, kept in step with its people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeface.gallery.people import People
from edgeface.gallery.search import SearchIndex, SearchOptions, open_search
from edgeface.types import Candidate, FloatArray

__all__ = ["PeopleIndex"]


class PeopleIndex:
    """Searches the active people of a gallery. Not for use from several threads at once."""

    def __init__(self, options: SearchOptions | None = None) -> None:
        self._options = options
        self._index: SearchIndex | None = None
        self._quarantined: dict[int, int] = {}

    @property
    def quarantined(self) -> int:
        """How many stored templates are unusable and take no part."""
        return sum(self._quarantined.values())

    def bring_up_to_date(self, people: People) -> None:
        """Take what has changed in ``people`` since the last time."""
        size = people.active.embedding_size
        index = self._index
        if index is None or people.all_changed or index.embedding_size != size:
            if index is not None:
                index.close()
            index = self._index = open_search(size, self._options)
            self._quarantined = {}
            self._add(index, people, sorted(people.subjects))
        elif people.changed:
            for subject in people.changed:
                index.remove(subject)
                self._quarantined.pop(subject, None)
            self._add(index, people, sorted(people.changed & people.subjects.keys()))
        people.changed, people.all_changed = set(), False

    def search(self, people: People, probes: FloatArray, k: int) -> list[list[Candidate]]:
        """Return up to ``k`` candidates for each row of ``probes`` (m, embedding size)."""
        if self._index is None or len(self._index) == 0:
            return [[] for _ in probes]
        found = []
        for hits in self._index.search_many(probes, k):
            candidates = [
                Candidate(people.subjects[hit.subject].person.name, hit.score) for hit in hits
            ]
            candidates.sort(key=lambda one: (-one.score, one.subject))
            found.append(candidates[:k])
        return found

    def close(self) -> None:
        """Free the index; may be called twice."""
        if self._index is not None:
            self._index.close()
        self._index = None

    def _add(self, index: SearchIndex, people: People, subjects: Sequence[int]) -> None:
        wanted = {number for number in subjects if people.subjects[number].person.active}
        numbers, rows = [], []
        size = people.active.embedding_size
        for entry in people.templates_among(set(subjects)):
            if not entry.stored.is_usable(size):
                self._quarantined[entry.subject] = self._quarantined.get(entry.subject, 0) + 1
            elif entry.subject in wanted:
                numbers.append(entry.subject)
                rows.append(entry.stored.vector)
        if rows:
            index.add(numbers, np.stack(rows))
