"""What a door remembers and logs, on the disk together: the state and the audit log.

The two hold each other: the state knows how long the log is with every record that was to be
written when it was, each record which change of the state it belongs to. A third note, the anchor,
lies in another folder. Whoever puts an older copy of one of them back is refused. Where the anchor
is gone, or the records of the last write are, the door starts and says so: a power cut leaves the
same. Whoever puts all three back is not noticed, unless heads of the log are kept elsewhere.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from edgeface.access.anchor import Anchor
from edgeface.access.audit import AuditLog
from edgeface.access.audit_check import AuditHead, last_record, verify_audit
from edgeface.access.clock import DoorClocks
from edgeface.access.folder import FolderLock, require_private
from edgeface.access.keys import AccessKeys
from edgeface.access.lockout import Lockout
from edgeface.access.state_file import DoorState, StateFile
from edgeface.errors import AccessStateError

__all__ = ["AUDIT_FILE", "DoorMemory", "require_together"]

AUDIT_FILE = "audit.log"
# Records that wait for room on the disk; the oldest are kept, they say how it began.
_MAX_PENDING = 256

Detail = Mapping[str, "str | int | float | bool"]


class DoorMemory:
    """The state and the log of one door. Not for use from several threads."""

    def __init__(
        self,
        folder: Path,
        keys: AccessKeys,
        clocks: DoorClocks,
        *,
        create: bool = False,
        anchor_folder: Path | None = None,
        keeps_anchor: bool = True,
    ) -> None:
        """Open what is in ``folder``; with ``create`` a folder without any is a new door.

        What is missing is in ``unproven`` and, as a record, in the log. Without ``keeps_anchor``
        the anchor is read alone: that it is gone is for the next controller to tell.

        Raises:
            AccessStateError: The state is missing, changed or older, the folder is open to others
                or in use.
            AuditError: The log is missing, changed, cut short or older.
        """
        self.clocks, self.keys = clocks, keys
        require_private(folder)
        self._lock = FolderLock(folder)
        self._pending: deque[tuple[str, Detail]] = deque()
        self._dropped = 0
        self._is_saved = True
        self.is_new = False
        self.unproven: dict[str, str | int | float | bool] = {}
        self._file = StateFile(folder, keys)
        self._anchor, self._keeps_anchor = Anchor(anchor_folder, keys), keeps_anchor
        try:
            self._open(folder / AUDIT_FILE, create=create)
        except BaseException:
            self._lock.release()
            raise

    def _open(self, log_path: Path, *, create: bool) -> None:
        self.is_new = create and not self._file.exists() and not os.path.lexists(log_path)
        if self.is_new:
            self._log = AuditLog.open(log_path, self.keys, create=True)
            self._anchor.write(self._log.head)
            state = DoorState(lockout=Lockout(boot=self.clocks.boot))
            self.state = self._file.write(replace(state, has_anchor=self._anchor.is_kept))
            return
        self.state = self._file.read(boot=self.clocks.boot, now_s=self.clocks.monotonic())
        newest = self._anchor.read()
        verify_audit(log_path, self.keys, newest_known=newest).require_good()
        self._log = AuditLog.open(log_path, self.keys)
        try:
            require_together(self.state, self._log.head.count, last_record(log_path))
            self._file.remove_leftovers()
            self._note_unproven()
        except BaseException:
            self._log.close()
            raise

    def _note_unproven(self) -> None:
        """Note what a power cut may have taken, or somebody who put older files back."""
        missing = self.state.audit_count - self._log.head.count
        if missing > 0:
            self.unproven["records"] = missing
        if self._keeps_anchor and self.state.has_anchor and not self._anchor.is_kept:
            self.unproven["anchor"] = "gone"
        records: list[tuple[str, Detail]] = []
        if self._log.recovered:
            records.append(("recovery", {"bytes": self._log.recovered}))
        if self.unproven:
            records.append(("unproven", dict(self.unproven)))
        if records:
            # Together: what is written next hides that something is missing.
            self.remember(self.state, *records)

    @property
    def is_saved(self) -> bool:
        """Whether everything that is known is on the disk."""
        return self._is_saved and not self._pending and not self._dropped

    @property
    def head(self) -> AuditHead:
        """The head of the log."""
        return self._log.head

    @property
    def problem(self) -> str:
        """What keeps the door closed until it is put right or opened anew; empty if nothing."""
        broken = self._file.broken or self._log.broken or self._lock_problem()
        if broken:
            return f"state and log are not written any more: {broken}"
        return "" if self.is_saved else "what happened is not on the disk"

    def note(self, kind: str, detail: Detail) -> None:
        """Bring a record to the disk that changes nothing.

        Raises:
            AuditError: It cannot be written; it is tried again by the next call.
        """
        self._queue(kind, detail)
        self.save()

    def remember(self, state: DoorState, *records: tuple[str, Detail]) -> None:
        """Take ``state`` and bring it and ``records`` to the disk.

        The state holds in memory whatever the disk does; what could not be written is tried again
        by the next call, and ``is_saved`` is false until then.

        Raises:
            AccessStateError: The state cannot be written.
            AuditError: The log cannot be written.
        """
        # The counter is this object's: the caller's copy of the state may be of before a save.
        self.state, self._is_saved = replace(state, counter=self.state.counter), False
        for kind, detail in records:
            self._queue(kind, detail)
        self.save()

    def remember_or_undo(self, state: DoorState, record: tuple[str, Detail]) -> None:
        """Do what :meth:`remember` does, or leave everything as it was.

        Raises:
            AccessStateError: The state cannot be written.
            AuditError: The log cannot be written.
        """
        before, waiting = self.state, list(self._pending)
        try:
            self.remember(state, record)
        except BaseException:
            # The state may be on the disk already, so it must be written again as it was.
            self.state = replace(before, counter=self.state.counter)
            self._is_saved, self._pending = False, deque(waiting)
            raise

    def _queue(self, kind: str, detail: Detail) -> None:
        if len(self._pending) < _MAX_PENDING:
            self._pending.append((kind, dict(detail)))
        else:
            self._dropped += 1

    def _lock_problem(self) -> str:
        # Another controller may have the door by now: two would write over each other.
        return "" if self._lock.is_held else "the door's file lock was removed or replaced"

    def save(self) -> None:
        """Bring to the disk what is not there yet.

        Raises:
            AccessStateError: The state cannot be written.
            AuditError: The log cannot be written.
        """
        waiting = len(self._pending) + (self._dropped > 0)
        if waiting or not self._is_saved:
            if problem := self._lock_problem():
                raise AccessStateError(f"the state of the door is not written any more: {problem}")
            # The state counts the records before they are written: none of them can be cut off
            # later without its noticing.
            count = self._log.head.count + waiting
            known = replace(self.state, audit_count=count, audit_pending=waiting)
            if self._keeps_anchor:
                known = replace(known, has_anchor=self._anchor.is_kept)
            self.state = self._file.write(known)
            self._is_saved = True
        while self._pending:
            self._append(*self._pending[0])
            self._pending.popleft()
        if self._dropped:
            self._append("dropped", {"records": self._dropped})
            self._dropped = 0
        if self._keeps_anchor:
            self._anchor.write(self._log.head)

    def _append(self, kind: str, detail: Detail) -> None:
        self._log.append(
            kind,
            boot=self.clocks.boot,
            mono_s=self.clocks.monotonic(),
            wall=self.clocks.wall().isoformat(timespec="seconds"),
            detail={**detail, "state": self.state.counter},
        )

    def close(self) -> None:
        """Free the files; may be called twice."""
        self._log.close()
        self._lock.release()

    def __enter__(self) -> DoorMemory:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def require_together(state: DoorState, count: int, last: Mapping[str, object]) -> None:
    """Return if a state and a log of ``count`` records belong together; ``last`` is the newest.

    A log may lack the records of the last write of the state, or a part of them: the power may
    have gone between the two.

    Raises:
        AccessStateError: One of them is an older copy.
    """
    seen = last.get("x_state", 0)
    if not isinstance(seen, int) or seen > state.counter:
        raise AccessStateError(
            f"the state of the door is an older copy: the log has seen change {seen}, the state "
            f"is of change {state.counter}; put the newest one back"
        )
    if state.audit_count - state.audit_pending > count:
        raise AccessStateError(
            f"the audit log is an older copy: the state has seen {state.audit_count} records, the "
            f"log has {count}; put the newest one back"
        )
