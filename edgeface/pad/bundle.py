"""A bundle for presentation attack detection, and the model in it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeface.backends.crop_contract import CropContract
from edgeface.backends.ort import default_threads, open_session
from edgeface.bundle import BundleFolder, read_manifest_text
from edgeface.errors import BackendError, InvalidInputError
from edgeface.manifest import MANIFEST_NAME, PadManifest, pad_manifest_from_json
from edgeface.signatures import PublicKey, require_trusted
from edgeface.types import FloatArray, ImageArray

__all__ = ["PadBundle", "PadModel"]

# Float32 softmax sums to 1 within 1e-6; further away the numbers are no probabilities.
_MAX_SUM_ERROR = 1e-3


class PadBundle(BundleFolder):
    """An opened bundle: its manifest, and its files after their hashes were checked."""

    def __init__(self, path: Path, manifest: PadManifest) -> None:
        super().__init__(path, manifest.artefacts, manifest.files)
        self.manifest = manifest

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, trusted_keys: Sequence[PublicKey] | None = None
    ) -> PadBundle:
        """Return the bundle in folder ``path``, with every listed file checked.

        With ``trusted_keys`` one of them must have signed it.

        Raises:
            BundleFormatError: The folder or its manifest is missing or malformed, or the bundle
                is not one for presentation attack detection.
            BundleIntegrityError: A file is missing, changed, a link, or outside the folder.
            BundleSignatureError: It is unsigned, or no trusted key signed it.
        """
        folder = Path(path)
        text = read_manifest_text(folder)
        if trusted_keys is not None:
            require_trusted(folder, text.encode("utf-8"), trusted_keys)
        bundle = cls(folder, pad_manifest_from_json(text, where=str(folder / MANIFEST_NAME)))
        bundle.verify()
        return bundle


class PadModel:
    """One network, on ONNX Runtime's CPU provider.

    These networks have 41 million multiply-adds, a tenth of a recogniser: a GPU gains nothing.

    Args:
        bundle: The opened bundle; the artefact's hash is checked over the bytes that are loaded.
        artefact: Name of the artefact.
        threads: Threads for one batch; None takes what suits the machine.

    Raises:
        BackendError: The engine refuses the artefact, or its input and output are not what the
            manifest says.
        InvalidInputError: ``threads`` is below 1.
        MissingDependencyError: ONNX Runtime is not installed.
    """

    def __init__(
        self, bundle: PadBundle, artefact: str = "fp32", *, threads: int | None = None
    ) -> None:
        threads = default_threads() if threads is None else threads
        if threads < 1:
            raise InvalidInputError(f"threads must be at least 1, got {threads}")
        where = f"{bundle.path.name}, artefact {artefact!r}"
        self.manifest = bundle.manifest
        size, classes = self.manifest.crop_size, len(self.manifest.classes)
        self._contract = CropContract((size.height_px, size.width_px, 3), classes, where)
        self.engine, self._session = open_session(bundle.read(artefact), threads, where)
        self._contract.check_model(
            _tensors(self._session.get_inputs()), _tensors(self._session.get_outputs())
        )
        self._input_name = self._session.get_inputs()[0].name

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        threads: int | None = None,
        trusted_keys: Sequence[PublicKey] | None = None,
    ) -> PadModel:
        """Return the model of the bundle in folder ``path``; ``trusted_keys`` as for the bundle.

        Raises:
            BundleError: The bundle cannot be used.
            BackendError: The engine refuses its artefact.
        """
        return cls(PadBundle.open(path, trusted_keys=trusted_keys), threads=threads)

    def run(self, crops: ImageArray) -> FloatArray:
        """Return (n, classes) float32 probabilities for (n, height, width, 3) uint8 RGB crops.

        Raises:
            InvalidInputError: The crops have another type or shape.
            BackendError: The engine failed, was closed, or gave numbers that are no probabilities.
        """
        where = self._contract.where
        if self._session is None:
            raise BackendError(f"{where}: the model is closed; open it again")
        crops = self._contract.check_crops(crops)
        if len(crops) == 0:
            return self._contract.no_rows()
        try:
            rows = self._session.run(None, {self._input_name: crops})[0]
        except Exception as exc:
            raise BackendError(f"{where}: {self.engine} failed: {exc}") from exc
        rows = np.asarray(rows, np.float32)
        # Said so that NaN fails: a comparison with NaN is false.
        fits = rows.shape == (len(crops), self._contract.embedding_size)
        if not (
            fits and (np.abs(rows.sum(axis=1) - 1) <= _MAX_SUM_ERROR).all() and rows.min() >= 0
        ):
            raise BackendError(
                f"{where}: the model gave rows of shape {rows.shape} that are no probabilities; "
                "export the model again"
            )
        return rows

    def close(self) -> None:
        """Free the engine; may be called twice."""
        self._session = None


_TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


def _tensors(entries: list[Any]) -> list[tuple[str, list[Any]]]:
    return [(_TYPES.get(entry.type, entry.type), list(entry.shape)) for entry in entries]
