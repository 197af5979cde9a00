"""Authenticated encryption of what a gallery stores, and the keys derived for it.

AES-256-GCM with a random 96-bit nonce. Every sealed value is bound to its place by the associated
data: gallery, kind, person, model, row and row version. A value that was moved to another row, or
that is of an earlier version of its row, cannot be opened.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from typing import Any, TypeAlias

from edgeface.errors import GalleryIntegrityError, MissingDependencyError

__all__ = [
    "KEY_BYTES",
    "NONCE_BYTES",
    "Field",
    "canonical",
    "derive",
    "keyed_hash",
    "new_key",
    "pad",
    "seal",
    "unpad",
    "unseal",
]

Field: TypeAlias = "str | int | float | bytes"

KEY_BYTES = 32
NONCE_BYTES = 12
_TAG_BYTES = 16
# Names are hidden in blocks of this size, so that the length of a row does not tell which it is.
_PAD_BYTES = 256
_LENGTH = struct.Struct(">Q").pack
_KINDS = {str: b"t", int: b"i", float: b"f", bytes: b"b"}


def new_key() -> bytes:
    """Return 32 random bytes of the operating system."""
    return secrets.token_bytes(KEY_BYTES)


def canonical(*fields: Field) -> bytes:
    """Return ``fields`` as bytes that no other sequence of fields gives: kind, length, content."""
    parts: list[bytes] = []
    for field in fields:
        # Several times for every row of a gallery that is opened: kept quick.
        content = field if isinstance(field, bytes) else str(field).encode("utf-8", "surrogatepass")
        parts += (_KINDS.get(type(field), b"?"), _LENGTH(len(content)), content)
    return b"".join(parts)


def keyed_hash(key: bytes, *fields: Field) -> bytes:
    """Return the HMAC-SHA256 of ``fields`` under ``key``: 32 bytes."""
    return hmac.digest(key, canonical(*fields), "sha256")


def derive(key: bytes, purpose: str, *context: Field) -> bytes:
    """Return the 32-byte key for ``purpose`` and ``context``: HKDF-SHA256 of ``key`` (RFC 5869).

    ``key`` must itself be uniformly random, as every key here is; the extract step then only
    separates the uses.
    """
    prk = hmac.digest(b"edgeface gallery", key, "sha256")
    return hmac.digest(prk, canonical(purpose, *context) + b"\x01", hashlib.sha256)


def seal(key: bytes, content: bytes, *place: Field) -> bytes:
    """Return ``content`` encrypted under ``key`` and bound to ``place``: nonce, text, tag.

    Raises:
        MissingDependencyError: ``cryptography`` is not installed.
    """
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + bytes(_cipher(key).encrypt(nonce, content, canonical(*place)))


def unseal(key: bytes, sealed: bytes, *place: Field) -> bytes:
    """Return the content of ``sealed``, which :func:`seal` made with the same key and place.

    Raises:
        GalleryIntegrityError: It was changed, moved, is of an earlier version, or of another key.
        MissingDependencyError: ``cryptography`` is not installed.
    """
    cipher = _cipher(key)
    from cryptography.exceptions import InvalidTag

    if len(sealed) < NONCE_BYTES + _TAG_BYTES:
        raise GalleryIntegrityError("a sealed value is cut short")
    try:
        return bytes(cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], canonical(*place)))
    except InvalidTag as exc:
        raise GalleryIntegrityError(
            "a sealed value was changed, moved to another row, or is an earlier one put back"
        ) from exc


def _cipher(key: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as exc:
        raise MissingDependencyError("cryptography", extra="gallery") from exc
    return AESGCM(key)


def pad(content: bytes) -> bytes:
    """Return ``content`` with its length in front, filled up to a multiple of 256 bytes."""
    framed = len(content).to_bytes(4, "big") + content
    return framed + bytes(-len(framed) % _PAD_BYTES)


def unpad(framed: bytes) -> bytes:
    """Return what :func:`pad` was given.

    Raises:
        GalleryIntegrityError: The length does not fit.
    """
    length = int.from_bytes(framed[:4], "big")
    if length > len(framed) - 4:
        raise GalleryIntegrityError("a padded value has an impossible length")
    return framed[4 : 4 + length]
