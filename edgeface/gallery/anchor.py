"""The anchor: the newest head that this machine has seen, kept outside the gallery file.

Without it, nothing inside a file can show that the whole file is an older copy. It is written
after a change is on the disk, so it never names a change that a power cut took away. Whoever can
write both the gallery and the anchor can put both back: an anchor holds against a file swapped on
another account, a memory card, or a synchronised folder.
"""

from __future__ import annotations

import hmac
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgeface.errors import GalleryRollbackError
from edgeface.gallery.keys import GalleryKeys
from edgeface.gallery.ledger import Head, Ledger
from edgeface.gallery.sealing import keyed_hash

__all__ = ["Anchor", "AnchorState"]


@dataclass(frozen=True, slots=True)
class AnchorState:
    """A counter and the seal of the head that had it."""

    counter: int
    seal: bytes


class Anchor:
    """The anchor of one gallery, a small file in ``folder``."""

    def __init__(self, folder: Path, keys: GalleryKeys, ledger: Ledger) -> None:
        self.path = folder / f"{keys.gallery_id}.head"
        self._key = keys.of("anchor")
        self._ledger = ledger
        self.written = False

    def read(self) -> AnchorState | None:
        """Return what the file says; None where there is none.

        A file that does not bear the gallery's seal counts as none: whoever can write here can
        remove it too, and must not be able to lock the gallery.
        """
        try:
            content = json.loads(self.path.read_bytes()[:4096])
            counter = int(content["counter"])
            state = AnchorState(counter, bytes.fromhex(content["seal"]))
            mac = bytes.fromhex(content["mac"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return state if hmac.compare_digest(mac, self._mac(state)) else None

    def check(self, state: AnchorState | None, head: Head, path: Path) -> None:
        """Check ``head`` against ``state``, which was read before the head was.

        Raises:
            GalleryRollbackError: The file is an older copy, or another line of changes.
        """
        if state is None or head.counter > state.counter:
            return
        same = hmac.compare_digest(state.seal, self._ledger.seal(head))
        if head.counter == state.counter and same:
            return
        raise GalleryRollbackError(
            f"the gallery {path} is an older copy: it has seen {head.counter} changes, this "
            f"machine has seen {state.counter}; put the newest file back, or bring an older one in "
            "on purpose with `edgeface gallery restore`"
        )

    def write(self, head: Head) -> None:
        """Keep ``head``, which is on the disk; a folder that cannot be written is left alone.

        ``written`` says whether it worked.
        """
        state = AnchorState(head.counter, self._ledger.seal(head))
        text = json.dumps(
            {"counter": state.counter, "seal": state.seal.hex(), "mac": self._mac(state).hex()}
        )
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._replace(text.encode())
            self.written = True
        except OSError:
            self.written = False

    def remove(self) -> None:
        """Forget the newest head: before an older file is restored on purpose."""
        self.path.unlink(missing_ok=True)

    def _replace(self, content: bytes) -> None:
        handle, name = tempfile.mkstemp(prefix=f".{self.path.name}-", dir=self.path.parent)
        try:
            # Not synced: an anchor that a power cut takes away only says less.
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(name).replace(self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _mac(self, state: AnchorState) -> bytes:
        return keyed_hash(self._key, "anchor", state.counter, state.seal)
