"""Faces to templates: batches for the engine, and a judgement of every row it returns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from edgeface.backends.base import Backend
from edgeface.bundle import Manifest
from edgeface.errors import InvalidInputError
from edgeface.types import AlignedFace, FloatArray, ImageArray, Template

__all__ = ["FaceEmbedder", "unit_rows"]

# Float32 arithmetic keeps a normalised row within 1e-6 of length 1, float16 within 1e-3. Further
# away the model did not normalise, or its numbers have run over.
_MAX_LENGTH_ERROR = 1e-3


class FaceEmbedder:
    """Makes templates from aligned faces.

    Args:
        backend: The engine, with an artefact loaded; the caller closes it.
        manifest: The manifest of the bundle that the artefact is from.
        batch_size: Faces that the engine gets at once, which bounds its memory.

    Raises:
        InvalidInputError: ``batch_size`` is below 1.
    """

    def __init__(self, backend: Backend, manifest: Manifest, batch_size: int = 8) -> None:
        if batch_size < 1:
            raise InvalidInputError(f"batch_size must be at least 1, got {batch_size}")
        self.backend = backend
        self.manifest = manifest
        self.batch_size = batch_size

    def embed(
        self, faces: Sequence[AlignedFace], qualities: Sequence[float] | None = None
    ) -> list[Template | None]:
        """Return one template for each of ``faces``, in order.

        None stands for a face whose row is not finite, or not of length 1 within 1e-3: a stream
        rejects that face as ``EMBEDDING_INVALID``. ``qualities`` are the scores of the faces in
        0..1 and go into the templates.

        Raises:
            InvalidInputError: A crop has not the manifest's size, or ``qualities`` another length.
            BackendError: The engine failed.
        """
        qualities = [0.0] * len(faces) if qualities is None else qualities
        if len(qualities) != len(faces):
            raise InvalidInputError(f"got {len(qualities)} qualities for {len(faces)} faces")
        rows = self.embed_arrays(face.pixels for face in faces)
        return [
            Template(row, self.manifest.model_id, quality) if np.isfinite(row).all() else None
            for row, quality in zip(rows, qualities, strict=True)
        ]

    def embed_arrays(self, crops: ImageArray | Iterable[ImageArray]) -> FloatArray:
        """Return (n, embedding size) float32 rows of length 1 for n crops.

        ``crops`` are (n, height, width, 3) uint8 RGB, or any iterable of single crops, which is
        read a batch at a time. A row that :meth:`embed` would give as None holds NaN throughout.

        Raises:
            InvalidInputError: A crop has not the manifest's size.
            BackendError: The engine failed.
        """
        rows = [unit_rows(self.backend.run(batch)) for batch in self._batches(crops)]
        return np.concatenate([np.empty((0, self.manifest.embedding_size), np.float32), *rows])

    def _batches(self, crops: Iterable[ImageArray]) -> Iterator[ImageArray]:
        size = self.manifest.crop_size
        wanted = (size.height_px, size.width_px, 3)
        stream = iter(crops)
        while batch := list(islice(stream, self.batch_size)):
            for crop in batch:
                if crop.shape != wanted:
                    raise InvalidInputError(
                        f"a crop must have shape {wanted}, got {crop.shape}; align it to "
                        f"{self.manifest.alignment_template!r}"
                    )
            yield np.stack(batch)


def unit_rows(rows: npt.NDArray[np.floating]) -> FloatArray:
    """Return (n, d) float32 ``rows`` scaled to length 1 in float64; unusable rows become NaN.

    A row is unusable when a number in it is not finite or its length is not 1 within 1e-3.
    """
    exact = np.asarray(rows, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.sqrt((exact * exact).sum(axis=1, keepdims=True))
        # A NaN length compares False, so it is counted as unusable.
        usable = np.abs(lengths - 1.0) <= _MAX_LENGTH_ERROR
    return np.where(usable, exact / np.where(usable, lengths, 1.0), np.nan).astype(np.float32)
