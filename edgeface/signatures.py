"""Signatures of bundles: who vouches for a model, by Ed25519 keys.

``signature.json`` in the bundle's folder signs the SHA-256 of ``manifest.json``, and the manifest
holds the hash of every file, so one signature covers the whole bundle. The file stands beside the
manifest and is not listed in it: a bundle can be signed later, by several keys, and its
``model_id`` stays. A release that knows no signatures opens the bundle as before.

A hash says that a bundle is as it was written. Only a signature says who wrote it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeface.errors import BundleSignatureError, InvalidInputError, MissingDependencyError

__all__ = [
    "SIGNATURE_NAME",
    "BundleSignature",
    "PublicKey",
    "SigningKey",
    "add_signature",
    "read_signatures",
    "require_trusted",
    "trusted_signers",
]

SIGNATURE_NAME = "signature.json"
_FORMAT, _ALGORITHM = 1, "ed25519"
# What is signed starts with these words, so that no other use of the key gives this signature.
_CONTEXT = b"edgeface bundle signature 1\0"
# A signature has about 400 bytes.
_MAX_SIGNATURES, _MAX_FILE_BYTES, _MAX_KEY_FILE_BYTES = 16, 1 << 16, 1 << 14
_HEX = re.compile(r"(?:[0-9a-f]{2})+")
_KEY_BYTES, _SIGNATURE_BYTES, _DIGEST_BYTES = 32, 64, 32


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 public key; ``raw`` are its 32 bytes (RFC 8032)."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != _KEY_BYTES:
            raise InvalidInputError(f"an Ed25519 public key has {_KEY_BYTES} bytes")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> PublicKey:
        """Return the key in the PEM file at ``path``, as `edgeface keygen` writes it.

        Raises:
            InvalidInputError: The file cannot be read, or holds no Ed25519 public key.
            MissingDependencyError: ``cryptography`` is not installed.
        """
        content, _ = _read_key_file(Path(path))
        serialization, ed25519 = _cryptography()
        try:
            key = serialization.load_pem_public_key(content)
        except Exception as exc:  # the library raises errors of several kinds
            raise InvalidInputError(
                f"{path} holds no public key in PEM form; give the .pub file of `edgeface keygen`"
            ) from exc
        if not isinstance(key, ed25519.Ed25519PublicKey):
            raise InvalidInputError(f"{path} holds a key of another kind, wanted Ed25519")
        return cls(key.public_bytes_raw())

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the key, as 64 hexadecimal digits."""
        return hashlib.sha256(self.raw).hexdigest()

    def to_pem(self) -> bytes:
        """Return the key as PEM text, which OpenSSL reads too."""
        serialization, ed25519 = _cryptography()
        key = ed25519.Ed25519PublicKey.from_public_bytes(self.raw)
        pem: bytes = key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return pem

    def fits(self, signature: BundleSignature, manifest: bytes) -> bool:
        """Return whether ``signature`` was made by this key over the content ``manifest``."""
        from cryptography.exceptions import InvalidSignature

        _, ed25519 = _cryptography()
        digest = hashlib.sha256(manifest)
        if signature.public_key != self.raw.hex() or signature.manifest_sha256 != (
            digest.hexdigest()
        ):
            return False
        try:
            key = ed25519.Ed25519PublicKey.from_public_bytes(self.raw)
            key.verify(bytes.fromhex(signature.signature), _CONTEXT + digest.digest())
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class BundleSignature:
    """One entry of the signature file; every field is in hexadecimal digits of lower case."""

    public_key: str
    manifest_sha256: str
    signature: str

    def __post_init__(self) -> None:
        for name, size in (
            ("public_key", _KEY_BYTES),
            ("manifest_sha256", _DIGEST_BYTES),
            ("signature", _SIGNATURE_BYTES),
        ):
            value = getattr(self, name)
            if not isinstance(value, str) or len(value) != 2 * size or not _HEX.fullmatch(value):
                raise InvalidInputError(f"{name} must have {2 * size} hexadecimal digits")

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the key that it says to be made by."""
        return PublicKey(bytes.fromhex(self.public_key)).fingerprint


class SigningKey:
    """An Ed25519 private key; it is never shown."""

    def __init__(self, key: Any) -> None:
        self._key = key

    @classmethod
    def generate(cls) -> SigningKey:
        """Return a new key.

        Raises:
            MissingDependencyError: ``cryptography`` is not installed.
        """
        _, ed25519 = _cryptography()
        return cls(ed25519.Ed25519PrivateKey.generate())

    @classmethod
    def read(cls, path: str | os.PathLike[str], passphrase: str | None = None) -> SigningKey:
        """Return the key in the PEM file at ``path``.

        Raises:
            InvalidInputError: The file cannot be read, is open to other users, holds no Ed25519
                private key, or the passphrase is missing or wrong.
            MissingDependencyError: ``cryptography`` is not installed.
        """
        content, mode = _read_key_file(Path(path))
        if os.name == "posix" and mode & 0o077:
            raise InvalidInputError(
                f"other users may read the signing key {path} (mode {stat.S_IMODE(mode):04o}, "
                "wanted 0600); make a new key, since this one may have been copied"
            )
        serialization, ed25519 = _cryptography()
        try:
            secret = None if passphrase is None else passphrase.encode()
            key = serialization.load_pem_private_key(content, secret)
        except TypeError as exc:
            need = "needs its passphrase" if passphrase is None else "has no passphrase"
            raise InvalidInputError(f"the signing key {path} {need}") from exc
        except Exception as exc:  # the library raises errors of several kinds
            raise InvalidInputError(
                f"{path} holds no private key in PEM form, or the passphrase is wrong"
            ) from exc
        if not isinstance(key, ed25519.Ed25519PrivateKey):
            raise InvalidInputError(f"{path} holds a key of another kind, wanted Ed25519")
        return cls(key)

    @staticmethod
    def is_encrypted(path: str | os.PathLike[str]) -> bool:
        """Return whether the key file at ``path`` wants a passphrase.

        Raises:
            InvalidInputError: The file cannot be read.
        """
        return b"ENCRYPTED" in _read_key_file(Path(path))[0]

    @property
    def public_key(self) -> PublicKey:
        """The key that others check signatures with."""
        return PublicKey(self._key.public_key().public_bytes_raw())

    def sign(self, manifest: bytes) -> BundleSignature:
        """Return the signature over the content ``manifest`` of a bundle's manifest."""
        digest = hashlib.sha256(manifest)
        made = self._key.sign(_CONTEXT + digest.digest())
        return BundleSignature(self.public_key.raw.hex(), digest.hexdigest(), made.hex())

    def write(self, path: str | os.PathLike[str], passphrase: str | None = None) -> None:
        """Write the key to the new file ``path`` with mode 0600, and ``path`` + ``.pub``.

        Raises:
            InvalidInputError: One of the files exists, or cannot be written.
        """
        serialization, _ = _cryptography()
        how = (
            serialization.NoEncryption()
            if passphrase is None
            else serialization.BestAvailableEncryption(passphrase.encode())
        )
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how
        )
        private, public = Path(path), Path(f"{os.fspath(path)}.pub")
        if os.path.lexists(public):
            raise InvalidInputError(f"{public} exists; choose another name, keys are not replaced")
        _write_new(private, pem, 0o600)
        _write_new(public, self.public_key.to_pem(), 0o644)


def read_signatures(folder: Path) -> tuple[BundleSignature, ...]:
    """Return what the signature file in ``folder`` holds; nothing in it is checked against a key.

    An unsigned bundle gives an empty tuple.

    Raises:
        BundleSignatureError: The file is a link, too large, or malformed.
    """
    path = folder / SIGNATURE_NAME
    if not os.path.lexists(path):
        return ()
    try:
        content = _read_plain(path, _MAX_FILE_BYTES)
        data = json.loads(content.decode("utf-8"))
        return _entries(data)
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as exc:
        raise BundleSignatureError(
            f"{path} is damaged or no signature file; sign the bundle again"
        ) from exc


def trusted_signers(
    folder: Path, manifest: bytes, keys: Sequence[PublicKey]
) -> tuple[PublicKey, ...]:
    """Return those of ``keys`` that signed the bundle whose manifest has the content ``manifest``.

    Raises:
        BundleSignatureError: The signature file is damaged.
        MissingDependencyError: ``cryptography`` is not installed.
    """
    found = read_signatures(folder)
    return tuple(key for key in keys if any(key.fits(entry, manifest) for entry in found))


def require_trusted(folder: Path, manifest: bytes, keys: Sequence[PublicKey]) -> None:
    """Return if one of ``keys`` signed the bundle whose manifest has the content ``manifest``.

    Raises:
        BundleSignatureError: It is unsigned, signed by other keys, changed since, or the
            signature file is damaged.
        InvalidInputError: ``keys`` is empty, or holds something else.
        MissingDependencyError: ``cryptography`` is not installed.
    """
    if not keys or not all(isinstance(key, PublicKey) for key in keys):
        raise InvalidInputError(
            "trusted_keys must hold one PublicKey or more (PublicKey.read(FILE)), or be None"
        )
    if trusted_signers(folder, manifest, keys):
        return
    found = read_signatures(folder)
    wanted = ", ".join(key.fingerprint[:16] for key in keys)
    if not found:
        raise BundleSignatureError(
            f"{folder} is not signed, wanted a signature by {wanted}; ask its maker to run "
            "`edgeface sign`"
        )
    signers = {entry.fingerprint for entry in found}
    if signers & {key.fingerprint for key in keys}:
        raise BundleSignatureError(
            f"{folder} was changed since a trusted key ({wanted}) signed it, or the signature is "
            "forged; `edgeface calibrate` and `verify --fit` write thresholds into a bundle, which "
            "its maker signs again after them"
        )
    raise BundleSignatureError(
        f"{folder}: no signature of a trusted key fits its manifest (signed by "
        f"{', '.join(entry.fingerprint[:16] for entry in found)}; trusted: {wanted}); do not use "
        "it until its maker has signed this very bundle"
    )


def add_signature(folder: Path, manifest: bytes, key: SigningKey) -> BundleSignature:
    """Sign the manifest with the content ``manifest``; return what the signature file got.

    Signatures of other keys that still fit stay; an earlier one of this key is replaced, one over
    another manifest is dropped. :func:`edgeface.bundle.sign_bundle` checks the bundle first.

    Raises:
        BundleSignatureError: The signature file is damaged, or full.
    """
    made = key.sign(manifest)
    kept = [
        entry
        for entry in read_signatures(folder)
        if entry.public_key != made.public_key and entry.manifest_sha256 == made.manifest_sha256
    ]
    if len(kept) >= _MAX_SIGNATURES:
        raise BundleSignatureError(f"{folder} has {len(kept)} signatures, the most there may be")
    _write_signatures(folder / SIGNATURE_NAME, [*kept, made])
    return made


def _entries(data: Any) -> tuple[BundleSignature, ...]:
    if data["format"] != _FORMAT or data["algorithm"] != _ALGORITHM:
        raise InvalidInputError("another format or algorithm")
    entries = data["signatures"]
    if not isinstance(entries, list) or not 0 < len(entries) <= _MAX_SIGNATURES:
        raise InvalidInputError("too few or too many signatures")
    return tuple(BundleSignature(**entry) for entry in entries)


def _write_signatures(path: Path, entries: list[BundleSignature]) -> None:
    data = {
        "format": _FORMAT,
        "algorithm": _ALGORITHM,
        "signatures": [asdict(entry) for entry in entries],
    }
    handle, name = tempfile.mkstemp(prefix=".signature-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(data, indent=2, sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _read_plain(path: Path, limit: int) -> bytes:
    """Return the content of the plain file at ``path``; links and pipes are refused."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > limit:
            raise InvalidInputError(f"{path} is not a plain file of a sane size")
        return file.read(limit)


def _read_key_file(path: Path) -> tuple[bytes, int]:
    try:
        content = _read_plain(path, _MAX_KEY_FILE_BYTES)
        return content, path.lstat().st_mode
    except OSError as exc:
        raise InvalidInputError(f"the key file {path} cannot be read: {exc.strerror}") from exc


def _write_new(path: Path, content: bytes, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(path, flags, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as exc:
        raise InvalidInputError(f"{path} exists; choose another name, keys are not replaced") from (
            exc
        )
    except OSError as exc:
        raise InvalidInputError(f"{path} cannot be written: {exc.strerror}") from exc


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as exc:
        raise MissingDependencyError("cryptography", extra="gallery") from exc
    return serialization, ed25519
