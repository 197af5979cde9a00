"""The gallery file: how it is made, and what is checked before it is trusted.

A file is refused before SQLite writes to it: the checks read the header and the schema first, so
that a file that is not a gallery, or is damaged, stays as it was.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgeface.errors import GalleryError, GalleryFormatError

__all__ = ["APPLICATION_ID", "SCHEMA_VERSION", "as_gallery_errors", "connect", "create_file"]

APPLICATION_ID = 0x45474631
"""Bytes 68 to 71 of a gallery file: "EGF1"."""
SCHEMA_VERSION = 1
# 5 s: a commit takes about a millisecond; a lock held longer than this is a process that hangs.
_BUSY_TIMEOUT_S = 5.0

# quick_check tests the CHECK clauses of stored rows. A vector has none: one that is unusable is
# set aside by itself, and does not cost the whole gallery.
_TABLES = (
    """CREATE TABLE meta (
    key TEXT PRIMARY KEY NOT NULL CHECK (typeof(key) = 'text'),
    value TEXT NOT NULL CHECK (typeof(value) = 'text')
)""",
    """CREATE TABLE subject (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE CHECK (typeof(name) = 'text'),
    created_at TEXT NOT NULL CHECK (typeof(created_at) = 'text')
)""",
    """CREATE TABLE template (
    id INTEGER PRIMARY KEY,
    subject_id INTEGER NOT NULL REFERENCES subject (id) ON DELETE CASCADE,
    vector BLOB NOT NULL,
    quality REAL NOT NULL CHECK (typeof(quality) = 'real'),
    source TEXT NOT NULL CHECK (typeof(source) = 'text'),
    created_at TEXT NOT NULL CHECK (typeof(created_at) = 'text')
)""",
    "CREATE INDEX template_of_subject ON template (subject_id)",
)

# https://www.sqlite.org/fileformat2.html: the magic is bytes 0-15, user_version 60-63 and
# application_id 68-71, big endian.
_HEADER_SIZE = 100
_MAGIC = b"SQLite format 3\x00"


@contextlib.contextmanager
def as_gallery_errors(path: Path) -> Iterator[None]:
    """Raise what SQLite and the system raise inside the block as errors of the gallery."""
    try:
        yield
    except sqlite3.OperationalError as exc:
        raise GalleryError(
            f"the gallery {path} cannot be used: {exc}; check the free space and the rights of "
            "its folder, and that no other process holds it locked"
        ) from exc
    # UnicodeDecodeError: sqlite3 raises it when its own message quotes damaged text.
    except (sqlite3.Error, UnicodeDecodeError) as exc:
        raise GalleryFormatError(
            f"the gallery {path} is damaged: {exc}; restore it from a copy"
        ) from exc
    except OSError as exc:
        raise GalleryError(f"the gallery {path} cannot be used: {exc}") from exc


def create_file(path: Path, meta: Mapping[str, str]) -> None:
    """Make an empty gallery at ``path``, mode 0600, whole or not at all.

    The file is written under another name in the same folder and then linked into place, so that
    a power cut never leaves half a schema, and a gallery made by another process meanwhile stays.
    """
    if not path.parent.is_dir():
        raise GalleryError(
            f"the folder {path.parent} does not exist; make it with: mkdir -m 700 {path.parent}"
        )
    handle, name = tempfile.mkstemp(prefix=".gallery-", dir=path.parent)
    os.close(handle)
    new = Path(name)
    try:
        _write_schema(new, meta)
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(new)
    finally:
        new.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _write_schema(path: Path, meta: Mapping[str, str]) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN")
        for statement in _TABLES:
            connection.execute(statement)
        connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        # PRAGMA takes no bound parameters; both values are constants of this file.
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID:d}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION:d}")
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # pragma: no cover - other systems cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection to the gallery at ``path``, after every check.

    Raises:
        GalleryFormatError: Not a gallery, damaged, of a newer schema, or not a plain file.
        GalleryError: Others may read the file, or it cannot be opened.
    """
    _check_file(path)
    _check_header(path)
    connection = sqlite3.connect(
        path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    try:
        for setting in (
            "trusted_schema = OFF",
            "cell_size_check = ON",
            "foreign_keys = ON",
            "secure_delete = ON",
            "synchronous = FULL",
        ):
            connection.execute(f"PRAGMA {setting}")
        _check_content(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
    except BaseException:
        connection.close()
        raise
    return connection


def _check_file(path: Path) -> None:
    info = path.lstat()
    if not stat.S_ISREG(info.st_mode):
        raise GalleryFormatError(
            f"{path} is a folder, a link or a device; a gallery is a plain file"
        )
    # Templates can be turned back into faces: nobody but the owner may read them.
    if os.name == "posix" and info.st_mode & 0o077:
        raise GalleryError(
            f"other users may read or write the gallery {path} (mode "
            f"{stat.S_IMODE(info.st_mode):04o}, wanted 0600); run: chmod 600 {path}"
        )


def _check_header(path: Path) -> None:
    with path.open("rb") as file:
        header = file.read(_HEADER_SIZE)
    marked = int.from_bytes(header[68:72], "big") == APPLICATION_ID
    if len(header) < _HEADER_SIZE or not header.startswith(_MAGIC) or not marked:
        raise GalleryFormatError(f"{path} is not a gallery of edgeface; choose another path")
    _check_version(int.from_bytes(header[60:64], "big"), path)


def _check_version(version: int, path: Path) -> None:
    if version != SCHEMA_VERSION:
        raise GalleryFormatError(
            f"the gallery {path} has schema {version}, this release reads {SCHEMA_VERSION}; "
            "install the edgeface that wrote it, or a newer one"
        )


def _check_content(connection: sqlite3.Connection, path: Path) -> None:
    # The header is read again through SQLite: the newest one may still be in the log.
    _check_version(connection.execute("PRAGMA user_version").fetchone()[0], path)
    found = _schema_of(connection)
    damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    orphans = connection.execute("PRAGMA foreign_key_check").fetchone()
    if damage != "ok" or orphans is not None:
        what = damage if damage != "ok" else "templates without a subject"
        raise GalleryFormatError(f"the gallery {path} is damaged ({what}); restore it from a copy")
    if found != _expected_schema():
        raise GalleryFormatError(
            f"{path} has other tables than a gallery, or triggers or views; choose another path"
        )


def _schema_of(connection: sqlite3.Connection) -> list[tuple[str, str, str | None]]:
    rows = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name")
    return rows.fetchall()


def _expected_schema() -> list[tuple[str, str, str | None]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        for statement in _TABLES:
            connection.execute(statement)
        return _schema_of(connection)
