"""Activation sets on disk: a folder ``NAME.activations`` of aligned faces, for its owner alone.

Faces are personal data. The folder is 0700 and its files 0600, no name or path of a source is
kept, and files are called after their own hash. Crops are PNG, so that nothing is lost.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeface.alignment import ALIGNMENT_TEMPLATES
from edgeface.camera.base import load_opencv
from edgeface.camera.image_header import image_size
from edgeface.camera.images import decode_image
from edgeface.errors import ActivationSetError, CameraError, InvalidInputError
from edgeface.types import ImageArray
from edgeface_calibration.activation_set_manifest import (
    FORMAT,
    ActivationSetManifest,
    CropMeasures,
    CropRecord,
    SourceKind,
    crop_file_name,
    manifest_from_json,
    manifest_to_json,
)

__all__ = [
    "SUFFIX",
    "CollectedFace",
    "StoredActivationSet",
    "cut_to_template",
    "default_activation_set",
    "default_activation_set_path",
    "is_activation_set",
    "require_free",
    "save_activation_set",
]

SUFFIX = ".activations"
_MANIFEST_NAME = "manifest.json"
# 10,000 crops, the most that a set has, take 4 MB.
_MAX_MANIFEST_BYTES = 16 << 20
# A crop of noise takes 38 kB as PNG.
_MAX_CROP_BYTES = 1 << 20
_HEAD_BYTES = 200


@dataclass(frozen=True, slots=True, eq=False)
class CollectedFace:
    """An aligned (height, width, 3) uint8 RGB face, and what is known of it."""

    pixels: ImageArray
    measures: CropMeasures
    source_kind: SourceKind


class StoredActivationSet:
    """An opened set: its manifest, and its crops after their hashes were checked."""

    def __init__(self, path: Path, manifest: ActivationSetManifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> StoredActivationSet:
        """Return the set in folder ``path``, with every crop's hash checked.

        Raises:
            ActivationSetError: There is no set, its manifest is damaged, or a file of it is
                missing, changed, a link, or not a crop.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise ActivationSetError(
                f"there is no activation set at {folder}; `edgeface activation-set collect` "
                "makes one"
            )
        content = _read(folder, _MANIFEST_NAME, _MAX_MANIFEST_BYTES)
        where = str(folder / _MANIFEST_NAME)
        try:
            text = content.decode()
        except UnicodeDecodeError as exc:
            raise ActivationSetError(f"{where} is not UTF-8 text; collect the set again") from exc
        stored = cls(folder, manifest_from_json(text, where=where))
        for record in stored.manifest.crops:
            stored._content(record)
        return stored

    def __len__(self) -> int:
        """Return the number of crops."""
        return len(self.manifest.crops)

    def crop_path(self, position: int) -> Path:
        """Return the file of the crop at ``position``."""
        return self.path / self.manifest.crops[position].file

    def crops(self, positions: Iterable[int] | None = None) -> ImageArray:
        """Return all crops, or those at ``positions``: (n, height, width, 3) uint8 RGB, read-only.

        Raises:
            ActivationSetError: A file was changed, or does not hold a crop of the right size.
        """
        chosen = range(len(self)) if positions is None else positions
        size = self.manifest.crop_size
        empty = np.empty((0, size.height_px, size.width_px, 3), np.uint8)
        decoded = [self._decoded(self.manifest.crops[k])[None] for k in chosen]
        crops: ImageArray = np.concatenate([empty, *decoded])
        crops.flags.writeable = False
        return crops

    def _decoded(self, record: CropRecord) -> ImageArray:
        content, where = self._content(record), str(self.path / record.file)
        wanted = self.manifest.crop_size
        try:
            # Asked before decoding: a decoder allocates what the header claims.
            size = image_size(content, where=where)
            if size == wanted:
                return decode_image(content, where=where)
        except CameraError as exc:
            raise ActivationSetError(f"{exc}; collect the set again") from exc
        raise ActivationSetError(f"{where} has {size} pixels, wanted {wanted}; collect it again")

    def _content(self, record: CropRecord) -> bytes:
        content = _read(self.path, record.file, _MAX_CROP_BYTES)
        if hashlib.sha256(content).hexdigest() != record.sha256:
            raise ActivationSetError(
                f"{self.path / record.file} was changed: its SHA-256 is not that of the manifest; "
                "collect the set again"
            )
        return content


def save_activation_set(
    path: str | os.PathLike[str],
    faces: Sequence[CollectedFace],
    *,
    template: str,
    refused: Mapping[str, int],
    overwrite: bool = False,
) -> StoredActivationSet:
    """Return the set written to the folder ``path``, opened again with every hash checked.

    The folder appears in one step when all of it is written; a set that stood there is kept until
    then. Crops are ordered by their hash, which is no order that anybody came in.

    Raises:
        InvalidInputError: The name does not end in ``.activations``, or something is there and
            ``overwrite`` is not set, or it is not an activation set.
        ActivationSetError: The folder cannot be written.
    """
    folder = Path(path)
    require_free(folder, overwrite=overwrite)
    try:
        _make_parents(folder)
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            _fill(work, faces, template=template, refused=refused)
            StoredActivationSet.open(work)
            _swap(work, folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as exc:
        raise ActivationSetError(f"{folder} cannot be written: {exc}") from exc
    return StoredActivationSet.open(folder)


def require_free(folder: Path, *, overwrite: bool) -> None:
    """Return if a set may be written to ``folder``.

    Raises:
        InvalidInputError: It may not; see :func:`save_activation_set`.
    """
    if folder.suffix != SUFFIX:
        raise InvalidInputError(
            f"an activation set is a folder NAME{SUFFIX}, got {folder.name!r}; name it "
            f"{folder.stem}{SUFFIX}"
        )
    if not os.path.lexists(folder):
        return
    if not overwrite:
        raise InvalidInputError(f"{folder} exists already; name another with -o, or use --force")
    if folder.is_symlink() or not (folder / _MANIFEST_NAME).is_file():
        raise InvalidInputError(
            f"{folder} is not an activation set, so it is not replaced; remove it yourself"
        )


def is_activation_set(folder: Path) -> bool:
    """Return whether ``folder`` is, or was, an activation set, rather than a folder of photos.

    Its name tells, or the beginning of its manifest; whether it is whole, ``open`` tells.
    """
    if folder.suffix == SUFFIX:
        return True
    try:
        with (folder / _MANIFEST_NAME).open("rb") as file:
            return FORMAT.encode() in file.read(_HEAD_BYTES)
    except OSError:
        return False


def default_activation_set_path() -> Path:
    """Return where this user's own set is kept; it need not exist.

    ``$XDG_DATA_HOME/edgeface/activations/default.activations``, else below ``~/.local/share``.
    """
    base = os.environ.get("XDG_DATA_HOME")
    data = Path(base) if base else Path.home() / ".local" / "share"
    return data / "edgeface" / "activations" / f"default{SUFFIX}"


def default_activation_set() -> Path | None:
    """Return the folder of this user's own set, or None where none was collected."""
    path = default_activation_set_path()
    return path if path.is_dir() else None


def cut_to_template(crops: ImageArray, template: str, wanted: str) -> ImageArray:
    """Return ``crops``, aligned to ``template``, as crops aligned to ``wanted``.

    The 112x96 template is the 112x112 one without 8 px on the left and right. A cut crop differs
    from one that was aligned to 112x96 by at most one grey level, where OpenCV's warp rounds.

    Raises:
        ActivationSetError: Columns would have to be made up.
    """
    have, want = ALIGNMENT_TEMPLATES[template], ALIGNMENT_TEMPLATES[wanted]
    margin_px = (have.width_px - want.width_px) // 2
    if margin_px < 0 or have.height_px != want.height_px:
        raise ActivationSetError(
            f"the activation set is aligned to {template}, the model wants {wanted}, which shows "
            f"more; collect it again with --template {wanted}"
        )
    cut: ImageArray = crops[:, :, margin_px : margin_px + want.width_px]
    return cut


def _read(folder: Path, name: str, max_bytes: int) -> bytes:
    """Return the content of a plain file directly inside ``folder``; links are refused."""
    path = folder / name
    try:
        info = path.lstat()
        if not stat.S_ISREG(info.st_mode):
            raise ActivationSetError(
                f"{path} is a link or not a plain file; an activation set holds plain files"
            )
        if info.st_size > max_bytes:
            raise ActivationSetError(f"{path} is larger than {max_bytes} bytes")
        return path.read_bytes()
    except OSError as exc:
        raise ActivationSetError(
            f"{path} cannot be read: {exc.strerror}; the set is not whole, collect it again"
        ) from exc


def _make_parents(folder: Path) -> None:
    if folder.parent == default_activation_set_path().parent:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    elif not folder.parent.is_dir():
        raise ActivationSetError(f"the folder {folder.parent} does not exist; make it first")


def _fill(
    work: Path, faces: Sequence[CollectedFace], *, template: str, refused: Mapping[str, int]
) -> None:
    records = {}
    for face in faces:
        content = _png(face.pixels)
        digest = hashlib.sha256(content).hexdigest()
        name = crop_file_name(digest)
        if name not in records:
            records[name] = CropRecord(name, digest, face.source_kind, face.measures)
            _write(work / name, content)
    ordered = tuple(records[name] for name in sorted(records))
    manifest = ActivationSetManifest(template, ordered, refused)
    _write(work / _MANIFEST_NAME, manifest_to_json(manifest).encode())


def _png(pixels: ImageArray) -> bytes:
    cv2 = load_opencv()
    ok, encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    if not ok:
        raise ActivationSetError(f"a crop of shape {pixels.shape} cannot be written as PNG")
    return bytes(encoded)


def _write(path: Path, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        if path.name == _MANIFEST_NAME:
            os.fsync(file.fileno())


def _swap(work: Path, folder: Path) -> None:
    """Put ``work`` in the place of ``folder``; a set that stood there goes away last."""
    old = work.with_name(work.name + ".old")
    replaced = folder.exists()
    if replaced:
        folder.rename(old)
    try:
        work.rename(folder)
    except OSError:
        if replaced:
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
