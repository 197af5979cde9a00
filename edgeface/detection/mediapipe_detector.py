"""MediaPipe Tasks: BlazeFace to find faces, FaceLandmarker for their five points and pose."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Literal, TypeAlias

import numpy as np

from edgeface.assets import asset_or_stand_in, asset_path
from edgeface.detection.head_pose import HEAD_LANDMARKS, head_angles_deg
from edgeface.detection.mediapipe_task import MediaPipeTask
from edgeface.detection.sanity import landmarks_are_plausible
from edgeface.detection.scanning import ScanOptions, SpreadScanner
from edgeface.errors import AssetMissingError, InvalidInputError
from edgeface.types import BoundingBox, FaceDetection, FaceLandmarks, FloatArray, Frame, ImageArray

__all__ = [
    "AutoRangeDetector",
    "DetectionRange",
    "MediaPipeFaceDetector",
    "MediaPipeLandmarkFinder",
    "detector_points",
    "four_alignment_points",
]

DetectionRange: TypeAlias = Literal["short", "full"]

_DETECTORS: dict[DetectionRange, str] = {
    "short": "blaze_face_short_range.tflite",
    "full": "blaze_face_full_range_sparse.tflite",
}
_LANDMARKER = "face_landmarker.task"

# Irises (image-left first), nose tip and mouth corners in MediaPipe's mesh of 478 landmarks.
_FIVE_POINTS = (468, 473, 1, 61, 291)

_CROP_SCALES = (1.75, 1.4, 2.25)
"""Side of the square given to the landmarker over the longer side of the detection box, in the
order tried. Of 3,811 LFW images, 1.75 alone leaves 4 faces without landmarks, 1.6 six, 2.0 three,
the three in turn one; from 2.5 on the landmarks of a neighbour's face come more often."""


class _Closing:
    """A context manager that closes at its end."""

    def close(self) -> None:
        """Free the model; may be called twice."""
        raise NotImplementedError

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class MediaPipeFaceDetector(_Closing):
    """BlazeFace; ``keypoints_px`` of its detections are described at :func:`detector_points`.

    ``"short"`` is for faces within about 2 m of a camera, ``"full"`` for up to about 5 m and
    smaller faces. Detections below ``min_score`` in 0..1 are left out.

    Raises:
        AssetMissingError, AssetIntegrityError: The model file cannot be used.
        MissingDependencyError: MediaPipe is not installed.
        BackendError: MediaPipe does not take the model.
    """

    def __init__(
        self, detection_range: DetectionRange = "short", *, min_score: float = 0.5
    ) -> None:
        if detection_range not in _DETECTORS:
            raise InvalidInputError(
                f"detection_range must be short or full, got {detection_range!r}"
            )
        _require_share("min_score", min_score)
        self.detection_range = detection_range
        path = asset_path(_DETECTORS[detection_range])

        def create(vision: Any) -> Any:
            options = vision.FaceDetectorOptions(
                base_options=_base_options(str(path)), min_detection_confidence=min_score
            )
            return vision.FaceDetector.create_from_options(options)

        self._task = MediaPipeTask(create, what=path.name)

    def __enter__(self) -> MediaPipeFaceDetector:
        return self

    def detect(self, frame: Frame) -> list[FaceDetection]:
        """Return the faces found, best score first; an empty list when there is none."""
        found = self._task.run(frame.pixels).detections
        faces = [_detection(each, frame) for each in found if each.bounding_box.width > 0]
        return sorted(faces, key=lambda face: -face.score)

    def close(self) -> None:
        """Free the model; may be called twice."""
        self._task.close()


class AutoRangeDetector(_Closing):
    """Short range first, and full range for frames in which that finds nobody.

    ``used_range`` says which of the two the last result is from. :meth:`scanner` gives what
    searches a stream with the same models.
    """

    def __init__(self, *, min_score: float = 0.5) -> None:
        self._short = MediaPipeFaceDetector("short", min_score=min_score)
        try:
            self._full = MediaPipeFaceDetector("full", min_score=min_score)
        except Exception:
            self._short.close()
            raise
        self._regions: dict[float, MediaPipeFaceDetector] = {}
        self.used_range: DetectionRange = "short"

    def __enter__(self) -> AutoRangeDetector:
        return self

    def detect(self, frame: Frame) -> list[FaceDetection]:
        """Return the faces found, best score first; an empty list when there is none."""
        self.used_range = "short"
        faces = self._short.detect(frame)
        if not faces:
            self.used_range = "full"
            faces = self._full.detect(frame)
        return faces

    def scanner(self, options: ScanOptions) -> SpreadScanner:
        """Return what searches the frames of one stream; it ends with this detector.

        Raises:
            BackendError: MediaPipe does not take the model once more.
        """
        score = options.min_followed_score
        if score not in self._regions:
            self._regions[score] = MediaPipeFaceDetector("short", min_score=score)
        return SpreadScanner(self._short, self._full, self._regions[score], options)

    def close(self) -> None:
        """Free the models; may be called twice."""
        for detector in (self._short, self._full, *self._regions.values()):
            detector.close()


class MediaPipeLandmarkFinder(_Closing):
    """FaceLandmarker, run on a square around each detection.

    ``asset_name`` names the model file in use: Google's bundle, or its stand-in where that alone
    is at hand. ``blendshapes`` asks for the 52 expression coefficients; they cost time and need
    Google's bundle. ``min_confidence`` in 0..1 is the landmarker's own.

    Raises:
        AssetMissingError, AssetIntegrityError: The model file cannot be used.
        MissingDependencyError: MediaPipe is not installed.
        BackendError: MediaPipe does not take the model.
    """

    def __init__(self, *, blendshapes: bool = False, min_confidence: float = 0.5) -> None:
        _require_share("min_confidence", min_confidence)
        found = asset_or_stand_in(_LANDMARKER)
        self.asset_name = found.asset.name
        if blendshapes and self.asset_name != _LANDMARKER:
            raise AssetMissingError(
                f"blendshapes need {_LANDMARKER}; only {self.asset_name} is at hand. "
                f"Run `edgeface assets fetch {_LANDMARKER}`"
            )

        def create(vision: Any) -> Any:
            options = vision.FaceLandmarkerOptions(
                base_options=_base_options(str(found.path)),
                min_face_detection_confidence=min_confidence,
                min_face_presence_confidence=min_confidence,
                output_face_blendshapes=blendshapes,
            )
            return vision.FaceLandmarker.create_from_options(options)

        self._task = MediaPipeTask(create, what=self.asset_name)

    def __enter__(self) -> MediaPipeLandmarkFinder:
        return self

    def find(self, frame: Frame, detection: FaceDetection) -> FaceLandmarks | None:
        """Return the landmarks, or None when no face is found inside the detection.

        Landmarks that cannot be those of the detection are returned only when no crop gave
        better ones; see :func:`edgeface.detection.landmarks_are_plausible`.
        """
        doubtful: FaceLandmarks | None = None
        for scale in _CROP_SCALES:
            landmarks = self._find_in_crop(frame, detection.box, scale)
            if landmarks is None:
                continue
            if landmarks_are_plausible(landmarks.points_px, detection.box):
                return landmarks
            doubtful = doubtful or landmarks
        return doubtful

    def close(self) -> None:
        """Free the model; may be called twice."""
        self._task.close()

    def _find_in_crop(self, frame: Frame, box: BoundingBox, scale: float) -> FaceLandmarks | None:
        crop, left_px, top_px = _square_crop(frame.pixels, box, scale)
        result = self._task.run(crop)
        if not result.face_landmarks:
            return None
        # MediaPipe's z is a share of the picture's width, as x is.
        mesh = np.array([(p.x, p.y, p.z) for p in result.face_landmarks[0]]) * crop.shape[0]
        if not np.isfinite(mesh).all():
            return None
        yaw, pitch, roll = head_angles_deg(mesh[list(HEAD_LANDMARKS)])
        shapes = result.face_blendshapes[0] if result.face_blendshapes else ()
        mesh_px = mesh[:, :2] + (left_px, top_px)
        return FaceLandmarks(
            points_px=mesh_px[list(_FIVE_POINTS)].astype(np.float32),
            yaw_deg=yaw,
            pitch_deg=pitch,
            roll_deg=roll,
            blendshapes={shape.category_name: float(shape.score) for shape in shapes},
            mesh_px=mesh_px.astype(np.float32),
        )


def detector_points(detection: FaceDetection) -> FloatArray:
    """Return BlazeFace's (6, 2) key points of ``detection``, in frame pixels.

    In order: the eye further left in an upright image, the other eye, the nose tip, the centre of
    the mouth, and the ears in the order of the eyes. There are no mouth corners.

    Raises:
        InvalidInputError: The detection is not BlazeFace's.
    """
    if detection.keypoints_px.shape != (6, 2):
        raise InvalidInputError(
            f"BlazeFace gives 6 key points, this detection has {detection.keypoints_px.shape[0]}"
        )
    return detection.keypoints_px


def four_alignment_points(points_px: FloatArray) -> FloatArray:
    """Return (4, 2) points to align on: both eyes, nose tip, centre of the mouth.

    Takes BlazeFace's six key points, or the five of a face or of an alignment template.
    """
    points = np.asarray(points_px, np.float32)
    if points.shape == (6, 2):
        return points[:4]
    if points.shape == (5, 2):
        return np.vstack([points[:3], points[3:].mean(0, keepdims=True)])
    raise InvalidInputError(f"expected 5 or 6 points, got shape {points.shape}")


def _base_options(path: str) -> Any:
    from mediapipe.tasks.python import BaseOptions

    return BaseOptions(model_asset_path=path)


def _require_share(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise InvalidInputError(f"{name} must be in 0..1, got {value}")


def _detection(found: Any, frame: Frame) -> FaceDetection:
    """Return one of MediaPipe's detections as ours; its key points are shares of the frame."""
    box, size = found.bounding_box, frame.size
    points = [(point.x * size.width_px, point.y * size.height_px) for point in found.keypoints]
    return FaceDetection(
        box=BoundingBox(box.origin_x, box.origin_y, box.width, box.height),
        score=min(1.0, max(0.0, float(found.categories[0].score))),
        keypoints_px=np.asarray(points, np.float32).reshape(-1, 2),
    )


def _square_crop(pixels: ImageArray, box: BoundingBox, scale: float) -> tuple[ImageArray, int, int]:
    """Return a square around ``box``, black outside the frame, and its left and top in pixels."""
    side = max(2, round(max(box.width_px, box.height_px) * scale))
    centre_x, centre_y = box.centre_px
    left, top = round(centre_x - side / 2), round(centre_y - side / 2)
    height, width = pixels.shape[:2]
    rows = slice(max(top, 0), max(0, min(top + side, height)))
    columns = slice(max(left, 0), max(0, min(left + side, width)))
    crop = np.zeros((side, side, 3), np.uint8)
    inside = pixels[rows, columns]
    into_y, into_x = rows.start - top, columns.start - left
    crop[into_y : into_y + inside.shape[0], into_x : into_x + inside.shape[1]] = inside
    return crop, left, top
