"""A bundle: the folder that carries an exported model, its contract and its proof.

``NAME.edgeface/`` holds ``manifest.json``, one or more ONNX artefacts and reports. Every file is
hashed in the manifest and checked when the bundle is opened. A path that leaves the folder, a
symbolic link, or an artefact that would load a second file is refused here, whatever the
inference library would do with it. What the manifest says is in :mod:`edgeface.manifest`.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeface.errors import BundleFormatError, BundleIntegrityError, OperatingPointError
from edgeface.manifest import (
    MANIFEST_NAME,
    SCHEMA_VERSION,
    Artefact,
    Manifest,
    ModelSource,
    Verdict,
    manifest_from_json,
    manifest_of_any_task,
    manifest_to_json,
)
from edgeface.onnx_file import refuse_foreign_content
from edgeface.signatures import (
    BundleSignature,
    PublicKey,
    SigningKey,
    add_signature,
    require_trusted,
)
from edgeface.types import OperatingPoint

__all__ = [
    "MANIFEST_NAME",
    "SCHEMA_VERSION",
    "Artefact",
    "Bundle",
    "BundleFolder",
    "Manifest",
    "ModelSource",
    "Verdict",
    "manifest_from_json",
    "manifest_of_any_task",
    "manifest_to_json",
    "read_manifest_text",
    "sha256_of",
    "sign_bundle",
]

_MAX_MANIFEST_BYTES = 4 << 20
# A face model for a device is 1-300 MB; the limit stops a hostile bundle from filling memory.
_MAX_FILE_BYTES = 2 << 30
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of the file at ``path``, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_manifest_text(folder: Path) -> str:
    """Return the text of the manifest in the bundle ``folder``.

    Raises:
        BundleFormatError: The folder or its manifest is missing, too large or not text.
        BundleIntegrityError: The manifest is a link.
    """
    if not folder.is_dir():
        raise BundleFormatError(
            f"no bundle at {folder}: a bundle is a folder made by `edgeface export`"
        )
    path = _checked_path(folder, MANIFEST_NAME)
    if path.stat().st_size > _MAX_MANIFEST_BYTES:
        raise BundleFormatError(f"{path} is larger than {_MAX_MANIFEST_BYTES} bytes")
    try:
        # As bytes: a signature covers them as they are, whatever ends their lines.
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as exc:
        raise BundleFormatError(f"{path} is not UTF-8 text") from exc


class BundleFolder:
    """The files of a bundle, checked against the hashes that its manifest lists."""

    def __init__(
        self, path: Path, artefacts: tuple[Artefact, ...], files: Mapping[str, str]
    ) -> None:
        self.path = path
        self._artefacts = artefacts
        self._files = files

    def verify(self) -> None:
        """Check every listed file again.

        Raises:
            BundleIntegrityError: A file is missing, changed, a link, or outside the folder.
        """
        # Pairs, not a mapping: a file that is listed twice must have both of its hashes.
        expected = {(entry.file, entry.sha256) for entry in self._artefacts}
        expected.update(self._files.items())
        for name, digest in sorted(expected):
            path = _checked_path(self.path, name)
            found = sha256_of(path)
            if found != digest:
                raise BundleIntegrityError(
                    f"{self.path / name} was changed: SHA-256 {found}, the manifest says {digest}; "
                    "export the model again"
                )
            if name.endswith(".onnx"):
                refuse_foreign_content(path.read_bytes(), where=str(path))

    def artefact(self, name: str) -> Artefact:
        """Return the artefact called ``name``.

        Raises:
            BundleFormatError: The bundle has no such artefact.
        """
        for entry in self._artefacts:
            if entry.name == name:
                return entry
        known = ", ".join(entry.name for entry in self._artefacts)
        raise BundleFormatError(f"{self.path} has no artefact {name!r}, choose one of {known}")

    def read(self, name: str) -> bytes:
        """Return the content of artefact ``name``, with its hash checked over these very bytes.

        Raises:
            BundleFormatError: The bundle has no such artefact.
            BundleIntegrityError: The content is not what the manifest says.
        """
        entry = self.artefact(name)
        content = _checked_path(self.path, entry.file).read_bytes()
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise BundleIntegrityError(
                f"{self.path / entry.file} was changed since it was exported"
            )
        refuse_foreign_content(content, where=str(self.path / entry.file))
        return content


class Bundle(BundleFolder):
    """An opened bundle: its manifest, and its files after their hashes were checked."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        super().__init__(path, manifest.artefacts, manifest.files)
        self.manifest = manifest

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, trusted_keys: Sequence[PublicKey] | None = None
    ) -> Bundle:
        """Return the bundle in folder ``path``, with every listed file checked.

        With ``trusted_keys`` one of them must have signed it.

        Raises:
            BundleFormatError: The folder or its manifest is missing or malformed, or the bundle
                is not one for recognition.
            BundleIntegrityError: A file is missing, changed, a link, or outside the folder.
            BundleSignatureError: It is unsigned, or no trusted key signed it.
        """
        folder = Path(path)
        text = read_manifest_text(folder)
        if trusted_keys is not None:
            require_trusted(folder, text.encode("utf-8"), trusted_keys)
        bundle = cls(folder, manifest_from_json(text, where=str(folder / MANIFEST_NAME)))
        bundle.verify()
        return bundle

    def operating_point(self, artefact: str, *, target_fmr: float) -> OperatingPoint:
        """Return the point of ``artefact`` with the largest FMR that is at most ``target_fmr``.

        Raises:
            OperatingPointError: The bundle has no point as strict as that for the artefact.
        """
        points = [p for p in self.manifest.operating_points if p.artefact == artefact]
        # 1e-12: 1e-3 written by hand and 1e-3 read from JSON must count as equal.
        strict_enough = [p for p in points if p.target_fmr <= target_fmr * (1 + 1e-12)]
        if not strict_enough:
            known = ", ".join(f"{p.target_fmr:g}" for p in points) or "none"
            raise OperatingPointError(
                f"{self.path.name} has no operating point at FMR {target_fmr:g} or below for "
                f"{artefact!r} (it has: {known}); fit one with `edgeface verify --fit`"
            )
        return max(strict_enough, key=lambda point: point.target_fmr)


def sign_bundle(path: str | os.PathLike[str], key: SigningKey) -> BundleSignature:
    """Check every file of the bundle in folder ``path``, of any task, and sign it with ``key``.

    Returns what was added to its signature file. Signatures of other keys stay.

    Raises:
        BundleError: The bundle is damaged or not one, or its signature file is damaged or full.
    """
    folder = Path(path)
    text = read_manifest_text(folder)
    manifest = manifest_of_any_task(text, where=str(folder / MANIFEST_NAME))
    BundleFolder(folder, manifest.artefacts, manifest.files).verify()
    return add_signature(folder, text.encode("utf-8"), key)


def _checked_path(folder: Path, name: str) -> Path:
    """Return ``folder/name`` if it is a plain file directly inside ``folder``.

    Symbolic links are refused. A hard link is a plain file like any other: package installers make
    them, and a model cannot reach through one, since tensors outside of it are refused (ADR 14).
    """
    if not _FILE_NAME.fullmatch(name) or ".." in name:
        raise BundleIntegrityError(f"{folder}: the file name {name!r} is not allowed in a bundle")
    path = folder / name
    try:
        info = path.lstat()
    except OSError as exc:
        if name == MANIFEST_NAME:
            raise BundleFormatError(f"{folder} is not a bundle: it has no {name}") from exc
        raise BundleIntegrityError(f"{path} is listed in the manifest but cannot be read") from exc
    if not stat.S_ISREG(info.st_mode):
        raise BundleIntegrityError(
            f"{path} is a link or not a plain file; bundles hold plain files"
        )
    if info.st_size > _MAX_FILE_BYTES:
        raise BundleIntegrityError(f"{path} is larger than {_MAX_FILE_BYTES} bytes")
    return path
