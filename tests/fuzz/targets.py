"""What is fuzzed: one function for each kind of input, which raises for a bug and for nothing else.

A typed refusal is an answer. Anything else that is raised, a door that opens, a lease that is
accepted, or a file that changes although it was refused, is a bug.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgeface.access import AccessInputs, AccessState, LeaseVerifier, decide, parse_policy
from edgeface.access.audit_check import verify_audit
from edgeface.access.keys import AccessKeys
from edgeface.bundle import MANIFEST_NAME, Bundle, manifest_of_any_task
from edgeface.camera.image_header import image_size
from edgeface.camera.images import decode_image
from edgeface.default_model import default_bundle_path
from edgeface.errors import (
    AccessPolicyError,
    AuditError,
    BundleError,
    CameraError,
    GalleryError,
    LeaseError,
)
from edgeface.gallery import KeyOptions, SqliteGallery
from edgeface.onnx_file import refuse_foreign_content
from edgeface.signatures import SIGNATURE_NAME, PublicKey, require_trusted
from edgeface.types import Template

__all__ = ["TARGETS", "seeds"]

# A picture of 8 Mpx takes a tenth of a second: fuzzing would only wait. Larger ones are refused
# by their header, which is fuzzed all the same.
_MAX_FUZZED_PIXELS = 1 << 20
_PNG = b"\x89PNG\r\n\x1a\n"
_CORPUS = Path(__file__).parent / "corpus"
_MODEL, _SIZE = "m" * 64, 8


class InvariantError(AssertionError):
    """The input was answered in a way that must not be."""


def fuzz_image(data: bytes) -> None:
    """A picture becomes (height, width, 3) uint8, or is refused."""
    for content in dict.fromkeys((data, _with_checksums(data))):
        try:
            size = image_size(content, where="fuzz")
            if size.width_px * size.height_px > _MAX_FUZZED_PIXELS:
                continue
            pixels = decode_image(content, where="fuzz")
        except CameraError:
            continue
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
            raise InvariantError(f"a picture of shape {pixels.shape}, {pixels.dtype}")


def _with_checksums(data: bytes) -> bytes:
    """Return a PNG with its chunks' checksums put right: behind them lies what is to be fuzzed."""
    made, at = bytearray(data), len(_PNG)
    if not data.startswith(_PNG):
        return data
    while at + 12 <= len(made):
        end = at + 8 + int.from_bytes(made[at : at + 4], "big")
        if end + 4 > len(made):
            break
        made[end : end + 4] = zlib.crc32(made[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(made)


def fuzz_bundle(data: bytes) -> None:
    """A manifest, an ONNX file, a signature file or a whole bundle is read, or refused."""
    kind, content = data[:1], data[1:]
    try:
        if kind == b"o":
            refuse_foreign_content(content, where="fuzz")
        elif kind == b"s":
            _signed_by_nobody(content)
        elif kind == b"b":
            _bundle_with(content)
        else:
            manifest_of_any_task(content.decode("utf-8", "replace"))
    except BundleError:
        return


def _signed_by_nobody(content: bytes) -> None:
    folder = _folder("signed")
    (folder / SIGNATURE_NAME).write_bytes(content)
    # The base point of Ed25519: whoever knows no private key cannot sign for it.
    key = PublicKey(bytes([0x58] + [0x66] * 31))
    require_trusted(folder, b"{}", [key])
    raise InvariantError("a signature that nobody made was believed")


def _bundle_with(manifest: bytes) -> None:
    folder = _folder("bundle")
    (folder / MANIFEST_NAME).write_bytes(manifest)
    bundle = Bundle.open(folder)
    for entry in bundle.manifest.artefacts:
        bundle.read(entry.name)


def fuzz_policy(data: bytes) -> None:
    """A policy is read, or refused; none opens a door before which nobody stands."""
    try:
        policy = parse_policy(data.decode("utf-8", "replace"))
    except AccessPolicyError:
        return
    if decide(policy, AccessState(), AccessInputs(now_s=1.0)).is_open:
        raise InvariantError("the door opened for nobody")


def fuzz_lease(data: bytes) -> None:
    """No text is a lease that was not signed."""
    verifier = LeaseVerifier("door", bytes(32), demonstration=True)
    verifier.challenge()
    try:
        verifier.verify(data.decode("latin-1"))
    except LeaseError:
        return
    raise InvariantError("a lease that nobody signed was accepted")


def fuzz_audit(data: bytes) -> None:
    """No log is good that was not written under the door's key."""
    path = _folder("audit") / "audit.log"
    path.write_bytes(data)
    try:
        report = verify_audit(path, AccessKeys.of_secret(bytes(32)))
    except AuditError:
        return
    if not report.problem:
        raise InvariantError("a log without a head was called good")


def fuzz_gallery(data: bytes) -> None:
    """A gallery file opens and searches, or is refused and stays as it is."""
    folder = _folder("gallery")
    for left in folder.iterdir():
        left.unlink()
    path = folder / "people.db"
    path.write_bytes(data)
    path.chmod(0o600)
    try:
        with SqliteGallery.open_existing(path, keys=_gallery_keys()) as gallery:
            gallery.search(_template(), k=1)
            for subject in gallery.subjects():
                gallery.details(subject.name)
    except GalleryError:
        return


def _template() -> Template:
    vector = np.zeros(_SIZE, np.float32)
    vector[0] = 1.0
    return Template(vector, _MODEL)


@functools.cache
def _scratch() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="edgeface-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _folder(name: str) -> Path:
    folder = _scratch() / name
    folder.mkdir(exist_ok=True)
    return folder


@functools.cache
def _gallery_keys() -> KeyOptions:
    return KeyOptions(
        insecure_key_file=True,
        folder=_folder("keys"),
        state_folder=_folder("state"),
        source="key-file",
    )


@functools.cache
def _gallery_seed() -> bytes:
    """A gallery of two people, in one file."""
    path = _folder("seed") / "people.db"
    for left in path.parent.iterdir():
        left.unlink()
    with SqliteGallery.open(
        path, model_id=_MODEL, embedding_size=_SIZE, keys=_gallery_keys()
    ) as gallery:
        for name in ("one", "two"):
            gallery.add(name, [_template()])
    return path.read_bytes()


def seeds(target: str) -> list[bytes]:
    """Return the inputs that the fuzzing of ``target`` starts from: the corpus, and real files."""
    found = [path.read_bytes() for path in sorted((_CORPUS / target).glob("*"))]
    if target == "gallery":
        found.append(_gallery_seed())
    if target == "bundle":
        manifest = (default_bundle_path() / MANIFEST_NAME).read_bytes()
        found += [b"m" + manifest, b"b" + manifest]
    return found


TARGETS: dict[str, Callable[[bytes], None]] = {
    "image": fuzz_image,
    "bundle": fuzz_bundle,
    "gallery": fuzz_gallery,
    "policy": fuzz_policy,
    "lease": fuzz_lease,
    "audit": fuzz_audit,
}
