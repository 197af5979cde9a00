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
from collections.abc import Callable, Iterator
from pathlib import Path

from edgeface.errors import GalleryError, GalleryFormatError
from edgeface.gallery.tables import STATEMENTS

__all__ = [
    "APPLICATION_ID",
    "SCHEMA_VERSION",
    "UNENCRYPTED_VERSION",
    "as_gallery_errors",
    "connect",
    "create_file",
    "file_version",
    "open_connection",
    "sync_folder",
    "write_beside",
]

APPLICATION_ID = 0x45474631
"""Bytes 68 to 71 of a gallery file: "EGF1"."""
SCHEMA_VERSION = 2
"""Schema 1 held names and templates unencrypted: see :mod:`edgeface.gallery.upgrade`."""
UNENCRYPTED_VERSION = 1
# 5 s: a commit takes about a millisecond; a lock held longer than this is a process that hangs.
_BUSY_TIMEOUT_S = 5.0

# https://www.sqlite.org/fileformat2.html: the magic is bytes 0-15, user_version 60-63 and
# application_id 68-71, big endian.
_HEADER_SIZE = 100
_MAGIC = b"SQLite format 3\x00"


# What SQLite says of a damaged schema or text by the same exception as of a full disk.
_DAMAGE = ("Could not decode", "unknown function", "no such ", "malformed")


def _damaged(path: Path, error: Exception) -> GalleryFormatError:
    # Only the kind is said: the text of a decoding error quotes what is stored.
    kind = (str(error).splitlines() or [""])[0][:60]
    return GalleryFormatError(f"the gallery {path} is damaged: {kind}; restore it from a backup")


@contextlib.contextmanager
def as_gallery_errors(path: Path) -> Iterator[None]:
    """Raise what SQLite and the system raise inside the block as errors of the gallery."""
    try:
        yield
    except sqlite3.OperationalError as exc:
        if str(exc).startswith(_DAMAGE):
            raise _damaged(path, exc) from exc
        raise GalleryError(
            f"the gallery {path} cannot be used: {exc}; check the free space and the rights of "
            "its folder, and that no other process holds it locked"
        ) from exc
    # UnicodeDecodeError: sqlite3 raises it when its own message quotes damaged text.
    except (sqlite3.Error, UnicodeDecodeError) as exc:
        raise _damaged(path, exc) from exc
    except OSError as exc:
        raise GalleryError(f"the gallery {path} cannot be used: {exc}") from exc


def create_file(path: Path, fill: Callable[[sqlite3.Connection], None]) -> bool:
    """Make a gallery at ``path``, mode 0600, whole or not at all; return whether it is ours.

    ``fill`` writes the first rows. The file is written under another name in the same folder and
    then linked into place, so that a power cut never leaves half a schema, and a gallery made by
    another process meanwhile stays.
    """
    new = write_beside(path, fill)
    try:
        path.hardlink_to(new)
    except FileExistsError:
        return False
    finally:
        new.unlink(missing_ok=True)
        sync_folder(path.parent)
    return True


def write_beside(path: Path, fill: Callable[[sqlite3.Connection], None]) -> Path:
    """Return a new gallery file in the folder of ``path``, filled, on the disk, mode 0600."""
    if not path.parent.is_dir():
        raise GalleryError(
            f"the folder {path.parent} does not exist; make it with: mkdir -m 700 {path.parent}"
        )
    handle, name = tempfile.mkstemp(prefix=".gallery-", dir=path.parent)
    os.close(handle)
    try:
        with contextlib.closing(sqlite3.connect(name, isolation_level=None)) as connection:
            _write_schema(connection, fill)
    except BaseException:
        for end in ("", "-journal", "-wal", "-shm"):
            Path(name + end).unlink(missing_ok=True)
        raise
    return Path(name)


def _write_schema(
    connection: sqlite3.Connection, fill: Callable[[sqlite3.Connection], None]
) -> None:
    # EXTRA also syncs the folder after the journal is gone.
    connection.execute("PRAGMA synchronous = EXTRA")
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("BEGIN")
    for statement in STATEMENTS:
        connection.execute(statement)
    fill(connection)
    # PRAGMA takes no bound parameters; both values are constants of this file.
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID:d}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION:d}")
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode = WAL")


def sync_folder(folder: Path) -> None:
    """Bring the names in ``folder`` to the disk."""
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
        GalleryFormatError: Not a gallery, damaged, of another schema, or not a plain file.
        GalleryError: Others may read the file, or it cannot be opened.
    """
    if file_version(path) != SCHEMA_VERSION:
        raise _other_version(path, file_version(path))
    connection = open_connection(path)
    try:
        _check_content(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
    except BaseException:
        connection.close()
        raise
    return connection


def open_connection(path: Path) -> sqlite3.Connection:
    """Return a connection to ``path`` with the settings of a gallery; nothing is checked."""
    connection = sqlite3.connect(
        path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    try:
        _apply_settings(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _apply_settings(connection: sqlite3.Connection) -> None:
    for setting in (
        "trusted_schema = OFF",
        "cell_size_check = ON",
        "foreign_keys = ON",
        "secure_delete = ON",
        "synchronous = FULL",
        # VACUUM copies the file: into memory, and not into a temporary folder.
        "temp_store = MEMORY",
    ):
        connection.execute(f"PRAGMA {setting}")


def file_version(path: Path) -> int:
    """Return the schema of the gallery file at ``path``, from its header.

    Raises:
        GalleryFormatError: Not a gallery, or not a plain file.
        GalleryError: Others may read the file.
    """
    _check_file(path)
    with path.open("rb") as file:
        header = file.read(_HEADER_SIZE)
    marked = int.from_bytes(header[68:72], "big") == APPLICATION_ID
    if len(header) < _HEADER_SIZE or not header.startswith(_MAGIC) or not marked:
        raise GalleryFormatError(f"{path} is not a gallery of edgeface; choose another path")
    return int.from_bytes(header[60:64], "big")


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


def _other_version(path: Path, version: int) -> GalleryFormatError:
    return GalleryFormatError(
        f"the gallery {path} has schema {version}, this release reads {SCHEMA_VERSION}; "
        "install the edgeface that wrote it, or a newer one"
    )


def _check_content(connection: sqlite3.Connection, path: Path) -> None:
    # The header is read again through SQLite: the newest one may still be in the log.
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != SCHEMA_VERSION:
        raise _other_version(path, version)
    # First: the check below runs what the schema says, and stumbles over one that was changed.
    if _schema_of(connection) != _expected_schema():
        raise GalleryFormatError(
            f"{path} has other tables than a gallery, or triggers or views, or is damaged; restore "
            "it from a backup, or choose another path"
        )
    damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    orphans = connection.execute("PRAGMA foreign_key_check").fetchone()
    if damage != "ok" or orphans is not None:
        what = damage if damage != "ok" else "templates without a subject"
        raise GalleryFormatError(f"the gallery {path} is damaged ({what}); restore it from a copy")


def _schema_of(connection: sqlite3.Connection) -> list[tuple[str, str, str | None]]:
    rows = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name")
    return rows.fetchall()


def _expected_schema() -> list[tuple[str, str, str | None]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        for statement in STATEMENTS:
            connection.execute(statement)
        return _schema_of(connection)
