"""References: the template of a picture, and the face cut out of it for later models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeface.alignment import align
from edgeface.errors import EnrolmentError, MissingDependencyError
from edgeface.gallery import ReferenceCrop
from edgeface.pipeline.comparing import Comparer
from edgeface.pipeline.finding import FoundFace
from edgeface.quality import embedding_agreement, with_agreement
from edgeface.types import AlignedFace, FloatArray, Frame, OperatingPoint, Template

__all__ = [
    "Reference",
    "align_reference",
    "cut_reference",
    "reference_template",
    "require_same_as_stored",
]

# A 112 px crop is 3.2 eye distances wide; turned by 45 degrees its corners reach 2.3 from the
# middle. The rest is for templates that show more.
_REACH_EYE_DISTANCES = 2.6
# The templates have 35 px between the eyes. More pixels than this would only fill the file.
_MAX_EYE_DISTANCE_PX = 48.0


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What enrolment takes from one picture."""

    template: Template
    crop: ReferenceCrop


def reference_template(comparer: Comparer, face: FoundFace) -> Template | None:
    """Return the template of ``face``, None where it was not embedded.

    Its quality counts how much the embedding of the mirrored face agrees. That costs a second run
    of the network, which a reference is worth: it ranks the templates of a person.
    """
    if face.aligned is None or face.quality is None:
        return None
    mirror = replace(face.aligned, pixels=face.aligned.pixels[:, ::-1])
    template, mirrored = comparer.templates([face, replace(face, aligned=mirror)])
    if template is None or mirrored is None:
        return template
    agreement = embedding_agreement(template.vector, mirrored.vector)
    report = with_agreement(face.quality, max(-1.0, min(1.0, agreement)))
    return replace(template, quality=report.score)


def require_same_as_stored(
    names: Sequence[str],
    templates: Sequence[Template],
    stored: Sequence[Template],
    point: OperatingPoint,
) -> None:
    """Return if every template is accepted against one that is stored of the person.

    Raises:
        EnrolmentError: One is not: the picture shows somebody else, or is of no use.
    """
    if not stored:
        return
    known = np.stack([one.vector for one in stored])
    for name, template in zip(names, templates, strict=True):
        score = float((known @ template.vector).max())
        if not point.accepts(score):
            raise EnrolmentError(
                f"{name} does not look like the person enrolled under that name (similarity "
                f"{score:.2f}, wanted {point.threshold:.2f}); enrol one person at a time"
            )


def cut_reference(frame: Frame, points_px: FloatArray) -> ReferenceCrop:
    """Return the face at the (5, 2) frame points ``points_px`` with what is around it.

    The pixels are those of the frame, made smaller where the eyes are more than 48 px apart.

    Raises:
        MissingDependencyError: OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as exc:
        raise MissingDependencyError("opencv-contrib-python", extra="cpu") from exc
    points = np.asarray(points_px, np.float64)
    eye_distance = float(np.linalg.norm(points[1] - points[0]))
    reach = max(eye_distance, 1.0) * _REACH_EYE_DISTANCES
    middle = points.mean(axis=0)
    size = np.array([frame.size.width_px, frame.size.height_px])
    low = np.clip(np.floor(middle - reach), 0, size - 1).astype(int)
    high = np.clip(np.ceil(middle + reach), low + 1, size).astype(int)
    pixels = np.ascontiguousarray(frame.pixels[low[1] : high[1], low[0] : high[0]])
    points = points - low
    if eye_distance > _MAX_EYE_DISTANCE_PX:
        before = np.array(pixels.shape[1::-1])
        after = np.maximum(np.round(before * _MAX_EYE_DISTANCE_PX / eye_distance), 1).astype(int)
        pixels = cv2.resize(pixels, after.tolist(), interpolation=cv2.INTER_AREA)
        # The middle of the first pixel is at 0, its edge at -0.5.
        points = (points + 0.5) * (after / before) - 0.5
    return ReferenceCrop(pixels, points.astype(np.float32))


def align_reference(crop: ReferenceCrop, template: str) -> AlignedFace:
    """Return the face of ``crop``, brought to the alignment template called ``template``."""
    return align(Frame(crop.pixels), crop.points_px, template)
