"""What others run: SCRFD-500M at 640 and a plain FP32 recogniser in ONNX Runtime, every frame.

The steps are those of insightface's ``FaceAnalysis.get``: letterbox, blob, network, boxes by
distance, greedy suppression, alignment on the detector's five points, one embedding a face.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeface.alignment import align
from edgeface.types import BoundingBox, FaceDetection, Frame

__all__ = ["PeerFace", "PeerPipeline", "Scrfd"]

_INPUT_PX = 640
_STRIDES = (8, 16, 32)
_ANCHORS = 2
_MIN_SCORE, _MAX_OVERLAP = 0.5, 0.4

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PeerFace:
    detection: FaceDetection
    embedding: Floats


def session(path: Path, threads: int = 1) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class Scrfd:
    """The detector; ``detect`` gives faces with five key points, best score first."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._session = session(path, threads)
        self._input = self._session.get_inputs()[0].name
        self._centres = {stride: _centres(stride) for stride in _STRIDES}

    def detect(self, frame: Frame) -> list[FaceDetection]:
        import cv2

        height, width = frame.pixels.shape[:2]
        scale = _INPUT_PX / max(height, width)
        small = cv2.resize(frame.pixels, (int(width * scale), int(height * scale)))
        canvas = np.zeros((_INPUT_PX, _INPUT_PX, 3), np.uint8)
        canvas[: small.shape[0], : small.shape[1]] = small
        # insightface's pictures are BGR and its blob swaps them; ours are RGB already.
        blob = cv2.dnn.blobFromImage(canvas, 1 / 128, canvas.shape[:2], (127.5, 127.5, 127.5))
        outputs = self._session.run(None, {self._input: blob})
        scores, boxes, points = self._decode(outputs)
        keep = _suppress(boxes, scores)
        return [_detection(scores[k], boxes[k] / scale, points[k] / scale) for k in keep]

    def _decode(self, outputs: list[Floats]) -> tuple[Floats, Floats, Floats]:
        levels = len(_STRIDES)
        scores, boxes, points = [], [], []
        for k, stride in enumerate(_STRIDES):
            rows = np.where(outputs[k][:, 0] >= _MIN_SCORE)[0]
            centres = self._centres[stride][rows]
            sides = outputs[k + levels][rows] * stride
            scores.append(outputs[k][rows, 0])
            boxes.append(np.hstack([centres - sides[:, :2], centres + sides[:, 2:]]))
            steps = outputs[k + 2 * levels][rows].reshape(-1, 5, 2) * stride
            points.append(centres[:, None] + steps)
        return np.concatenate(scores), np.concatenate(boxes), np.concatenate(points)


class PeerPipeline:
    """Detector and recogniser on every frame; ``recogniser`` takes uint8 RGB crops."""

    def __init__(self, detector: Path, recogniser: Path, template: str, threads: int = 1) -> None:
        self.detector = Scrfd(detector, threads)
        self._recogniser = session(recogniser, threads)
        self._input = self._recogniser.get_inputs()[0].name
        self._template = template

    def process(self, frame: Frame) -> list[PeerFace]:
        faces = []
        for detection in self.detector.detect(frame):
            crop = align(frame, detection.keypoints_px, self._template).pixels
            row = self._recogniser.run(None, {self._input: crop[None]})[0][0]
            faces.append(PeerFace(detection, row))
        return faces


def _centres(stride: int) -> Floats:
    side = _INPUT_PX // stride
    rows, columns = np.mgrid[:side, :side].astype(np.float32) * np.float32(stride)
    return np.repeat(np.column_stack([columns.ravel(), rows.ravel()]), _ANCHORS, axis=0)


def _suppress(boxes: Floats, scores: Floats) -> list[int]:
    """Return the boxes that no better one covers, as insightface's ``nms``."""
    areas = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    order, keep = scores.argsort()[::-1], []
    while order.size:
        best, others = order[0], order[1:]
        keep.append(int(best))
        low = np.maximum(boxes[best, :2], boxes[others, :2])
        high = np.minimum(boxes[best, 2:], boxes[others, 2:])
        common = np.maximum(0.0, high - low + 1).prod(1)
        order = others[common / (areas[best] + areas[others] - common) <= _MAX_OVERLAP]
    return keep


def _detection(score: float, box: Floats, points: Floats) -> FaceDetection:
    left, top, right, bottom = (float(value) for value in box)
    return FaceDetection(BoundingBox(left, top, right - left, bottom - top), float(score), points)
