"""The keys of one door: one secret, kept where a gallery's key is, and what is derived of it."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeface.backends.sealed_file import open_plain
from edgeface.errors import AccessStateError, GalleryKeyError
from edgeface.gallery.keys import GalleryKeys, KeyOptions, Slot, new_gallery_slot, unlock
from edgeface.gallery.sealing import KEY_BYTES, keyed_hash

__all__ = ["KEY_FILE", "AccessKeys"]

KEY_FILE = "key.json"
_MAX_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class AccessKeys:
    """The derived keys of one door, 32 bytes each. ``door_id`` is random and names nobody."""

    door_id: str
    _keys: GalleryKeys

    @classmethod
    def of_secret(cls, secret: bytes, door_id: str = "door") -> AccessKeys:
        """Return the keys of a 32-byte secret that the caller keeps.

        Raises:
            GalleryKeyError: It has another length.
        """
        if len(secret) != KEY_BYTES:
            raise GalleryKeyError(f"a secret has {KEY_BYTES} bytes, got {len(secret)}")
        return cls(door_id, GalleryKeys(door_id, secret, "caller"))

    @classmethod
    def open(cls, folder: Path, options: KeyOptions | None = None) -> AccessKeys:
        """Return the keys of the door whose state is in ``folder``.

        The secret is wrapped in the file ``key.json`` there; what unwraps it is kept by the first
        of the gallery's key sources that exists.

        Raises:
            AccessStateError: There is no such file, or it is damaged or open to others.
            GalleryKeyError: The key is not at hand, or is a wrong one.
        """
        data = _read(folder / KEY_FILE)
        try:
            door_id = str(data["door_id"])
            slot = Slot(
                str(data["source"]),
                bytes.fromhex(data["key_id"]),
                str(data["parameters"]),
                bytes.fromhex(data["wrapped"]),
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise AccessStateError(f"{folder / KEY_FILE} is damaged: {exc!r}") from exc
        return cls(door_id, unlock(door_id, [slot], options or KeyOptions()))

    @classmethod
    def create(cls, folder: Path, options: KeyOptions | None = None) -> AccessKeys:
        """Return new keys, their secret wrapped in ``key.json`` of ``folder``.

        Raises:
            AccessStateError: The folder has keys already.
            GalleryKeyError: No protected place for the key exists here, and a plain file was not
                asked for.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / KEY_FILE
        if os.path.lexists(path):
            raise AccessStateError(f"{path} is there already; open it, or choose another folder")
        door_id = secrets.token_hex(16)
        keys, slot = new_gallery_slot(door_id, options or KeyOptions())
        content = {
            "door_id": door_id,
            "source": slot.source,
            "key_id": slot.key_id.hex(),
            "parameters": slot.parameters,
            "wrapped": slot.wrapped.hex(),
        }
        _write(path, json.dumps(content, sort_keys=True).encode())
        return cls(door_id, keys)

    @property
    def lease(self) -> bytes:
        """Signs leases; the lock has it, too."""
        return self._keys.of("access lease")

    @property
    def state(self) -> bytes:
        """Seals the state of the door."""
        return self._keys.of("access state")

    @property
    def audit(self) -> bytes:
        """Chains the records of the audit log."""
        return self._keys.of("access audit")

    @property
    def audit_head(self) -> bytes:
        """Seals the head of the audit log."""
        return self._keys.of("access audit head")

    @property
    def factors(self) -> bytes:
        """Encrypts PINs and the secrets of one-time passwords."""
        return self._keys.of("access factors")

    def pseudonym(self, subject: str) -> str:
        """Return what stands for ``subject`` in the state and the log: 32 hexadecimal digits."""
        return keyed_hash(self._keys.of("access names"), subject)[:16].hex()


def _read(path: Path) -> dict[str, Any]:
    try:
        with open_plain(path) as file:
            facts = os.fstat(file.fileno())
            content = file.read(_MAX_BYTES)
    except OSError as exc:
        raise AccessStateError(f"the keys {path} cannot be read: {exc.strerror}") from exc
    if os.name == "posix" and facts.st_mode & 0o077:
        raise AccessStateError(f"{path} must be a plain file with mode 0600")
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as exc:
        raise AccessStateError(f"{path} is damaged: {exc}") from exc
    if not isinstance(data, dict):
        raise AccessStateError(f"{path} is damaged: wanted an object")
    return data


def _write(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=".key-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # A hard link replaces no file.
        os.link(name, path)
    except FileExistsError as exc:
        raise AccessStateError(f"{path} is there already") from exc
    finally:
        Path(name).unlink(missing_ok=True)
