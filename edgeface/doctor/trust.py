"""Bundles, galleries and keys: whether they can be relied on. No name of a person is read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edgeface.bundle import Bundle
from edgeface.default_model import default_bundle_path
from edgeface.doctor.findings import Finding, fault, ok, skipped, warning
from edgeface.errors import BundleError, GalleryError, MissingDependencyError
from edgeface.folders import cache_folder
from edgeface.gallery import KeyOptions, SqliteGallery
from edgeface.gallery.key_sources import KeyFile
from edgeface.gallery.schema import UNENCRYPTED_VERSION, file_version
from edgeface.operating_points import covers
from edgeface.signatures import read_signatures
from edgeface.types import OperatingPoint

__all__ = ["check_bundle", "check_gallery", "check_key_folders", "check_private"]


def check_bundle(path: Path) -> list[Finding]:
    """Return whether the files of the bundle are as they were written, and what it promises."""
    try:
        bundle = Bundle.open(path)
    except BundleError as exc:
        return [
            fault(
                "bundle",
                "files",
                str(exc),
                wanted="a bundle whose files fit its manifest",
                fix="export it again, or copy it again from where it came",
            )
        ]
    manifest = bundle.manifest
    names = ", ".join(entry.name for entry in manifest.artefacts)
    findings = [
        ok("bundle", "files", f"hashes fit; artefacts {names}; model {manifest.model_id}"),
        _points(manifest.operating_points),
        _signature(path),
    ]
    if path.resolve() == default_bundle_path().resolve():
        findings.append(
            warning(
                "bundle",
                "model",
                "the demonstration model of the package",
                wanted="a model that you trained or chose, for anything but first steps",
                fix="export one with `edgeface export`, and name it with --bundle",
            )
        )
    return findings


def _points(points: tuple[OperatingPoint, ...]) -> Finding:
    measured = [point for point in points if not point.provisional]
    if not points:
        return fault(
            "bundle",
            "operating points",
            "none",
            wanted="a threshold with its evidence",
            fix="fit one with `edgeface verify --fit`",
        )
    best = min(measured or points, key=lambda point: point.target_fmr)
    largest = max((point.gallery_size or 0 for point in measured), default=0)
    got = (
        f"{len(measured)} measured and {len(points) - len(measured)} provisional, the strictest "
        f"for FMR {best.target_fmr:g}"
    )
    got += f", searches of up to {largest:,} people" if largest else ""
    if not measured:
        return warning(
            "bundle",
            "operating points",
            got,
            wanted="points that were measured with this model",
            fix="fit them with `edgeface verify --fit`; until then doors stay closed by policy",
        )
    return ok("bundle", "operating points", got)


def _signature(path: Path) -> Finding:
    try:
        found = read_signatures(path)
    except BundleError as exc:
        return fault(
            "bundle",
            "signature",
            str(exc),
            wanted="a signature file that can be read, or none",
            fix="sign the bundle again with `edgeface sign`",
        )
    if not found:
        return ok("bundle", "signature", "none: nobody vouches for it")
    # Whether a key is trusted is asked where the bundle is opened, not here.
    signers = ", ".join(entry.fingerprint[:16] for entry in found)
    return ok("bundle", "signature", f"says to be by {signers}; `edgeface sign --check` proves it")


def check_private(name: str, what: str, path: Path) -> Finding:
    """Return whether only this user can reach the file or folder at ``path``."""
    try:
        facts = path.lstat()
    except OSError as exc:
        return skipped(name, what, f"{path}: {exc.strerror}")
    if os.name != "posix":
        return skipped(name, what, "this system keeps permissions elsewhere")
    mode = stat.S_IMODE(facts.st_mode)
    wanted = "0700" if stat.S_ISDIR(facts.st_mode) else "0600"
    if stat.S_ISLNK(facts.st_mode):
        return fault(name, what, f"{path} is a link", wanted="a plain file", fix=f"replace {path}")
    if facts.st_uid not in (os.getuid(), 0):
        return fault(
            name,
            what,
            f"{path} belongs to another user",
            wanted="a file of this user",
            fix=f"chown it, or remove {path}",
        )
    if mode & 0o077:
        return fault(
            name,
            what,
            f"{path} is open to others (mode {mode:04o})",
            wanted=f"mode {wanted}",
            fix=f"chmod {wanted[1:]} {path}; a key that others may have read must be replaced "
            "(`edgeface gallery rekey`)",
        )
    return ok(name, what, f"mode {mode:04o}")


def check_key_folders(keys: KeyOptions | None = None) -> list[Finding]:
    """Return whether the keys that lie in files on this machine are this user's alone."""
    folder = _key_folder(keys or KeyOptions())
    files = sorted(folder.glob("*.key")) if folder.is_dir() else []
    findings = [check_private("keys", "key file of a gallery", file) for file in files]
    engine_key = cache_folder("engines") / "key"
    if engine_key.exists():
        findings.append(check_private("keys", "key of the engine cache", engine_key))
    return findings or [skipped("keys", "key files", "there are none in this user's folders")]


def _key_folder(keys: KeyOptions) -> Path:
    source = next(one for one in keys.for_known() if isinstance(one, KeyFile))
    return source.path("x").parent


def check_gallery(path: Path, bundle: Path | None = None) -> list[Finding]:
    """Return whether the gallery is private, encrypted, opens, and fits the bundle."""
    if not path.exists():
        return [
            fault(
                "gallery",
                "file",
                f"there is none at {path}",
                wanted="a gallery",
                fix="make one with `edgeface enrol`, or name another",
            )
        ]
    findings = [check_private("gallery", "permissions", path)]
    try:
        if file_version(path) == UNENCRYPTED_VERSION:
            return [*findings, _unencrypted()]
        with SqliteGallery.open_existing(path) as gallery:
            findings += _contents(gallery, bundle)
    except MissingDependencyError as exc:
        findings.append(skipped("gallery", "opens", str(exc)))
    except GalleryError as exc:
        findings.append(
            fault(
                "gallery",
                "opens",
                str(exc),
                wanted="a gallery whose key is at hand and whose rows are whole",
                fix="run this as the user that made it, or restore a backup with "
                "`edgeface gallery restore`",
            )
        )
    return findings


def _unencrypted() -> Finding:
    return fault(
        "gallery",
        "encryption",
        "schema 1, which holds names and templates unencrypted",
        wanted="an encrypted gallery",
        fix="open it once, for example with `edgeface gallery list`: that encrypts it",
    )


def _contents(gallery: SqliteGallery, bundle: Path | None) -> list[Finding]:
    people = sum(subject.active for subject in gallery.subjects())
    findings = [ok("gallery", "opens", f"{people} people, every row whole")]
    source = gallery.vault.keys.source
    if source == KeyFile.name:
        findings.append(
            warning(
                "gallery",
                "key",
                "kept in a plain file",
                wanted="a TPM, OP-TEE, a keyring or a passphrase",
                fix="move it with `edgeface gallery rekey`: who has the disk has both",
            )
        )
    else:
        findings.append(ok("gallery", "key", f"kept in: {source}"))
    if gallery.quarantined:
        findings.append(
            warning(
                "gallery",
                "templates",
                f"{gallery.quarantined} are unusable and left out",
                wanted="none",
                fix="enrol the people concerned again",
            )
        )
    return findings + ([] if bundle is None else _fit(gallery, people, bundle))


def _fit(gallery: SqliteGallery, people: int, path: Path) -> list[Finding]:
    try:
        manifest = Bundle.open(path).manifest
    except BundleError:
        return []  # said by check_bundle
    if manifest.model_id != gallery.model_id:
        return [
            fault(
                "gallery",
                "model",
                f"templates of model {gallery.model_id[:16]}, bundle {manifest.model_id[:16]}",
                wanted="templates of the bundle's own model",
                fix="enrol again, or move it with `edgeface gallery migrate`",
            )
        ]
    measured = [point for point in manifest.operating_points if not point.provisional]
    if people and not any(covers(point, people) for point in measured):
        return [
            warning(
                "gallery",
                "size",
                f"{people} people; no measured operating point says that it holds for so many",
                wanted="a threshold fitted for searches among so many",
                fix=f"edgeface calibrate --target-fpir 1e-3 --gallery-size {people}",
            )
        ]
    return [ok("gallery", "model", "of the bundle; an operating point covers its size")]
