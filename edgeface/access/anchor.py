"""The anchor of a door's log: its newest head, sealed, in a folder that is not the door's."""

from __future__ import annotations

import hmac
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from edgeface.access.audit_check import AuditHead
from edgeface.access.keys import AccessKeys
from edgeface.backends.sealed_file import open_plain
from edgeface.errors import EdgefaceError
from edgeface.gallery.keys import KeyOptions
from edgeface.gallery.sealing import keyed_hash

__all__ = ["Anchor"]

_MAX_BYTES = 4096


class Anchor:
    """The newest head of the log, in another folder. One that bears no seal counts as none.

    ``is_kept`` says whether there is one that this object read or wrote.
    """

    def __init__(self, folder: Path | None, keys: AccessKeys) -> None:
        """Make it of ``folder``; None stands for that of a gallery's anchors."""
        self.path = (folder or KeyOptions().anchor_folder()) / f"{keys.door_id}.access-head"
        self.is_kept = False
        self._key = keys.audit_head
        self._newest: AuditHead | None = None

    def read(self) -> AuditHead | None:
        """Return the head; None where there is none that bears the door's seal."""
        self._newest = None
        with suppress(OSError, ValueError, EdgefaceError):
            with open_plain(self.path) as file:
                content = file.read(_MAX_BYTES).decode("ascii")
            text, _, mac = content.strip().rpartition(" ")
            if hmac.compare_digest(mac, self._mac(text)):
                self._newest = AuditHead.parse(text)
        self.is_kept = self._newest is not None
        return self._newest

    def write(self, head: AuditHead) -> None:
        """Keep ``head``, if it is another than before.

        Not synced: an anchor that a power cut takes only says less.
        """
        if self.is_kept and head == self._newest:
            return
        with suppress(OSError):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".anchor-", dir=self.path.parent)
            try:
                with os.fdopen(handle, "w", encoding="ascii") as file:
                    file.write(f"{head} {self._mac(str(head))}\n")
                Path(name).replace(self.path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
            self._newest, self.is_kept = head, True

    def _mac(self, text: str) -> str:
        return keyed_hash(self._key, "anchor", text).hex()
