"""The seam for inference engines."""

from __future__ import annotations

from typing import Protocol

from edgeface.types import FloatArray, ImageArray

__all__ = ["Backend"]


class Backend(Protocol):
    """Runs one artefact of a bundle.

    ``name`` says engine and version, for people ("onnxruntime 1.31.1 CPU"); ``artefact`` is the
    name of the artefact that is loaded.
    """

    name: str
    artefact: str

    def run(self, crops: ImageArray) -> FloatArray:
        """Return (n, embedding size) float32 rows for (n, height, width, 3) uint8 RGB crops."""
        ...

    def close(self) -> None:
        """Free the engine; may be called twice."""
        ...
