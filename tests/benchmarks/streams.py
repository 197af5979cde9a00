"""What the benchmarks of streams share: processor time, recognisers, sources at a pace."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edgeface.pipeline import Recognizer, RecognizerOptions
from edgeface.testing import FakeSource
from edgeface.types import Frame, ImageArray

__all__ = ["Clip", "PacedCamera", "cpu_s", "open_recognizer"]


def cpu_s() -> float:
    """Processor time of the whole process: MediaPipe and the engines have threads of their own."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Clip:
    """A decoded clip; ``frames`` may be taken again and again."""

    def __init__(self, path: Path, limit: int = 10_000) -> None:
        import cv2

        capture = cv2.VideoCapture(str(path))
        self.fps = float(capture.get(cv2.CAP_PROP_FPS))
        self.pixels: list[ImageArray] = []
        while len(self.pixels) < limit:
            ok, picture = capture.read()
            if not ok:
                break
            self.pixels.append(np.ascontiguousarray(picture[..., ::-1]))

    def frames(self, name: str = "clip") -> list[Frame]:
        return [Frame(p, k / self.fps, k, name) for k, p in enumerate(self.pixels)]

    def source(self) -> FakeSource:
        return FakeSource(self.pixels, fps=self.fps)


def open_recognizer(bundle: Path, **changes: object) -> Recognizer:
    """One thread; ``changes`` are fields of the options."""
    options = RecognizerOptions(threads=1, **changes)  # type: ignore[arg-type]
    return Recognizer.open(bundle, options=options)


class PacedCamera:
    """A camera that takes a picture every ``1 / fps`` seconds, whether anybody looks or not."""

    is_live = True
    frame_count = None
    skipped = 0

    def __init__(
        self, pixels: Sequence[ImageArray], *, name: str, fps: float, seconds: float
    ) -> None:
        self.name, self.fps = name, fps
        self.given = 0
        self._pixels, self._count = pixels, round(seconds * fps)
        self._closed = False

    def __iter__(self) -> Iterator[Frame]:
        started_s = time.monotonic()
        index = 0
        while index < self._count and not self._closed:
            due_s = started_s + index / self.fps
            time.sleep(max(0.0, due_s - time.monotonic()))
            # The newest picture by now: those missed meanwhile are dropped, as a camera does.
            index = max(index, int((time.monotonic() - started_s) * self.fps))
            self.given += 1
            taken_s = started_s + index / self.fps
            yield Frame(self._pixels[index % len(self._pixels)], taken_s, index, self.name)
            index += 1

    def close(self) -> None:
        self._closed = True

    def __enter__(self) -> PacedCamera:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
