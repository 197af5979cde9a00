"""The gallery: the enrolled references, and the search among them."""

from __future__ import annotations

from edgeface.gallery.base import Gallery, SubjectInfo, TemplateSource, normalise_subject_name
from edgeface.gallery.memory import InMemoryGallery
from edgeface.gallery.sqlite import SqliteGallery

__all__ = [
    "Gallery",
    "InMemoryGallery",
    "SqliteGallery",
    "SubjectInfo",
    "TemplateSource",
    "normalise_subject_name",
]
