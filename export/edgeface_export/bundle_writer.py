"""Writes a bundle: all of it or nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeface.bundle import MANIFEST_NAME, Artefact, Bundle, Manifest, manifest_to_json
from edgeface.errors import InvalidInputError

__all__ = [
    "model_identity",
    "require_free",
    "write_artefact",
    "write_bundle",
    "write_file",
    "write_folder",
]

REPORT_NAME = "report.json"
PAGE_NAME = "report.html"


def model_identity(fp32: bytes, contract: Mapping[str, Any]) -> str:
    """Return the SHA-256 over the float artefact and the contract, as 64 hexadecimal digits.

    Two bundles have one identity exactly when their embeddings may be compared by construction:
    same weights, same preprocessing (it is in the graph), same template, size and metric.
    """
    digest = hashlib.sha256(hashlib.sha256(fp32).digest())
    digest.update(json.dumps(contract, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def write_bundle(
    folder: Path,
    manifest: Manifest,
    models: Mapping[str, bytes],
    report: Mapping[str, Any],
    *,
    overwrite: bool = False,
    page: Callable[[Manifest], str] | None = None,
) -> Bundle:
    """Return the bundle written to ``folder``, opened again from disk with every hash checked.

    ``models`` holds the content of each artefact by name; ``page`` makes ``report.html`` from the
    final manifest. The folder appears in one step, after
    everything in it was written and flushed; what stood there before is kept until then.

    Raises:
        InvalidInputError: Something is at ``folder`` already and ``overwrite`` is not set, or it
            is not a bundle.
    """

    def fill(work: Path) -> None:
        entries = [write_artefact(work, name, content) for name, content in models.items()]
        text = json.dumps(report, indent=2, sort_keys=True, allow_nan=False) + "\n"
        files = {REPORT_NAME: write_file(work / REPORT_NAME, text.encode())}
        final = replace(manifest, artefacts=tuple(entries), files=files)
        if page is not None:
            files = files | {PAGE_NAME: write_file(work / PAGE_NAME, page(final).encode())}
            final = replace(final, files=files)
        write_file(work / MANIFEST_NAME, manifest_to_json(final).encode())
        Bundle.open(work)

    write_folder(folder, fill, overwrite=overwrite)
    return Bundle.open(folder)


def write_folder(folder: Path, fill: Callable[[Path], None], *, overwrite: bool = False) -> None:
    """Put what ``fill`` writes into a new folder at ``folder``, in one step.

    ``fill`` must raise when what it wrote is not a bundle; then nothing is changed.

    Raises:
        InvalidInputError: Something is at ``folder`` already and ``overwrite`` is not set, or it
            is not a bundle.
    """
    require_free(folder, overwrite=overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        fill(work)
        work.chmod(0o755)
        _swap(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def require_free(folder: Path, *, overwrite: bool) -> None:
    """Return if a bundle may be written to ``folder``.

    Raises:
        InvalidInputError: Something is there already and ``overwrite`` is not set, or it is not a
            bundle.
    """
    if not os.path.lexists(folder):
        return
    if not overwrite:
        raise InvalidInputError(f"{folder} exists already; name another with -o, or use --force")
    if not (folder / MANIFEST_NAME).is_file() or folder.is_symlink():
        raise InvalidInputError(
            f"{folder} is not a bundle, so it is not replaced; remove it yourself"
        )


def write_artefact(work: Path, name: str, content: bytes) -> Artefact:
    """Return the manifest's entry of the artefact called ``name``, written into ``work``."""
    file = f"model.{name}.onnx"
    digest = write_file(work / file, content)
    return Artefact(name, file, digest, len(content), "int8" if "int8" in name else "float32")


def write_file(path: Path, content: bytes) -> str:
    """Return the SHA-256 of ``content``, written to ``path`` and flushed to the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    path.chmod(0o644)
    return hashlib.sha256(content).hexdigest()


def _swap(work: Path, folder: Path) -> None:
    """Put ``work`` in the place of ``folder``; a bundle there goes away last, or comes back."""
    if not folder.exists():
        work.rename(folder)
        return
    old = work.with_name(work.name + ".old")
    folder.rename(old)
    try:
        work.rename(folder)
    finally:
        if not folder.exists():
            old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
