"""Reads the file itself: once, whole, and only if it is an ordinary file of an acceptable size."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from edgeface.errors import CheckpointFormatError, UnsafeCheckpointError

__all__ = ["Source", "read_source"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Source:
    """The bytes of a file; everything is parsed from them, so hash and content belong together."""

    path: Path
    content: bytes
    sha256: str


def read_source(path: str | os.PathLike[str], *, max_bytes: int) -> Source:
    """The content of a regular file or of a link to one.

    Raises:
        CheckpointFormatError: There is no such file, it cannot be read, or is no regular file.
        UnsafeCheckpointError: It has more than ``max_bytes``.
    """
    try:
        content = _read_regular(Path(path), max_bytes)
    except FileNotFoundError as error:
        raise CheckpointFormatError("there is no such file; check the path") from error
    except PermissionError as error:
        raise CheckpointFormatError("may not be read; check its permissions") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a usable path"
        raise CheckpointFormatError(f"cannot be read: {reason}") from error
    return Source(Path(path), content, hashlib.sha256(content).hexdigest())


def _read_regular(path: Path, max_bytes: int) -> bytes:
    # Without O_NONBLOCK the opening of a named pipe waits for a writer for ever.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    _require_regular(path.stat().st_mode)
    descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        _require_regular(status.st_mode)
        _require_size(status.st_size, max_bytes)
        content = file.read(max_bytes + 1)
    _require_size(len(content), max_bytes)
    return content


def _require_regular(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise CheckpointFormatError("is a folder; wanted a checkpoint file")
    if not stat.S_ISREG(mode):
        raise CheckpointFormatError("is a pipe, socket or device; wanted an ordinary file")


def _require_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise UnsafeCheckpointError(
            f"has {size:,} bytes or more; the limit is {max_bytes:,} (ReadLimits.max_file_bytes)"
        )
