"""Which detection continues which track: the pairs with the largest sum of gains."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

__all__ = ["best_pairs"]


def best_pairs(gains: Mapping[tuple[int, int], float]) -> dict[int, int]:
    """Return the column of each joined row, so that the sum of gains is the largest possible.

    ``gains`` holds the gain, above 0, of each (row, column) that may be joined; each row and each
    column is used once at most. Ties go to the smaller numbers.
    """
    rows = sorted({row for row, _ in gains})
    columns = sorted({column for _, column in gains})
    side = len(rows) + len(columns)
    # Rows may stay alone in a column of their own, at no gain.
    cost = np.zeros((len(rows), side))
    cost[:, : len(columns)] = _FORBIDDEN
    for (row, column), gain in gains.items():
        cost[rows.index(row), columns.index(column)] = -gain
    chosen = _assign(cost)
    return {rows[i]: columns[j] for i, j in enumerate(chosen) if j < len(columns)}


_FORBIDDEN = 1e9


def _assign(cost: npt.NDArray[np.float64]) -> list[int]:
    """Return the column of each row at the lowest total cost; no more rows than columns.

    The Hungarian method with potentials, one shortest augmenting path for each row (Jonker and
    Volgenant, Computing 38, 1987).
    """
    n, m = cost.shape
    row_of = np.full(m, -1)
    u, v = np.zeros(n), np.zeros(m)
    for start in range(n):
        way = np.full(m, -1)
        distance = np.full(m, np.inf)
        done = np.zeros(m, bool)
        row, last = start, -1
        while row >= 0:
            reduced = cost[row] - u[row] - v
            base = 0.0 if last < 0 else distance[last]
            better = ~done & (base + reduced < distance)
            distance[better] = base + reduced[better]
            way[better] = last
            last = int(np.where(done, np.inf, distance).argmin())
            done[last] = True
            row = int(row_of[last])
        reach = distance[last]
        inner = done & (distance < reach)
        u[row_of[inner]] += reach - distance[inner]
        u[start] += reach
        v[inner] -= reach - distance[inner]
        while last >= 0:
            before = int(way[last])
            row_of[last] = start if before < 0 else row_of[before]
            last = before
    answer = [0] * n
    for column, row in enumerate(row_of):
        if row >= 0:
            answer[int(row)] = column
    return answer
