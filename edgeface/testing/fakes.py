"""Fakes at the seams: each takes the place of one outside thing and keeps what it was asked."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

import numpy as np
import numpy.typing as npt

from edgeface.errors import CameraError, InvalidInputError
from edgeface.types import (
    FaceDetection,
    FaceLandmarks,
    FloatArray,
    Frame,
    ImageArray,
)

__all__ = [
    "FakeBackend",
    "FakeCamera",
    "FakeDetector",
    "FakeLandmarkFinder",
    "FakeSource",
    "ManualClock",
]


class ManualClock:
    """A clock that stands still until it is told: ``clock()`` is the time, in seconds."""

    def __init__(self, now_s: float = 0.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Move the time on; ``seconds`` may be negative, as a real clock may be set back."""
        self.now_s += seconds


class FakeDetector:
    """A detector that returns ``script[i]`` for its i-th frame, and nothing after the last.

    ``repeat`` starts the script again instead. ``frames`` are those it was given.
    """

    def __init__(
        self, script: Sequence[Sequence[FaceDetection]] = (), *, repeat: bool = False
    ) -> None:
        lists = [list(detections) for detections in script]
        self._script = itertools.cycle(lists) if repeat else iter(lists)
        self.frames: list[Frame] = []
        self.closed = False

    def detect(self, frame: Frame) -> list[FaceDetection]:
        """Return the next detections of the script, best score first."""
        self.frames.append(frame)
        return sorted(next(self._script, []), key=lambda face: -face.score)

    def close(self) -> None:
        """Note the call in ``closed``."""
        self.closed = True


class FakeLandmarkFinder:
    """A finder that puts five points at fixed places of the box, or does what ``find`` says."""

    # Shares of the box's width and height: the arcface-112x112 template, to two digits.
    _POINTS = ((0.34, 0.46), (0.66, 0.46), (0.50, 0.64), (0.37, 0.82), (0.63, 0.82))

    def __init__(
        self, find: Callable[[Frame, FaceDetection], FaceLandmarks | None] | None = None
    ) -> None:
        self._find = find
        self.closed = False

    def find(self, frame: Frame, detection: FaceDetection) -> FaceLandmarks | None:
        """Return the landmarks of a frontal face that fills the box."""
        if self._find is not None:
            return self._find(frame, detection)
        box = detection.box
        points = np.array(self._POINTS) * (box.width_px, box.height_px)
        points += (box.left_px, box.top_px)
        return FaceLandmarks(points.astype(np.float32))

    def close(self) -> None:
        """Note the call in ``closed``."""
        self.closed = True


class FakeBackend:
    """An engine whose embedding depends on the pixels alone: equal crops, equal templates.

    The crop is reduced to blocks, and these go through a fixed random projection. Similar crops
    come out near each other, crops of different noise nearly at right angles. It recognises
    nobody.
    """

    # A crop becomes 8 x 8 blocks of 3 colours.
    _BLOCKS = 8

    def __init__(
        self, embedding_size: int = 64, *, artefact: str = "fp32", seed: int = 20240717
    ) -> None:
        self.name = "fake"
        self.artefact = artefact
        self.batch_sizes: list[int] = []
        self.closed = False
        shape = (self._BLOCKS * self._BLOCKS * 3, embedding_size)
        self._projection = np.random.default_rng(seed).standard_normal(shape)

    def run(self, crops: ImageArray) -> FloatArray:
        """Return (n, embedding size) float32 unit rows for (n, height, width, 3) uint8 crops.

        Raises:
            InvalidInputError: Another shape or type, as a real engine would refuse it.
        """
        if np.asarray(crops).dtype != np.dtype(np.uint8):
            raise InvalidInputError(f"crops must be uint8, got {np.asarray(crops).dtype}")
        if crops.ndim != 4 or crops.shape[3] != 3 or min(crops.shape[1:3]) < self._BLOCKS:
            raise InvalidInputError(
                f"crops must have shape (n, height, width, 3), got {crops.shape}"
            )
        self.batch_sizes.append(len(crops))
        features = self._blocks(crops) @ self._projection
        # A crop of one colour has no features; any fixed direction serves.
        features[:, 0] += 1e-6
        rows = features / np.linalg.norm(features, axis=1, keepdims=True)
        return np.asarray(rows, np.float32)

    def close(self) -> None:
        """Note the call in ``closed``."""
        self.closed = True

    def _blocks(self, crops: ImageArray) -> npt.NDArray[np.float64]:
        """Return (n, 192) block means, each crop's own mean taken away."""
        rows = np.array_split(crops.astype(np.float64), self._BLOCKS, axis=1)
        columns = [np.array_split(row, self._BLOCKS, axis=2) for row in rows]
        means = np.stack([block.mean((1, 2)) for row in columns for block in row], axis=1)
        centred: npt.NDArray[np.float64] = means - means.mean((1, 2), keepdims=True)
        return centred.reshape(len(crops), self._BLOCKS * self._BLOCKS * 3)


class FakeSource:
    """A source that gives the frames it was made with.

    Pixels become frames ``1 / fps`` apart. ``delay_s`` is slept before each frame. After
    ``fail_after`` frames the source raises CameraError.
    """

    def __init__(
        self,
        frames: Sequence[Frame | ImageArray],
        *,
        name: str = "fake",
        fps: float | None = 25.0,
        delay_s: float = 0.0,
        fail_after: int | None = None,
    ) -> None:
        self.name = name
        self.fps = fps
        self.is_live = False
        self.frame_count: int | None = len(frames)
        self.skipped = 0
        self.closed = False
        self._frames = [
            frame if isinstance(frame, Frame) else Frame(frame, index / (fps or 1.0), index, name)
            for index, frame in enumerate(frames)
        ]
        self._delay_s = delay_s
        self._fail_after = fail_after
        self._position = 0

    def __iter__(self) -> Iterator[Frame]:
        while not self.closed:
            if self._position == self._fail_after:
                raise CameraError(f"{self.name} stopped giving frames; the script said so")
            if self._position >= len(self._frames):
                return
            self._position += 1
            time.sleep(self._delay_s)
            yield self._frames[self._position - 1]

    def close(self) -> None:
        """End the iteration, and note the call in ``closed``."""
        self.closed = True

    def __enter__(self) -> FakeSource:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class FakeCamera(FakeSource):
    """A :class:`FakeSource` that says of itself that it is live."""

    def __init__(
        self,
        frames: Sequence[Frame | ImageArray],
        *,
        name: str = "fake camera",
        fps: float | None = 25.0,
        delay_s: float = 0.0,
        fail_after: int | None = None,
    ) -> None:
        super().__init__(frames, name=name, fps=fps, delay_s=delay_s, fail_after=fail_after)
        self.is_live = True
        self.frame_count = None
