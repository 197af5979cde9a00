"""The key of the templates in a recorded run."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from edgeface.errors import RunRecordError

__all__ = ["make_run_key", "read_run_key"]

_KEY_BYTES = 32


def make_run_key(path: str | os.PathLike[str]) -> bytes:
    """Return a new key of 32 bytes, written to ``path`` for its owner alone.

    Raises:
        RunRecordError: The file exists or cannot be written.
    """
    file, key = Path(path), secrets.token_bytes(_KEY_BYTES)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(key.hex() + "\n")
    except OSError as exc:
        raise RunRecordError(f"the key {file} cannot be made: {exc}; name a new file") from exc
    return key


def read_run_key(path: str | os.PathLike[str]) -> bytes:
    """Return the key in the file at ``path``.

    Raises:
        RunRecordError: There is none, it is none, or others can read it.
    """
    file = Path(path)
    try:
        mode = file.stat().st_mode
        with file.open(encoding="ascii") as stream:
            key = bytes.fromhex(stream.read(4 * _KEY_BYTES).strip())
    except (OSError, ValueError) as exc:
        raise RunRecordError(f"{file} holds no key of a run: {exc}") from exc
    if len(key) != _KEY_BYTES:
        raise RunRecordError(f"{file} holds {len(key)} bytes, a key of a run has {_KEY_BYTES}")
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise RunRecordError(f"others can read the key {file}; run `chmod 600` on it")
    return key
