"""One frame: how much a face looks like one that is there in person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edgeface.errors import InvalidInputError
from edgeface.manifest import PadManifest
from edgeface.pad.crop import BoxConvention, face_box, pad_crop
from edgeface.types import FaceDetection, FloatArray, Frame, ImageArray

__all__ = ["PadNetwork", "PadScore", "PresentationAttackDetector"]


class PadNetwork(Protocol):
    """Scores crops; :class:`edgeface.pad.PadModel` is the real one."""

    @property
    def manifest(self) -> PadManifest:
        """The contract: crop size, box scale, classes."""
        ...

    def run(self, crops: ImageArray) -> FloatArray:
        """Return (n, classes) float32 probabilities for (n, height, width, 3) uint8 RGB crops."""
        ...

    def close(self) -> None:
        """Free the engine; may be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class PadScore:
    """How much one face of one frame looks like one that is there in person.

    ``bona_fide`` in 0..1 is the mean of ``by_model``, the probability that each model gives to
    the bona fide class. ``scales`` are the box scales its crops reached.
    """

    bona_fide: float
    by_model: tuple[float, ...]
    scales: tuple[float, ...]

    def __post_init__(self) -> None:
        # False for NaN.
        if not all(0.0 <= value <= 1.0 for value in (self.bona_fide, *self.by_model)):
            raise InvalidInputError(f"PAD scores must be in 0..1, got {self}")


class PresentationAttackDetector:
    """Scores faces with one or more networks that look at different pieces around them.

    Args:
        models: The networks; their probabilities count alike, as in their trainer's program.
        boxes: What the boxes of the detector enclose.

    Raises:
        InvalidInputError: No model, or one twice.
    """

    def __init__(
        self,
        models: Sequence[PadNetwork],
        *,
        boxes: BoxConvention = BoxConvention.BLAZEFACE,
    ) -> None:
        self._models = tuple(models)
        self._boxes = boxes
        if not self._models or len(set(self.model_ids)) < len(self._models):
            raise InvalidInputError(
                f"wanted one or more models that differ, got {len(self._models)}: "
                f"{[model.manifest.name for model in self._models]}"
            )

    @property
    def model_ids(self) -> tuple[str, ...]:
        """The identities of the models, in their order."""
        return tuple(model.manifest.model_id for model in self._models)

    def assess(self, frame: Frame, face: FaceDetection) -> PadScore | None:
        """Return the score of one face, or None when its middle lies outside of the frame.

        Raises:
            BackendError: The engine failed, or gave numbers that are no probabilities.
        """
        box = face_box(face.box, self._boxes)
        values, scales = [], []
        for model in self._models:
            manifest = model.manifest
            crop = pad_crop(frame, box, scale=manifest.box_scale, size=manifest.crop_size)
            if crop is None:
                return None
            row = model.run(crop.pixels[None])[0]
            values.append(float(np.clip(row[manifest.bona_fide_class], 0.0, 1.0)))
            scales.append(crop.scale)
        return PadScore(float(np.mean(values)), tuple(values), tuple(scales))

    def close(self) -> None:
        """Free the models; may be called twice."""
        for model in self._models:
            model.close()
