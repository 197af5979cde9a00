"""The audit log: a file that only grows, each record chained to the one before it.

One line of JSON a record, with an HMAC over the record and the HMAC before it. A second file, the
head, holds how many records there are and the last HMAC, sealed with a key of its own: without it
nobody could tell that the newest records were cut off. Subjects have pseudonyms; there are no
names, no scores and no pictures in it.

A record counts as written when it and the head are on the disk.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from edgeface.access.audit_check import (
    HEAD_SUFFIX,
    MAX_LINE,
    START,
    AuditHead,
    chained,
    read_head,
    verify_audit,
)
from edgeface.access.folder import is_same_file
from edgeface.access.keys import AccessKeys
from edgeface.backends.sealed_file import write_sealed
from edgeface.errors import AuditError, InvalidInputError

__all__ = ["NO_ROOM", "AuditLog", "Detail"]

Detail: TypeAlias = "Mapping[str, str | int | float | bool]"

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors of a full disk: the one fault that goes away and leaves what was written as it was."""


@dataclass(frozen=True, slots=True)
class _Moment:
    boot: str
    mono_s: float
    wall: str


class AuditLog:
    """The open log of one door; one process at a time. Not for use from several threads.

    Made by :meth:`open`. After an error of the disk other than a lack of room, nothing more is
    written: what the disk holds then is not known before the log is opened again.
    """

    def __init__(self, path: Path, keys: AccessKeys, head: AuditHead) -> None:
        self._path = path
        self._keys = keys
        self._head = head
        self._broken = ""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        try:
            self._file = os.open(path, flags, 0o600)
        except OSError as exc:
            raise AuditError(f"the audit log {path} cannot be opened: {exc.strerror}") from exc
        self._length = os.fstat(self._file).st_size

    @classmethod
    def open(cls, path: Path, keys: AccessKeys, *, create: bool = False) -> AuditLog:
        """Return the log at ``path``, every record of it checked.

        A last line that a power cut left unfinished, and that no head covers, is cut off;
        ``recovered`` says so. Nothing else is ever repaired.

        Raises:
            AuditError: It is missing and ``create`` is false, was changed, cut short or put back.
        """
        head_path = path.with_name(path.name + HEAD_SUFFIX)
        absent = not os.path.lexists(path) and not os.path.lexists(head_path)
        if absent and not create:
            raise AuditError(f"there is no audit log at {path}")
        if absent:
            log = cls(path, keys, START)
            log._seal(START)
            sync_folder(path.parent)
            log.recovered = 0
            return log
        _require_private(path)
        report = verify_audit(path, keys)
        report.require_good()
        cut = report.torn_bytes
        if cut:
            with path.open("r+b") as file:
                file.truncate(path.stat().st_size - cut)
                os.fsync(file.fileno())
        log = cls(path, keys, AuditHead(report.count, report.last_mac))
        if read_head(head_path, keys) != log.head:
            log._seal(log.head)
        log.recovered = cut
        return log

    recovered: int = 0
    """How many bytes of an unfinished last line were cut off when the log was opened."""

    @property
    def broken(self) -> str:
        """Why nothing more is written; empty while it is."""
        return self._broken

    @property
    def head(self) -> AuditHead:
        """How many records there are, and the last HMAC: keep a copy where the log is not."""
        return self._head

    def append(
        self, kind: str, *, boot: str, mono_s: float, wall: str, detail: Detail | None = None
    ) -> AuditHead:
        """Write a record; return the head once both are on the disk.

        Raises:
            AuditError: They are not. The log is as it was before where the disk has no room;
                after any other error nothing more is written.
        """
        self._require_in_place()
        line, mac = self._line(kind, _Moment(boot, mono_s, wall), detail or {})
        head = AuditHead(self._head.count + 1, mac)
        try:
            self._write(line)
            self._seal(head)
        except OSError as exc:
            self._undo(exc)
            raise AuditError(f"the audit log cannot be written: {exc.strerror}") from exc
        try:
            sync_folder(self._path.parent)
        except OSError as exc:
            # The new head is in its place, and nobody knows whether it stays there.
            self._broken = f"the disk failed ({exc.strerror})"
            raise AuditError(f"the audit log cannot be written: {exc.strerror}") from exc
        self._head, self._length = head, self._length + len(line)
        return head

    def close(self) -> None:
        """Free the file; may be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            self._broken = self._broken or "it was closed"

    def _require_in_place(self) -> None:
        """Return if the open file is the one that whoever checks the log will find, as it was."""
        if not self._broken and not is_same_file(self._file, self._path):
            self._broken = "its file was moved, removed or replaced"
        if not self._broken and os.fstat(self._file).st_size != self._length:
            self._broken = "somebody else wrote to its file"
        if self._broken:
            raise AuditError(f"the audit log is not written any more: {self._broken}")

    def _line(self, kind: str, moment: _Moment, detail: Detail) -> tuple[bytes, str]:
        record: dict[str, Any] = {
            "n": self._head.count + 1,
            "boot": moment.boot,
            "mono_s": round(moment.mono_s, 6),
            "wall": moment.wall,
            "kind": kind,
            **{f"x_{name}": value for name, value in detail.items()},
        }
        try:
            mac = chained(self._keys.audit, self._head.mac, record)
            text = json.dumps({**record, "mac": mac}, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as exc:
            raise InvalidInputError(f"the detail of a record is not JSON: {exc}") from exc
        line = text.encode() + b"\n"
        if len(line) > MAX_LINE:
            raise InvalidInputError(f"a record has at most {MAX_LINE} bytes, got {len(line)}")
        return line, mac

    def _write(self, line: bytes) -> None:
        sent = 0
        while sent < len(line):
            sent += os.write(self._file, line[sent:])
        try:
            os.fsync(self._file)
        except OSError as exc:
            # After a failed fsync the kernel forgets what it did not write: nobody knows what the
            # disk holds.
            self._broken = f"the disk failed ({exc.strerror})"
            raise

    def _seal(self, head: AuditHead) -> None:
        path = self._path.with_name(self._path.name + HEAD_SUFFIX)
        write_sealed(path, {"count": head.count, "mac": head.mac}, b"", self._keys.audit_head)

    def _undo(self, error: OSError) -> None:
        """Bring the file back to what the head covers, or note that it is not known."""
        if error.errno not in NO_ROOM:
            self._broken = self._broken or f"the disk failed ({error.strerror})"
            return
        try:
            os.ftruncate(self._file, self._length)
            os.fsync(self._file)
        except OSError as exc:
            self._broken = f"the disk failed ({exc.strerror})"


def sync_folder(folder: Path) -> None:
    """Bring renames in ``folder`` to the disk, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _require_private(path: Path) -> None:
    facts = None
    with contextlib.suppress(FileNotFoundError):
        facts = path.lstat()
    if facts is None:
        return
    if not stat.S_ISREG(facts.st_mode) or (os.name == "posix" and facts.st_mode & 0o077):
        raise AuditError(f"the audit log {path} must be a plain file with mode 0600")
