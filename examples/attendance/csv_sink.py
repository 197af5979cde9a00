"""Events as lines of a CSV file."""

from __future__ import annotations

import csv
import io
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from examples.attendance.courier import Roll, SinkError
from examples.attendance.spreadsheets import inert
from examples.attendance.values import Person

__all__ = ["CsvSink"]

_COLUMNS = (
    "local",
    "kind",
    "number",
    "name",
    "camera",
    "method",
    "at",
    "recorded",
    "action",
    "arrived",
    "departed",
    "person_id",
    "visit_id",
    "id",
)
_PERSON = _COLUMNS.index("person_id")
# A crash can repeat one delivery at most; its lines are the last of the file.
_TAIL_BYTES = 1 << 16


class CsvSink:
    """Appends to ``path``, which is on the disk when a delivery returns; every id is there once."""

    name = "csv"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: set[str] | None = None
        # A delivery that began before somebody was forgotten must not write them again.
        self._forgotten: set[str] = set()

    def start(self, roll: Callable[[], Roll]) -> None:
        """Do nothing: a file needs no connection."""

    def deliver(self, payloads: Sequence[Mapping[str, object]]) -> int:
        """Append events; return how many."""
        with self._lock:
            try:
                known = self._known = self._known or self._mend()
                self._append([one for one in payloads if self._is_new(one, known)])
            except OSError as exc:
                # What a failed write left is looked at anew.
                self._known = None
                raise SinkError(f"{self._path.name} cannot be written: {exc.strerror}") from exc
            # Only what a crash repeats is of interest: the file may be large.
            self._known = {str(one["id"]) for one in payloads}
        return len(payloads)

    def forget(self, person: Person) -> None:
        """Write the file anew without the lines of a person."""
        with self._lock:
            self._forgotten.add(person.id)
            try:
                self._rewrite_without(person.id)
            except (OSError, csv.Error, UnicodeDecodeError) as exc:
                raise SinkError(
                    f"{self._path.name} cannot be written anew without the person: "
                    f"{type(exc).__name__}; take their lines out by hand"
                ) from exc

    def close(self) -> None:
        """Do nothing: the file is open only while it is written."""

    def _is_new(self, payload: Mapping[str, object], known: set[str]) -> bool:
        if str(payload["id"]) in known:
            return False
        return "name" not in payload or payload["person_id"] not in self._forgotten

    def _rewrite_without(self, person_id: str) -> None:
        if not self._path.exists():
            return
        with self._path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if row[_PERSON : _PERSON + 1] != [person_id]]
        temporary = self._path.with_name(self._path.name + ".new")
        self._write(temporary, _text(rows), os.O_TRUNC)
        temporary.replace(self._path)

    def _append(self, payloads: Sequence[Mapping[str, object]]) -> None:
        rows = [[inert(one.get(name)) for name in _COLUMNS] for one in payloads]
        if not self._path.exists() or self._path.stat().st_size == 0:
            rows.insert(0, list(_COLUMNS))
        self._write(self._path, _text(rows), os.O_APPEND)

    def _write(self, path: Path, text: str, mode: int) -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | mode, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())

    def _mend(self) -> set[str]:
        """Cut off a line that a crash left unfinished; return the last ids of the file."""
        if not self._path.exists():
            return set()
        with self._path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            tail = file.read()
            whole = tail.rfind(b"\n") + 1
            if whole < len(tail):
                file.truncate(size - len(tail) + whole)
        lines = tail[:whole].decode("utf-8", "replace").splitlines()
        return {line.rpartition(",")[2] for line in lines}


def _text(rows: Sequence[Sequence[object]]) -> str:
    out = io.StringIO(newline="")
    csv.writer(out).writerows(rows)
    return out.getvalue()
