"""From scores of rows to the best subjects."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeface.gallery.search.base import Hit, SubjectArray
from edgeface.gallery.search.table import RowTable
from edgeface.types import FloatArray

__all__ = ["best_hits", "most_rows_of_one"]

# Above this many different subjects one sort is quicker than a look for each.
_COUNTED_SINGLY = 32


def best_hits(subjects: SubjectArray, scores: FloatArray, k: int) -> list[Hit]:
    """Return the ``k`` best subjects by their best row, and those that tie with the last.

    ``subjects`` and ``scores`` are (n,), n at least 1. Ties are ordered by number.
    """
    order = np.lexsort((subjects, -scores))
    best: dict[int, float] = {}
    least = -np.inf
    for number, score in zip(subjects[order].tolist(), scores[order].tolist(), strict=True):
        if len(best) >= k and score < least:
            break
        if number not in best:
            best[number] = least = score
    return [Hit(number, score) for number, score in best.items()]


def most_rows_of_one(
    table: RowTable, before: int | None, added: npt.NDArray[np.int64] | None
) -> int | None:
    """Return a number that no subject of ``table`` has more rows than.

    ``before`` is what held before the subjects ``added`` got more rows. None stands for not
    counted yet: after many were added at once, until it is asked for with ``added`` None.
    """
    if added is None:
        numbers = [columns["subject"] for _, columns in table.segments()]
        counts = np.unique(np.concatenate([np.empty(0, np.int64), *numbers]), return_counts=True)[1]
        return int(counts.max(initial=1))
    distinct = np.unique(added)
    if before is None or len(distinct) > _COUNTED_SINGLY:
        return None
    return max([before, *(len(table.positions("subject", int(one))) for one in distinct)])
