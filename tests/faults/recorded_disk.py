"""A disk that remembers every write, and what it could hold after a power cut.

SQLite of APSW writes through a shim (https://rogerbinns.github.io/apsw/vfs.html) that logs writes,
truncations, syncs and deletions, and can be full from some write on. The gallery, which uses the
``sqlite3`` of the standard library, gets a connection of the same shape.

After a power cut a file holds what was synced, and of what came later any part: each write whole,
not at all, or up to a sector. Nothing orders the writes of different files but syncs.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any

import apsw

__all__ = ["CANARY", "Disk", "Event"]

CANARY = "canary"
_SECTOR_BYTES = 512
_VFS = "recorded"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened: ``kind`` is write, truncate, sync, delete or note."""

    kind: str
    file: str
    offset: int = 0
    content: bytes = b""


@dataclass(slots=True)
class Disk:
    """The log of one run; ``writes_left`` counts down to a full disk, None is never."""

    events: list[Event] = field(default_factory=list)
    writes_left: int | None = None

    def note(self, text: str) -> None:
        """Log ``text``, such as that a change was acknowledged."""
        self.events.append(Event("note", text))

    def spend(self) -> None:
        """Count a write.

        Raises:
            apsw.FullError: There is no room for it.
        """
        if self.writes_left is None:
            return
        if self.writes_left <= 0:
            raise apsw.FullError("the disk is full")
        self.writes_left -= 1

    def sqlite3(self) -> SimpleNamespace:
        """Return what stands for the module ``sqlite3`` in the code under test."""
        vfs = _RecordedVfs(self)

        def connect(path: Any, **_options: Any) -> Any:
            if str(path) == ":memory:":
                return sqlite3.connect(path)
            return _Connection(apsw.Connection(str(path), vfs=vfs.name))

        return SimpleNamespace(
            connect=connect,
            Error=sqlite3.Error,
            OperationalError=sqlite3.OperationalError,
            Connection=sqlite3.Connection,
            keep=vfs,
        )

    def after_power_cut(
        self, start: dict[str, bytes], at: int, rng: random.Random | None
    ) -> dict[str, bytes]:
        """Return the files after the first ``at`` events, by name.

        Of what was not synced, a random part is there; without ``rng``, nothing is.
        """
        files = dict(start)
        pending: dict[str, list[Event]] = {}
        for event in self.events[:at]:
            if event.kind == "sync":
                for done in pending.pop(event.file, []):
                    _apply(files, done)
            elif event.kind != "note":
                pending.setdefault(event.file, []).append(event)
        for waiting in pending.values():
            for event in _part_of(waiting, rng):
                _apply(files, event)
        return files

    def acknowledged(self, at: int) -> Iterator[str]:
        """Yield the notes among the first ``at`` events."""
        return (event.file for event in self.events[:at] if event.kind == "note")


def _part_of(waiting: Sequence[Event], rng: random.Random | None) -> Iterator[Event]:
    if rng is None:
        return
    share = rng.choice([0.0, 0.3, 0.7, 1.0])
    for event in waiting:
        if rng.random() >= share:
            continue
        sectors = len(event.content) // _SECTOR_BYTES
        if event.kind == "write" and sectors and rng.random() < 0.2:
            kept = rng.randrange(sectors) * _SECTOR_BYTES
            yield Event("write", event.file, event.offset, event.content[:kept])
        else:
            yield event


def _apply(files: dict[str, bytes], event: Event) -> None:
    if event.kind == "delete":
        files.pop(event.file, None)
        return
    content = files.get(event.file, b"")
    if event.kind == "truncate":
        files[event.file] = content[: event.offset].ljust(event.offset, b"\0")
        return
    end = event.offset + len(event.content)
    content = content.ljust(end, b"\0")
    files[event.file] = content[: event.offset] + event.content + content[end:]


class _RecordedVfs(apsw.VFS):
    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.name = f"{_VFS}-{id(disk)}"
        super().__init__(self.name, "")

    def xOpen(self, name: Any, flags: list[int]) -> Any:  # noqa: N802 - SQLite's name
        return _RecordedFile(self.disk, name, flags)

    def xDelete(self, name: str, sync_folder: bool) -> None:  # noqa: N802 - SQLite's name
        super().xDelete(name, sync_folder)
        self.disk.events.append(Event("delete", Path(name).name))
        if sync_folder:
            self.disk.events.append(Event("sync", Path(name).name))


class _RecordedFile(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._name = Path(path).name if path else ""
        super().__init__("", name, flags)

    def xWrite(self, content: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        self._disk.spend()
        super().xWrite(content, offset)
        self._disk.events.append(Event("write", self._name, offset, bytes(content)))

    def xTruncate(self, size: int) -> None:  # noqa: N802 - SQLite's name
        super().xTruncate(size)
        self._disk.events.append(Event("truncate", self._name, size))

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        super().xSync(flags)
        self._disk.events.append(Event("sync", self._name))


class _Result:
    def __init__(self, rows: list[tuple[Any, ...]], lastrowid: int) -> None:
        self._rows = iter(rows)
        self.lastrowid = lastrowid

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self._rows

    def fetchone(self) -> tuple[Any, ...] | None:
        return next(self._rows, None)

    def fetchall(self) -> list[tuple[Any, ...]]:
        return list(self._rows)


class _Connection:
    """An APSW connection in the shape of ``sqlite3.Connection``, as far as the gallery uses it."""

    def __init__(self, inner: apsw.Connection) -> None:
        self._inner = inner

    def execute(self, statement: str, values: Sequence[Any] = ()) -> _Result:
        with _as_sqlite3_errors():
            rows = [tuple(row) for row in self._inner.execute(statement, tuple(values))]
            return _Result(rows, self._inner.last_insert_rowid())

    @property
    def in_transaction(self) -> bool:
        return bool(self._inner.in_transaction)

    def close(self) -> None:
        with _as_sqlite3_errors():
            self._inner.close()


class _as_sqlite3_errors:  # noqa: N801 - used like a function
    def __enter__(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, (apsw.CorruptError, apsw.NotADBError)):
            raise sqlite3.DatabaseError(str(error)) from error
        if isinstance(error, apsw.Error):
            raise sqlite3.OperationalError(str(error)) from error
