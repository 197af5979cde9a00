"""Files that only this user of this machine can have written.

A TensorRT engine is native code for the GPU, and its loader does not detect tampering. So a file
is believed only if an HMAC-SHA256 over all of it fits a key that never leaves this machine.

Layout: magic (8 bytes), HMAC (32), length of the header (4, little endian), header (JSON), payload.
The HMAC covers everything after itself, and the magic.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from edgeface.errors import BackendError

__all__ = [
    "KEY_FILE",
    "Refusal",
    "Sealed",
    "open_plain",
    "read_sealed",
    "user_key",
    "write_sealed",
]

KEY_FILE = "key"
_KEY_BYTES = 32
_MAGIC = b"EFSEAL01"
_MAC_BYTES = 32
_START = len(_MAGIC) + _MAC_BYTES
_MAX_BYTES = 4 << 30
_MAX_HEADER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Sealed:
    """A file whose HMAC fits: its header and payload."""

    header: Mapping[str, Any]
    payload: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a file is not believed."""

    ABSENT: ClassVar[str] = "not there"
    reason: str

    def __str__(self) -> str:
        return self.reason


def user_key(folder: Path) -> bytes:
    """Return this user's key in ``folder``; it is drawn when there is none.

    Raises:
        BackendError: The key file can be read or written by others, is not a plain file of this
            user, or has another length. It is never replaced in silence.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / KEY_FILE
    if not path.exists() and not path.is_symlink():
        _draw_key(path)
    try:
        opened = open_plain(path)
    except OSError as exc:
        raise BackendError(f"the key file {path} cannot be read: {exc.strerror}") from exc
    with opened as file:
        facts = os.fstat(file.fileno())
        key = file.read(_KEY_BYTES + 1)
    problem = _key_problem(facts, key)
    if problem:
        raise BackendError(
            f"the key file {path} {problem}, so engines sealed with it prove nothing; delete the "
            f"folder {folder}: engines are then built again"
        )
    return key


def _key_problem(facts: os.stat_result, key: bytes) -> str:
    if not stat.S_ISREG(facts.st_mode):
        return "is not a plain file"
    # Windows keeps access elsewhere; a user's profile is closed to others there.
    if os.name != "nt" and facts.st_uid != os.getuid():
        return "belongs to another user"
    if os.name != "nt" and facts.st_mode & 0o077:
        return f"is open to others (mode {stat.S_IMODE(facts.st_mode):04o}, wanted 0600)"
    return "" if len(key) == _KEY_BYTES else f"has not {_KEY_BYTES} bytes"


def _draw_key(path: Path) -> None:
    """Put a new key at ``path`` unless another process was faster; never a part of one."""
    # mkstemp makes the file with mode 0600. A hard link is all or nothing and replaces no file.
    handle, name = tempfile.mkstemp(prefix=".key-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def write_sealed(path: Path, header: Mapping[str, Any], payload: bytes, key: bytes) -> None:
    """Write ``header`` and ``payload`` to ``path``: all of it or nothing, readable by this user."""
    text = json.dumps(header, sort_keys=True, allow_nan=False).encode()
    length = len(text).to_bytes(4, "little")
    mac = _mac(key, (length, text, payload))
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines((_MAGIC, mac, length, text, payload))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def open_plain(path: Path) -> BinaryIO:
    """Return the file at ``path``, open for reading; never waits, and follows no link.

    A named pipe in the place of a file would hold up whoever opens it until somebody writes.

    Raises:
        OSError: It cannot be opened, is a link, or is not a plain file.
    """
    names = ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY")
    flags = os.O_RDONLY
    for name in names:
        flags |= getattr(os, name, 0)
    handle = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    return os.fdopen(handle, "rb")


def read_sealed(path: Path, key: bytes) -> Sealed | Refusal:
    """Return the content of ``path``; nothing of it is interpreted before its HMAC fits."""
    try:
        with open_plain(path) as file:
            facts = os.fstat(file.fileno())
            if facts.st_size > _MAX_BYTES:
                return Refusal("not a file of a sane size")
            content = file.read(facts.st_size)
    except FileNotFoundError:
        return Refusal(Refusal.ABSENT)
    except OSError as exc:
        return Refusal(f"cannot be read: {exc.strerror}")
    view = memoryview(content)
    if len(view) < _START + 4 or bytes(view[: len(_MAGIC)]) != _MAGIC:
        return Refusal("truncated, or not a sealed file")
    if not hmac.compare_digest(bytes(view[len(_MAGIC) : _START]), _mac(key, (view[_START:],))):
        return Refusal("its seal does not fit: changed, or sealed on another machine")
    return _open(view[_START:])


def _open(view: memoryview) -> Sealed | Refusal:
    length = int.from_bytes(view[:4], "little")
    if length > min(_MAX_HEADER_BYTES, len(view) - 4):
        return Refusal("its header is too long")
    return Sealed(json.loads(bytes(view[4 : 4 + length])), bytes(view[4 + length :]))


def _mac(key: bytes, parts: tuple[bytes | memoryview, ...]) -> bytes:
    digest = hmac.new(key, _MAGIC, hashlib.sha256)
    for part in parts:
        digest.update(part)
    return digest.digest()
