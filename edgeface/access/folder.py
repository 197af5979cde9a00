"""The folder of a door: for its user alone, and for one controller at a time."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from edgeface.errors import AccessStateError

__all__ = ["FolderLock", "is_in_use", "is_same_file", "require_private"]


class FolderLock:
    """Keeps other processes out of the folder of a door; the system frees it with the process."""

    def __init__(self, folder: Path, name: str = "lock") -> None:
        """Take the lock.

        Raises:
            AccessStateError: Another process has it, or the folder cannot be used.
        """
        self._path = folder / name
        self._file = -1
        try:
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            self._file = os.open(self._path, flags | getattr(os, "O_NONBLOCK", 0), 0o600)
            _lock(self._file)
        except OSError as exc:
            self.release()
            raise AccessStateError(
                f"the door's folder {folder} is in use by another process, or cannot be written "
                f"({exc.strerror}); one door has one controller"
            ) from exc

    @property
    def is_held(self) -> bool:
        """Whether the file that is locked still lies where others look for it."""
        return self._file >= 0 and is_same_file(self._file, self._path)

    def release(self) -> None:
        """Give the lock back; may be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def is_same_file(handle: int, path: Path) -> bool:
    """Return whether ``path`` is the file that ``handle`` is open for, and no link to it."""
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except OSError:
        return False


def is_in_use(folder: Path) -> bool:
    """Return whether a controller has the door in ``folder`` open.

    Raises:
        AccessStateError: The folder cannot be used.
    """
    try:
        FolderLock(folder).release()
    except AccessStateError as exc:
        busy = PermissionError if sys.platform == "win32" else BlockingIOError
        if isinstance(exc.__cause__, busy):
            return True
        raise
    return False


def require_private(folder: Path) -> None:
    """Return if ``folder`` is one that only this user can use.

    Raises:
        AccessStateError: It is missing, is no folder, or is open to others.
    """
    if not folder.is_dir():
        raise AccessStateError(f"there is no folder {folder} for the door's state")
    if os.name == "posix" and folder.stat().st_mode & 0o077:
        raise AccessStateError(
            f"the door's folder {folder} is open to others; run: chmod 700 {folder}"
        )


def _lock(file: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
