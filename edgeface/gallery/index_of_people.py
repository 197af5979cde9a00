"""The search index of a gallery, kept in step with its people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

import numpy as np

from edgeface.gallery.people import People, TemplateEntry
from edgeface.gallery.search import SearchIndex, SearchOptions, is_usable, open_search
from edgeface.types import Candidate, FloatArray

__all__ = ["PeopleIndex"]

_ROWS_AT_ONCE = 512


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

    @property
    def description(self) -> str:
        """What searches and where the rows are, in words for people."""
        return "nothing yet" if self._index is None else self._index.description

    def bring_up_to_date(self, people: People) -> None:
        """Take what has changed in ``people`` since the last time.

        Inside :meth:`Vault.reading`: templates are read from the file, into the index alone.
        """
        size = people.active.embedding_size
        index = self._index
        if index is None or people.all_changed or index.embedding_size != size:
            if index is not None:
                index.close()
            index = self._index = open_search(size, self._options_for(people))
            self._quarantined = {}
            self._add(index, people.every_template(), people)
        elif people.changed:
            for subject in people.changed:
                index.remove(subject)
                self._quarantined.pop(subject, None)
            known = sorted(one for one in people.changed if one in people.subjects)
            self._add(index, (t for one in known for t in people.templates_of(one)), people)
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

    def _options_for(self, people: People) -> SearchOptions:
        """Return the options, with the number of rows where nobody has said it."""
        options = self._options or SearchOptions()
        if options.expected_rows:
            return options
        return replace(options, expected_rows=people.template_count)

    def _add(self, index: SearchIndex, templates: Iterable[TemplateEntry], people: People) -> None:
        size = people.active.embedding_size
        for part in _parts(templates, _ROWS_AT_ONCE):
            fitting = [one for one in part if one.stored.has_size(size)]
            rows = np.array([one.stored.vector for one in fitting], np.float32).reshape(-1, size)
            usable = is_usable(rows)
            for one in part:
                self._quarantined[one.subject] = self._quarantined.get(one.subject, 0) + 1
            for one, is_good in zip(fitting, usable.tolist(), strict=True):
                self._quarantined[one.subject] -= is_good
            wanted = [
                k
                for k in np.flatnonzero(usable)
                if people.subjects[fitting[k].subject].person.active
            ]
            index.add([fitting[k].subject for k in wanted], rows[wanted])
        self._quarantined = {key: count for key, count in self._quarantined.items() if count}


def _parts(templates: Iterable[TemplateEntry], size: int) -> Iterator[list[TemplateEntry]]:
    rest = iter(templates)
    while part := list(islice(rest, size)):
        yield part
