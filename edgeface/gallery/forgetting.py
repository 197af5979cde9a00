"""Forgetting a person: the key is destroyed, the rows overwritten, and the files searched.

What is deleted in SQL alone stays in the log, whatever ``secure_delete`` says; so the log is
emptied, and every file of the gallery is searched for what was removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeface.errors import GalleryError, GalleryFormatError
from edgeface.gallery.keys import GalleryKeys
from edgeface.gallery.ledger import Change, Row
from edgeface.gallery.sealing import keyed_hash, seal, unseal
from edgeface.gallery.vault import Vault

__all__ = [
    "Receipt",
    "finish_forgetting",
    "forget",
    "forgotten_mark",
    "is_genuine",
    "note_backup",
    "receipts",
]

_OUT_OF_REACH = (
    "copies of the file that were not made by `edgeface gallery backup`",
    "spare blocks of a flash disk and snapshots of the file system, where the person's key lies "
    "wrapped by the gallery's key",
)
_SEARCHED = "every file of the gallery was searched for the removed bytes: none were found"
_REWRITTEN = "the file was written anew and its log emptied"
# Length of the pieces of a removed value that are looked for: no random bytes repeat these.
_NEEDLE_BYTES = 24
_BLOCK_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Receipt:
    """That a person was forgotten; it holds no name.

    ``receipt`` marks the person, and says nothing without the gallery's key. ``content_sha256``
    is the hash of the encrypted rows that were removed. ``proof`` says how it was checked, and is
    empty while another process kept the log in use. ``out_of_reach`` lists what may still hold
    the person. ``seal`` shows that this gallery wrote the receipt.
    """

    receipt: str
    gallery: str
    forgotten_at: str
    templates: int
    crops: int
    content_sha256: str
    proof: str
    out_of_reach: tuple[str, ...]
    seal: str

    def as_dict(self) -> dict[str, Any]:
        """Return the receipt for JSON."""
        return asdict(self)


def forgotten_mark(keys: GalleryKeys, person: bytes) -> bytes:
    """Return the mark of a forgotten person: 16 bytes."""
    return keyed_hash(keys.of("forgotten"), person)[:16]


def forget(vault: Vault, name: str, at: str) -> Receipt:
    """Destroy the key and the rows of the person called ``name``; ``at`` is the time, ISO 8601.

    Raises:
        SubjectNotFoundError: Nobody has that name.
        GalleryError: The person is removed, but another process was reading, so that the log
            still holds the old pages; opening the gallery again finishes it.
    """
    with vault.changing() as change:
        entry = vault.require(name)
        removed = _remove(vault, change, entry.row_id)
        mark = forgotten_mark(vault.keys, entry.uid)
        value = {
            "receipt": mark.hex(),
            "gallery": vault.keys.gallery_id,
            "forgotten_at": at,
            "templates": len(removed["template"]),
            "crops": len(removed["crop"]),
            "content_sha256": _content_hash(removed),
            "proof": "",
            "out_of_reach": [*_backups(vault, change), *_OUT_OF_REACH],
        }
        change.insert("forgotten", mark, 0, json.dumps(value))
    if not _emptied(vault):
        raise GalleryError(
            f"the subject is removed, but another process was reading {vault.path}, or the disk is "
            "full: its log still holds the old pages; the next opening of the gallery finishes it"
        )
    proof = _clean(vault, list(_needles(removed)))
    return _finish(vault, mark, proof)


def finish_forgetting(vault: Vault) -> bool:
    """Finish what a crash or another process interrupted; return whether nothing is left to do."""
    with vault.reading() as connection:
        pending = connection.execute("SELECT mark FROM forgotten WHERE cleaned = 0").fetchall()
    if not pending:
        return True
    try:
        vault.rewrite()
        if not vault.empty_log():
            return False
        for (mark,) in pending:
            _finish(vault, mark, _REWRITTEN)
    except GalleryFormatError:
        raise
    except GalleryError:  # a full disk must not keep anybody from the gallery
        return False
    return True


def receipts(vault: Vault) -> list[Receipt]:
    """Return the receipts of everybody who was forgotten, oldest first."""
    with vault.reading() as connection:
        rows = connection.execute("SELECT receipt FROM forgotten ORDER BY id").fetchall()
    return [_sealed(vault.keys, json.loads(text)) for (text,) in rows]


def note_backup(vault: Vault, backup: Path, at: str) -> None:
    """Remember that a backup was made, so that receipts can name it."""
    text = json.dumps({"path": str(backup), "at": at}).encode()
    with vault.changing() as change:
        number = change.connection.execute("SELECT count(*) FROM meta").fetchone()[0]
        key = f"backup-{number}-{vault.head.counter}"
        note = seal(vault.keys.of("notes"), text, vault.keys.gallery_id, key)
        change.insert("meta", key, note.hex())


def _backups(vault: Vault, change: Change) -> list[str]:
    rows = change.connection.execute(
        "SELECT key, value FROM meta WHERE key LIKE 'backup-%' ORDER BY id"
    ).fetchall()
    found = []
    for key, value in rows:
        sealed = bytes.fromhex(value)
        note = json.loads(unseal(vault.keys.of("notes"), sealed, vault.keys.gallery_id, key))
        found.append(f"the backup {note['path']} of {note['at']}")
    return found


def _emptied(vault: Vault) -> bool:
    try:
        return vault.empty_log()
    except GalleryFormatError:
        raise
    except GalleryError:
        return False


def _remove(vault: Vault, change: Change, subject: int) -> dict[str, list[Row]]:
    rows = change.connection.execute("SELECT id FROM crop WHERE subject = ?", (subject,))
    wanted = {
        "crop": [row_id for (row_id,) in rows.fetchall()],
        "template": vault.people.template_rows_of(subject),
        "subject": [subject],
    }
    removed: dict[str, list[Row]] = {}
    for table, row_ids in wanted.items():
        removed[table] = [change.row(table, row_id) for row_id in row_ids]
        for row_id in row_ids:
            change.delete(table, row_id)
    return removed


def _blobs(removed: Mapping[str, Iterable[Row]]) -> Iterable[bytes]:
    for rows in removed.values():
        for row in rows:
            yield from (value for value in row if isinstance(value, bytes))


def _needles(removed: Mapping[str, Iterable[Row]]) -> Iterable[bytes]:
    """Give pieces of everything removed, short enough to lie on one page of the file."""
    for blob in _blobs(removed):
        if len(blob) <= _NEEDLE_BYTES:
            yield blob
        for start in range(0, len(blob) - _NEEDLE_BYTES + 1, 512):
            yield blob[start : start + _NEEDLE_BYTES]


def _content_hash(removed: Mapping[str, Iterable[Row]]) -> str:
    digest = hashlib.sha256()
    for blob in _blobs(removed):
        digest.update(len(blob).to_bytes(8, "big") + blob)
    return digest.hexdigest()


def _clean(vault: Vault, needles: list[bytes]) -> str:
    """Return how it was shown that none of ``needles`` is left.

    Raises:
        GalleryError: One is, although the file was written anew.
    """
    if not _found(vault.path, needles):
        return _SEARCHED
    vault.rewrite()
    if not vault.empty_log() or _found(vault.path, needles):
        raise GalleryError(
            f"the subject is removed, but bytes of it are still in {vault.path}; close every "
            "process that uses the gallery and open it again"
        )
    return _SEARCHED


def _found(path: Path, needles: list[bytes]) -> bool:
    for file in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))):
        with contextlib.suppress(FileNotFoundError), file.open("rb") as opened:
            # A large gallery must not be in memory as a whole.
            before = b""
            while block := opened.read(_BLOCK_BYTES):
                content = before + block
                if any(needle in content for needle in needles):
                    return True
                before = block[-_NEEDLE_BYTES:]
    return False


def _finish(vault: Vault, mark: bytes, proof: str) -> Receipt:
    with vault.changing() as change:
        row = change.connection.execute(
            "SELECT id, receipt FROM forgotten WHERE mark = ?", (mark,)
        ).fetchone()
        value = {**json.loads(row[1]), "proof": proof}
        change.update("forgotten", row[0], mark, 1, json.dumps(value))
    return _sealed(vault.keys, value)


def _sealed(keys: GalleryKeys, value: Mapping[str, Any]) -> Receipt:
    text = json.dumps(dict(value), sort_keys=True)
    mac = keyed_hash(keys.of("receipt"), text).hex()
    parts = {**value, "out_of_reach": tuple(value["out_of_reach"]), "seal": mac}
    return Receipt(**parts)


def is_genuine(vault: Vault, receipt: Mapping[str, Any]) -> bool:
    """Return whether this gallery wrote ``receipt``, and nothing in it was changed."""
    value = {name: part for name, part in receipt.items() if name != "seal"}
    value["out_of_reach"] = list(value.get("out_of_reach", ()))
    expected = keyed_hash(vault.keys.of("receipt"), json.dumps(value, sort_keys=True)).hex()
    return hmac.compare_digest(expected, str(receipt.get("seal", "")))
