"""The key that the devices of a fleet share, and that the server never has."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from edgeface.errors import GalleryKeyError
from edgeface.gallery.sealing import KEY_BYTES, Field, derive, keyed_hash, new_key

__all__ = ["FleetKey", "make_key_file", "read_key_file"]

_FIRST_WORD = "edgeface-fleet-key-1"
_MAX_FILE_BYTES = 4096
_NAME_BYTES = 16


@dataclass(frozen=True, slots=True)
class FleetKey:
    """32 random bytes; whoever has them reads everything that the fleet keeps on its server."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise GalleryKeyError(f"a fleet key has {KEY_BYTES} bytes, got {len(self.secret)}")

    @property
    def fleet_id(self) -> str:
        """What the fleet is called on the server: 32 hexadecimal digits made from the key."""
        return self.name("fleet")

    @property
    def sealing(self) -> bytes:
        """The key that rows are sealed with."""
        return derive(self.secret, "fleet rows")

    def name(self, *fields: Field) -> str:
        """Return a name for ``fields`` that says nothing without the key: 32 hexadecimal digits."""
        return keyed_hash(derive(self.secret, "fleet names"), *fields)[:_NAME_BYTES].hex()


def make_key_file(path: Path) -> FleetKey:
    """Return a new key, written to ``path``, which must not exist; mode 0600.

    Raises:
        GalleryKeyError: There is a file, or it cannot be written.
    """
    key = FleetKey(new_key())
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(f"{_FIRST_WORD} {key.secret.hex()}\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        raise GalleryKeyError(f"the fleet key {path} cannot be written: {exc.strerror}") from exc
    return key


def read_key_file(path: Path) -> FleetKey:
    """Return the key in ``path``.

    Raises:
        GalleryKeyError: There is no such file, others may read it, or it holds no fleet key.
    """
    try:
        mode = path.stat().st_mode
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES)
    except OSError as exc:
        raise GalleryKeyError(f"the fleet key {path} cannot be read: {exc.strerror}") from exc
    if os.name == "posix" and mode & 0o077:
        raise GalleryKeyError(
            f"other users may read the fleet key {path} (mode {stat.S_IMODE(mode):04o}, wanted "
            f"0600); run: chmod 600 {path}"
        )
    try:
        word, digits = content.decode("ascii").split()
        secret = bytes.fromhex(digits)
    except ValueError:
        word, secret = "", b""
    if word != _FIRST_WORD or len(secret) != KEY_BYTES:
        raise GalleryKeyError(
            f"{path} holds no fleet key; `edgeface gallery fleet-key FILE` makes one, once for all "
            "devices"
        )
    return FleetKey(secret)
