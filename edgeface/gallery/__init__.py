"""The gallery: the enrolled references, and the search among them."""

from __future__ import annotations

from edgeface.gallery.base import (
    Consent,
    EnrolmentRecord,
    Gallery,
    ReferenceCrop,
    SubjectInfo,
    TemplateSource,
    normalise_subject_name,
)
from edgeface.gallery.forgetting import Receipt
from edgeface.gallery.keys import KeyOptions
from edgeface.gallery.memory import InMemoryGallery
from edgeface.gallery.sqlite import PersonDetails, SqliteGallery

__all__ = [
    "Consent",
    "EnrolmentRecord",
    "Gallery",
    "InMemoryGallery",
    "KeyOptions",
    "PersonDetails",
    "Receipt",
    "ReferenceCrop",
    "SqliteGallery",
    "SubjectInfo",
    "TemplateSource",
    "normalise_subject_name",
]
