"""What a door remembers and logs, on the disk together: the state and the audit log.

The two hold each other: the state knows how long the log was, each record which change of the
state it belongs to. A third note, the anchor, lies in another folder. Whoever puts an older copy
of one of them back is noticed; whoever puts all three back is not, unless heads of the log are
kept on another machine.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from edgeface.access.audit import AuditLog
from edgeface.access.audit_check import AuditHead, last_record, verify_audit
from edgeface.access.clock import DoorClocks
from edgeface.access.keys import AccessKeys
from edgeface.access.lockout import Lockout
from edgeface.access.state_file import DoorState, StateFile
from edgeface.errors import AccessStateError
from edgeface.gallery.keys import KeyOptions
from edgeface.gallery.sealing import keyed_hash

__all__ = ["AUDIT_FILE", "DoorMemory", "FolderLock"]

AUDIT_FILE = "audit.log"
# Records that wait for room on the disk; the oldest are kept, they say how it began.
_MAX_PENDING = 256

Detail = Mapping[str, "str | int | float | bool"]


class FolderLock:
    """Keeps other processes out of the folder of a door; the system frees it with the process."""

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises:
            AccessStateError: Another process has it, or the folder cannot be used.
        """
        self._file = -1
        try:
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            self._file = os.open(folder / "lock", flags, 0o600)
            _lock(self._file)
        except OSError as exc:
            self.release()
            raise AccessStateError(
                f"the door's folder {folder} is in use by another process, or cannot be written "
                f"({exc.strerror}); one door has one controller"
            ) from exc

    def release(self) -> None:
        """Give the lock back; may be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _lock(file: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


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
    ) -> None:
        """Open what is in ``folder``; with ``create`` a folder without any is a new door.

        Raises:
            AccessStateError: The state is missing, changed or older, the folder is open to others
                or in use.
            AuditError: The log is missing, changed, cut short or older.
        """
        self.clocks, self.keys = clocks, keys
        require_private(folder)
        self._lock = FolderLock(folder)
        self._pending: deque[tuple[str, Detail]] = deque()
        self._is_saved = True
        self._file = StateFile(folder, keys)
        anchors = anchor_folder or KeyOptions().anchor_folder()
        self._anchor = _Anchor(anchors / f"{keys.door_id}.access-head", keys)
        try:
            self._open(folder / AUDIT_FILE, create=create)
        except BaseException:
            self._lock.release()
            raise

    def _open(self, log_path: Path, *, create: bool) -> None:
        is_new = create and not self._file.exists() and not os.path.lexists(log_path)
        if is_new:
            self._log = AuditLog.open(log_path, self.keys, create=True)
            self.state = self._file.write(DoorState(lockout=Lockout(boot=self.clocks.boot)))
            return
        self.state = self._file.read(boot=self.clocks.boot, now_s=self.clocks.monotonic())
        newest = self._anchor.read()
        verify_audit(log_path, self.keys, newest_known=newest).require_good()
        self._log = AuditLog.open(log_path, self.keys)
        try:
            self._check_together(log_path)
            self._file.remove_leftovers()
            if self._log.recovered:
                self.remember(self.state, ("recovery", {"bytes": self._log.recovered}))
        except BaseException:
            self._log.close()
            raise

    def _check_together(self, log_path: Path) -> None:
        seen = int(last_record(log_path).get("x_state", 0))
        if seen > self.state.counter:
            raise AccessStateError(
                f"the state of the door is an older copy: the log has seen change {seen}, the "
                f"state is of change {self.state.counter}; put the newest one back"
            )
        if self.state.audit_count > self._log.head.count:
            raise AccessStateError(
                f"the audit log is an older copy: the state has seen {self.state.audit_count} "
                f"records, the log has {self._log.head.count}; put the newest one back"
            )

    @property
    def is_saved(self) -> bool:
        """Whether everything that is known is on the disk."""
        return self._is_saved and not self._pending

    @property
    def head(self) -> AuditHead:
        """The head of the log."""
        return self._log.head

    @property
    def problem(self) -> str:
        """What keeps the door closed until it is put right or opened anew; empty if nothing."""
        broken = self._file.broken or self._log.broken
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

    def save(self) -> None:
        """Bring to the disk what is not there yet.

        Raises:
            AccessStateError: The state cannot be written.
            AuditError: The log cannot be written.
        """
        if not self._is_saved:
            known = replace(self.state, audit_count=self._log.head.count)
            self.state = self._file.write(known)
            self._is_saved = True
        while self._pending:
            kind, detail = self._pending[0]
            self._log.append(
                kind,
                boot=self.clocks.boot,
                mono_s=self.clocks.monotonic(),
                wall=self.clocks.wall().isoformat(timespec="seconds"),
                detail={**detail, "state": self.state.counter},
            )
            self._pending.popleft()
        self._anchor.write(self._log.head)

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


class _Anchor:
    """The newest head of the log, in another folder. One that bears no seal counts as none."""

    def __init__(self, path: Path, keys: AccessKeys) -> None:
        self._path = path
        self._key = keys.audit_head

    def read(self) -> AuditHead | None:
        with suppress(OSError, ValueError, AccessStateError):
            text, _, mac = self._path.read_text(encoding="ascii").strip().rpartition(" ")
            if mac == self._mac(text):
                return AuditHead.parse(text)
        return None

    def write(self, head: AuditHead) -> None:
        """Keep ``head``; not synced, since an anchor that a power cut takes only says less."""
        with suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".anchor-", dir=self._path.parent)
            try:
                with os.fdopen(handle, "w", encoding="ascii") as file:
                    file.write(f"{head} {self._mac(str(head))}\n")
                Path(name).replace(self._path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise

    def _mac(self, text: str) -> str:
        return keyed_hash(self._key, "anchor", text).hex()


def require_private(folder: Path) -> None:
    """Return if ``folder`` is one that only this user can use.

    Raises:
        AccessStateError: It is missing, is no folder, or is open to others.
    """
    if not folder.is_dir():
        raise AccessStateError(f"there is no folder {folder} for the door's state")
    if os.name == "posix" and folder.stat().st_mode & 0o077:
        raise AccessStateError(
            f"the door's folder {folder} is open to others; run: chmod 700 {folder}"
        )
