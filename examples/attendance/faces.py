"""The enrolled faces: the SDK's encrypted gallery, in which a person's name is their id."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path

from edgeface.errors import GalleryError, SubjectNotFoundError
from edgeface.gallery import Consent, KeyOptions, SqliteGallery

__all__ = ["GALLERY_FILE", "Faces"]

GALLERY_FILE = "gallery.db"
_TRIES, _PAUSE_S = 5, 0.2


class Faces:
    """Consents, deletion and export of faces; recognisers read the same file themselves."""

    def __init__(self, gallery: SqliteGallery, keys: KeyOptions) -> None:
        self._gallery = gallery
        self._keys = keys

    @classmethod
    def open(cls, folder: Path, *, model_id: str, embedding_size: int, keys: KeyOptions) -> Faces:
        """Return the faces of the office in ``folder``.

        Raises:
            GalleryError: The gallery is damaged, of another model, or its key is not at hand.
        """
        gallery = SqliteGallery.open(
            folder / GALLERY_FILE, model_id=model_id, embedding_size=embedding_size, keys=keys
        )
        return cls(gallery, keys)

    @property
    def notices(self) -> tuple[str, ...]:
        """What the gallery wants to be said once, such as where its key is kept."""
        return self._gallery.notices

    @property
    def gallery(self) -> SqliteGallery:
        """The gallery itself."""
        return self._gallery

    def consents(self) -> dict[str, Consent | None]:
        """Return the consent of everybody who has a face enrolled, by person."""
        found = {}
        for info in self._gallery.subjects():
            # Somebody may be forgotten between the two calls.
            with contextlib.suppress(SubjectNotFoundError):
                found[info.name] = self._gallery.details(info.name).consent
        return found

    def set_active(self, person_id: str, *, active: bool) -> None:
        """Let a person's face take part in searches, or not."""
        try:
            self._gallery.set_active(person_id, active=active)
        except SubjectNotFoundError:
            return

    def export(self, person_id: str) -> Mapping[str, object] | None:
        """Return what is kept of a face, but for the templates; None for nobody's."""
        try:
            details = self._gallery.details(person_id)
        except SubjectNotFoundError:
            return None
        return {
            "enrolled_at": details.created_at,
            "is_active": details.active,
            "templates": len(details.qualities),
            "qualities": list(details.qualities),
            "kept_crops": details.crops,
            "consent": details.consent.as_dict() if details.consent else None,
        }

    def forget(self, person_id: str) -> Mapping[str, object] | None:
        """Delete a person's face for good; return the receipt, None where there was none.

        Raises:
            GalleryError: The face is deleted, but the files cannot be cleaned now.
        """
        try:
            return self._gallery.forget(person_id).as_dict()
        except SubjectNotFoundError:
            return None
        except GalleryError:
            return self._finish_forgetting()

    def _finish_forgetting(self) -> Mapping[str, object]:
        """Clean the files again while a recogniser was reading; opening the gallery does that."""
        for _ in range(_TRIES):
            time.sleep(_PAUSE_S)
            with SqliteGallery.open_existing(self._gallery.path, keys=self._keys) as gallery:
                receipt = gallery.receipts()[-1]
                if receipt.proof:
                    return receipt.as_dict()
        raise GalleryError(
            "the face is deleted, but its bytes may still be in the gallery's log: another "
            "program reads it; close that, and start this one again"
        )

    def close(self) -> None:
        """Close the gallery; may be called twice."""
        self._gallery.close()
