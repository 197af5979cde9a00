"""Which rows a gallery has, and a tag of each: enough to see what another process changed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["TAG_BYTES", "RowTags"]

TAG_BYTES = 16
# All tags have the same length: that numpy takes zeros off the end changes no comparison.
_ROW = np.dtype([("id", np.int64), ("owner", np.int64), ("tag", f"S{TAG_BYTES}")])
_CHUNK_ROWS = 1 << 14


class RowTags:
    """Rows by their id, each with the row of the person who owns it: 32 bytes a row."""

    def __init__(self) -> None:
        self._rows = np.empty(0, _ROW)
        self._chunks: list[npt.NDArray[np.void]] = []
        self._pending: list[tuple[int, int, bytes]] = []
        # No id is above it; the row that had it may be gone.
        self._highest_id = -1

    def __len__(self) -> int:
        return len(self._rows) + sum(map(len, self._chunks)) + len(self._pending)

    def __contains__(self, row_id: object) -> bool:
        return isinstance(row_id, int) and self._at(row_id) is not None

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """The ids, (n,) int64, in ascending order."""
        ids: npt.NDArray[np.int64] = self._all()["id"]
        return ids

    def append(self, row_id: int, owner: int, tag: bytes) -> None:
        """Add a row whose id is above every other."""
        self._highest_id = row_id
        self._pending.append((row_id, owner, tag))
        if len(self._pending) >= _CHUNK_ROWS:
            self._chunks.append(np.array(self._pending, _ROW))
            self._pending.clear()

    def put(self, row_id: int, owner: int, tag: bytes) -> None:
        """Add a row, or change it."""
        if row_id > self._highest_id:
            # As nearly always: thousands of new people must not cost a copy of all rows each.
            self.append(row_id, owner, tag)
            return
        at = self._at(row_id)
        if at is not None:
            self._rows[at] = (row_id, owner, tag)
            return
        place = int(np.searchsorted(self._rows["id"], row_id))
        new = np.array([(row_id, owner, tag)], _ROW)
        self._rows = np.concatenate([self._rows[:place], new, self._rows[place:]])

    def drop(self, row_id: int) -> None:
        """Take a row away, if it is there."""
        at = self._at(row_id)
        if at is not None:
            self._rows = np.delete(self._rows, at)

    def owner(self, row_id: int) -> int | None:
        """Return who owns a row; None where there is no such row."""
        at = self._at(row_id)
        return None if at is None else int(self._rows["owner"][at])

    def owners_of_changed(self, before: RowTags) -> set[int]:
        """Return who owns a row that is not as it was ``before``, on either side."""
        ours, theirs = self._all(), before._all()
        _, at, was_at = np.intersect1d(
            ours["id"], theirs["id"], assume_unique=True, return_indices=True
        )
        is_new = np.ones(len(ours), np.bool_)
        is_new[at] = ours[at] != theirs[was_at]
        is_gone = np.ones(len(theirs), np.bool_)
        is_gone[was_at] = ours[at] != theirs[was_at]
        return {*ours["owner"][is_new].tolist(), *theirs["owner"][is_gone].tolist()}

    def _all(self) -> npt.NDArray[np.void]:
        if self._pending or self._chunks:
            pending = np.array(self._pending, _ROW)
            self._rows = np.concatenate([self._rows, *self._chunks, pending])
            self._pending.clear()
            self._chunks.clear()
        return self._rows

    def _at(self, row_id: int) -> int | None:
        rows = self._all()
        at = int(np.searchsorted(rows["id"], row_id))
        return at if at < len(rows) and rows["id"][at] == row_id else None
