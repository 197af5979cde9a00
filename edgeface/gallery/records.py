"""What is sealed in the rows of a gallery: people, templates and crops, and their binary form."""

from __future__ import annotations

import json
import math
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeface.errors import GalleryIntegrityError, InvalidInputError
from edgeface.gallery.base import Consent, ReferenceCrop, TemplateSource, normalise_subject_name
from edgeface.gallery.keys import GalleryKeys
from edgeface.gallery.sealing import Field, keyed_hash, pad, seal, unpad, unseal
from edgeface.gallery.search import is_usable
from edgeface.types import FloatArray

__all__ = ["Crop", "Person", "Place", "StoredTemplate", "lookup_of", "new_uid"]

_STORED = np.dtype("<f4")
_UID_BYTES = 16
# A crop is at most a few hundred pixels wide; the limit stops a row from filling the memory.
_MAX_CROP_BYTES = 4096 * 4096 * 3


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sealed value belongs; it can be opened nowhere else."""

    gallery_id: str
    person: bytes
    uid: bytes
    version: int
    model_id: str = ""

    def fields(self, kind: str) -> tuple[Field, ...]:
        """Return the associated data of a value of ``kind``."""
        return (2, self.gallery_id, kind, self.person, self.model_id, self.uid, self.version)


@dataclass(frozen=True, slots=True)
class Person:
    """What a gallery keeps about a person; ``created_at`` is UTC, ISO 8601.

    An inactive person keeps the templates and takes part in no search. ``consent`` is None where
    none was recorded.
    """

    name: str
    created_at: str
    active: bool = True
    consent: Consent | None = None

    def seal(self, key: bytes, place: Place) -> bytes:
        """Return the record of the person; its length tells little about the name's."""
        value: dict[str, Any] = {
            "name": self.name,
            "created_at": self.created_at,
            "active": self.active,
            "consent": None if self.consent is None else self.consent.as_dict(),
        }
        return seal(key, pad(_to_json(value)), *place.fields("subject"))

    @classmethod
    def unseal(cls, key: bytes, record: bytes, place: Place) -> Person:
        """Return the person of ``record``.

        Raises:
            GalleryIntegrityError: It was changed or moved.
        """
        value = _from_json(unpad(unseal(key, record, *place.fields("subject"))))
        try:
            consent = value["consent"]
            return cls(
                normalise_subject_name(value["name"]),
                str(value["created_at"]),
                bool(value["active"]),
                None if consent is None else Consent.from_dict(consent),
            )
        except (KeyError, TypeError, InvalidInputError) as exc:
            raise GalleryIntegrityError("the record of a person is malformed") from exc


@dataclass(frozen=True, slots=True, eq=False)
class StoredTemplate:
    """A template as it is stored: ``vector`` is (embedding size,) float32, of unit length.

    ``quality`` is in 0..1; ``artefact`` names the artefact of the bundle that made it, and is
    empty where that is not known; ``created_at`` is UTC, ISO 8601.
    """

    vector: FloatArray
    quality: float
    source: TemplateSource
    created_at: str
    artefact: str = ""

    def seal(self, key: bytes, place: Place) -> bytes:
        """Return the record of the template."""
        header = {
            "quality": float(self.quality),
            "source": self.source.value,
            "created_at": self.created_at,
            "artefact": self.artefact,
        }
        content = pad(_to_json(header)) + self.vector.astype(_STORED).tobytes()
        return seal(key, content, *place.fields("template"))

    @classmethod
    def unseal(cls, key: bytes, record: bytes, place: Place) -> StoredTemplate:
        """Return the template of ``record``.

        Raises:
            GalleryIntegrityError: It was changed, moved, or is of another model.
        """
        header, rest = _split(unseal(key, record, *place.fields("template")))
        try:
            vector = np.frombuffer(rest, _STORED).astype(np.float32)
            return cls(
                vector,
                float(header["quality"]),
                TemplateSource(header["source"]),
                str(header["created_at"]),
                str(header["artefact"]),
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise GalleryIntegrityError("the record of a template is malformed") from exc

    def has_size(self, embedding_size: int) -> bool:
        """Return whether the vector is of the model's size and the quality is a number."""
        return self.vector.shape == (embedding_size,) and math.isfinite(self.quality)

    def is_usable(self, embedding_size: int) -> bool:
        """Return whether the vector is finite, of unit length, and of the model's size."""
        return self.has_size(embedding_size) and bool(is_usable(self.vector[None])[0])


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """A face that somebody agreed to keep; ``quality`` is in 0..1, ``created_at`` UTC."""

    face: ReferenceCrop
    quality: float
    created_at: str

    def pack(self) -> bytes:
        """Return the crop as bytes: its pixels exactly, compressed."""
        pixels = self.face.pixels
        header = {
            "shape": list(pixels.shape),
            "points_px": [float(value) for value in self.face.points_px.ravel()],
            "quality": float(self.quality),
            "created_at": self.created_at,
        }
        return pad(_to_json(header)) + zlib.compress(np.ascontiguousarray(pixels).tobytes())

    @classmethod
    def unpack(cls, content: bytes) -> Crop:
        """Return the crop that :meth:`pack` made bytes of.

        Raises:
            GalleryIntegrityError: It is malformed.
        """
        header, rest = _split(content)
        try:
            raw = zlib.decompressobj().decompress(rest, _MAX_CROP_BYTES)
            pixels = np.frombuffer(raw, np.uint8).reshape(header["shape"])
            points = np.array(header["points_px"], np.float32).reshape(5, 2)
            face = ReferenceCrop(pixels, points)
            return cls(face, float(header["quality"]), str(header["created_at"]))
        except (KeyError, TypeError, ValueError, zlib.error) as exc:
            raise GalleryIntegrityError("the record of a crop is malformed") from exc

    def seal(self, key: bytes, place: Place) -> bytes:
        """Return the record of the crop."""
        return seal(key, self.pack(), *place.fields("crop"))

    @classmethod
    def unseal(cls, key: bytes, record: bytes, place: Place) -> Crop:
        """Return the crop of ``record``.

        Raises:
            GalleryIntegrityError: It was changed or moved.
        """
        return cls.unpack(unseal(key, record, *place.fields("crop")))


def lookup_of(keys: GalleryKeys, name: str) -> bytes:
    """Return the mark that a person of ``name`` is found by: 16 bytes, nothing without the key."""
    return keyed_hash(keys.of("lookup"), name)[:16]


def new_uid() -> bytes:
    """Return 16 random bytes that name a row for good."""
    return secrets.token_bytes(_UID_BYTES)


def _to_json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, allow_nan=False).encode()


def _from_json(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as exc:
        raise GalleryIntegrityError("a record of the gallery is malformed") from exc
    if not isinstance(value, dict):
        raise GalleryIntegrityError("a record of the gallery is malformed")
    return value


def _split(content: bytes) -> tuple[dict[str, Any], bytes]:
    header = _from_json(unpad(content))
    length = int.from_bytes(content[:4], "big")
    framed = 4 + length + (-(4 + length) % 256)
    return header, content[framed:]
