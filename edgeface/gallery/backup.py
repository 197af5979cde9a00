"""Backups of a whole gallery, as encrypted as the gallery itself, and their way back."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeface.errors import GalleryError, GalleryFormatError, GalleryKeyError
from edgeface.gallery.anchor import Anchor
from edgeface.gallery.forgetting import forgotten_mark, note_backup
from edgeface.gallery.key_sources import KeySource
from edgeface.gallery.keys import GalleryKeys, KeyOptions, make_slot
from edgeface.gallery.ledger import Change, Head, Ledger
from edgeface.gallery.schema import as_gallery_errors, open_connection, sync_folder
from edgeface.gallery.vault import Vault

__all__ = ["Restored", "back_up", "restore", "set_key_source"]

_ENDS = ("-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restored gallery holds.

    ``forgotten_again`` counts people of the backup who were forgotten since it was made, and were
    left out. ``set_aside`` is where the file that was in its place went, when it was damaged.
    """

    people: int
    forgotten_again: int
    set_aside: Path | None = None


def back_up(vault: Vault, target: Path, at: str, extra: KeySource | None = None) -> None:
    """Write a copy of the gallery to ``target``, consistent while others write; ``at`` is now.

    The copy opens with the keys of the gallery, and also with that of ``extra``: without one, it
    is of no use where the device is lost.

    Raises:
        GalleryError: There is a file at ``target``, or it cannot be written.
        GalleryKeyError: ``extra`` gave no key.
    """
    target = target.absolute()
    if os.path.lexists(target):
        raise GalleryError(f"{target} is there already; choose another name for the backup")
    note_backup(vault, target, at)
    with as_gallery_errors(target), _temporary(target) as new:
        with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as connection:
            vault.copy_to(connection)
            connection.execute("PRAGMA journal_mode = DELETE")
            if extra is not None:
                _add_slot(connection, vault.keys, extra)
        with new.open("rb") as file:
            os.fsync(file.fileno())
        target.hardlink_to(new)
    sync_folder(target.parent)


def restore(backup: Path, path: Path, options: KeyOptions, *, replace: bool = False) -> Restored:
    """Put the gallery of ``backup`` at ``path``; the backup itself stays as it is.

    ``replace`` allows a gallery to be there: people who were forgotten in it stay forgotten. One
    that is damaged is set aside under another name.

    Raises:
        GalleryFormatError: The backup is not a gallery, or was changed. ``path`` is as it was.
        GalleryKeyError: The key of the backup is not at hand.
        GalleryError: There is a gallery and ``replace`` is false, or others use it.
    """
    backup, path = backup.absolute(), path.absolute()
    there = os.path.lexists(path)
    if there and not replace:
        raise GalleryError(f"{path} is there already; allow that it is replaced, or choose another")
    with as_gallery_errors(path), _temporary(path) as new:
        shutil.copyfile(backup, new)
        vault = Vault.open(new, options, check_anchor=False)
        try:
            marks = _marks_of(path, options, vault.keys.gallery_id) if there else {}
            again = _forget_again(vault, marks or {})
            _go_beyond_anchor(vault, options)
            people = len(vault.people.subjects)
            if not vault.empty_log():
                raise GalleryError(f"the restored gallery {new} is in use; try again")
        finally:
            vault.close()
        aside = None if not there else _make_room(path, damaged=marks is None)
        new.replace(path)
        sync_folder(path.parent)
        Vault.open(path, options, keys=vault.keys).close()
    return Restored(people, again, aside)


def set_key_source(vault: Vault, source: KeySource, *, keep_others: bool = False) -> None:
    """Keep the gallery's key in ``source`` from now on, and unless ``keep_others`` nowhere else.

    Raises:
        GalleryKeyError: The source does not exist here, is not safe, or refused.
    """
    slot = make_slot(vault.keys, source)
    if slot is None:
        raise GalleryKeyError(f"there is no {source.name} here to keep the gallery's key in")
    with vault.changing() as change:
        rows = change.connection.execute("SELECT id, source FROM slot").fetchall()
        for row_id, name in rows:
            if not keep_others or name == slot.source:
                change.delete("slot", row_id)
        change.insert("slot", slot.source, slot.key_id, slot.parameters, slot.wrapped)
    vault.empty_log()


@contextlib.contextmanager
def _temporary(beside: Path) -> Iterator[Path]:
    """Give a new file of mode 0600 in the folder of ``beside``; it is gone afterwards."""
    if not beside.parent.is_dir():
        raise GalleryError(f"the folder {beside.parent} does not exist; make it first")
    handle, name = tempfile.mkstemp(prefix=".gallery-", dir=beside.parent)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        for end in ("", *_ENDS):
            Path(name + end).unlink(missing_ok=True)


def _add_slot(connection: sqlite3.Connection, keys: GalleryKeys, source: KeySource) -> None:
    slot = make_slot(keys, source)
    if slot is None:
        raise GalleryKeyError(f"there is no {source.name} here to open the backup with")
    ledger = Ledger(keys)
    connection.execute("BEGIN IMMEDIATE")
    change = Change(connection, ledger, ledger.read(connection))
    for (row_id,) in connection.execute("SELECT id FROM slot WHERE source = ?", (slot.source,)):
        change.delete("slot", row_id)
    change.insert("slot", slot.source, slot.key_id, slot.parameters, slot.wrapped)
    change.finish()
    connection.execute("COMMIT")


def _marks_of(path: Path, options: KeyOptions, gallery_id: str) -> dict[bytes, str] | None:
    """Return the receipts of the people forgotten in the gallery at ``path``, by their marks.

    None stands for a gallery that cannot be read.
    """
    try:
        vault = Vault.open(path, options, check_anchor=False)
    except (GalleryFormatError, GalleryKeyError):
        return None
    try:
        if vault.keys.gallery_id != gallery_id:
            raise GalleryError(
                f"{path} is another gallery than the one of the backup; choose another path"
            )
        with vault.reading() as connection:
            return dict(connection.execute("SELECT mark, receipt FROM forgotten").fetchall())
    finally:
        vault.close()


def _forget_again(vault: Vault, marks: dict[bytes, str]) -> int:
    """Remove who was forgotten after the backup was made; return how many there were."""
    with vault.changing() as change:
        known = {row[0] for row in change.connection.execute("SELECT mark FROM forgotten")}
        again = [
            entry
            for entry in vault.people.subjects.values()
            if forgotten_mark(vault.keys, entry.uid) in marks
        ]
        for entry in again:
            crops = change.connection.execute(
                "SELECT id FROM crop WHERE subject = ?", (entry.row_id,)
            ).fetchall()
            for (row_id,) in crops:
                change.delete("crop", row_id)
            for row_id in vault.people.template_rows_of(entry.row_id):
                change.delete("template", row_id)
            change.delete("subject", entry.row_id)
        for mark, receipt in marks.items():
            if mark not in known:
                change.insert("forgotten", mark, 1, receipt)
    vault.rewrite()
    return len(again)


def _go_beyond_anchor(vault: Vault, options: KeyOptions) -> None:
    """Make the head newer than what this machine has seen: an older file comes in on purpose."""
    anchor = Anchor(options.anchor_folder(), vault.keys, Ledger(vault.keys))
    state = anchor.read()
    if state is None or state.counter < vault.head.counter:
        return
    with vault.changing() as change:
        change.head = Head(state.counter, change.head.digest)


def _make_room(path: Path, *, damaged: bool) -> Path | None:
    """Leave nothing of the gallery at ``path`` that a new file there would be mixed with."""
    if not damaged:
        with contextlib.closing(open_connection(path)) as connection:
            if connection.execute("PRAGMA journal_mode = DELETE").fetchone()[0] != "delete":
                raise GalleryError(f"another process uses the gallery {path}; close it first")
        return None
    number = next(n for n in range(1, 10_000) if not _aside(path, n).exists())
    aside = _aside(path, number)
    # The log goes first: beside a new file of the old name it would be read into it.
    for end in (*_ENDS, ""):
        file = path.with_name(path.name + end)
        if os.path.lexists(file):
            file.rename(aside.with_name(aside.name + end))
    return aside


def _aside(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.damaged-{number}")
