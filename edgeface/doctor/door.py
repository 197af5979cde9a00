"""The folder of a door: whether it is whole, private, and its key somewhere safe."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from edgeface.access.keys import KEY_FILE
from edgeface.access.memory import AUDIT_FILE
from edgeface.doctor.findings import CheckState, Finding, fault, ok, warning, worst
from edgeface.doctor.trust import check_private
from edgeface.gallery.key_sources import KeyFile

__all__ = ["check_door"]

_NEEDED = (KEY_FILE, "state.sealed", AUDIT_FILE, f"{AUDIT_FILE}.head")
_MAY_BE = ("factors.sealed", "lock")
_MAX_BYTES = 1 << 16


def check_door(folder: Path) -> list[Finding]:
    """Return whether the files of the door in ``folder`` are there and this user's alone.

    No key is asked for and no second factor is read; `edgeface audit verify` proves the log.
    """
    if not folder.is_dir():
        return [
            fault(
                "door",
                "folder",
                f"there is none at {folder}",
                wanted="the folder of a door's state",
                fix="make it with AccessKeys.create, or name another",
            )
        ]
    findings = [check_private("door", "permissions of the folder", folder)]
    missing = [name for name in _NEEDED if not os.path.lexists(folder / name)]
    if missing:
        findings.append(
            fault(
                "door",
                "files",
                f"{', '.join(missing)} missing",
                wanted="keys, state and log together",
                fix="put the newest ones back: a door that lost a part stays closed",
            )
        )
    there = [name for name in (*_NEEDED, *_MAY_BE) if os.path.lexists(folder / name)]
    private = [check_private("door", f"permissions of {name}", folder / name) for name in there]
    open_ones = [found for found in private if found.state is not CheckState.OK]
    findings += open_ones or [ok("door", "permissions", f"{len(there)} files of this user alone")]
    if KEY_FILE in there and worst(open_ones) is CheckState.OK:
        findings.append(_key(folder / KEY_FILE))
    return findings


def _key(path: Path) -> Finding:
    try:
        with path.open("rb") as file:
            data: Any = json.loads(file.read(_MAX_BYTES))
        source = str(data["source"])
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as exc:
        return fault(
            "door",
            "key",
            f"{path.name} is damaged: {type(exc).__name__}",
            wanted="the file as it was made",
            fix="put it back from a copy; nothing else opens the door's state",
        )
    if source == KeyFile.name:
        return warning(
            "door",
            "key",
            "kept in a plain file",
            wanted="a TPM, OP-TEE, a keyring or a passphrase",
            fix="make the door anew where one of these is at hand: who has the disk has both",
        )
    return ok("door", "key", f"kept in: {source}")
