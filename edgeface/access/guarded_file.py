"""Files that say what a door may do: nobody but its user and root may be able to write them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edgeface.backends.sealed_file import open_plain
from edgeface.errors import AccessPolicyError

__all__ = ["read_guarded"]

_MAX_BYTES = 1 << 20


def read_guarded(path: str | os.PathLike[str], what: str = "file") -> bytes:
    """Return the bytes of the file at ``path``: a policy, or the key of somebody who is trusted.

    Whoever can write such a file makes the rules. ``what`` it is, is for the error's text.

    Raises:
        AccessPolicyError: It cannot be read, is a link or no plain file, is too large, belongs to
            somebody else, or others can write it.
    """
    file = Path(path)
    try:
        with open_plain(file) as opened:
            facts = os.fstat(opened.fileno())
            content = opened.read(_MAX_BYTES + 1)
    except OSError as exc:
        raise AccessPolicyError(
            f"the {what} {file} cannot be read: {exc.strerror}; it must be a plain file, no link"
        ) from exc
    problem = _problem(facts)
    if problem:
        raise AccessPolicyError(f"the {what} {file} {problem}")
    if len(content) > _MAX_BYTES:
        raise AccessPolicyError(f"the {what} {file} is larger than {_MAX_BYTES} bytes")
    return content


def _problem(facts: os.stat_result) -> str:
    # Windows keeps access elsewhere; a user's profile is closed to others there.
    if os.name == "nt":
        return ""
    if facts.st_uid not in (0, os.geteuid()):
        return "belongs to another user; wanted this one or root"
    if facts.st_mode & 0o022:
        mode = stat.S_IMODE(facts.st_mode)
        return f"can be written by others (mode {mode:04o}); look at what it says, then chmod 644"
    return ""
