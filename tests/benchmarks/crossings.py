"""Scripted faces that pass one another, as a detector would see them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgeface.types import BoundingBox, FaceDetection

__all__ = ["Crossing", "Seen", "crossings"]


@dataclass(frozen=True)
class Seen:
    """One detection and whose face it is."""

    detection: FaceDetection
    person: int


@dataclass(frozen=True)
class Crossing:
    """Frames ``1 / fps`` apart; in each, what the detector gives in a random order."""

    kind: str
    fps: float
    frames: list[list[Seen]]


def crossings(count: int, seed: int = 0) -> Iterator[Crossing]:
    """Yield ``count`` scripts: walking past, one stopping, turning back, side by side, a hand."""
    rng = np.random.default_rng(seed)
    kinds = ("past", "stops", "turns back", "beside", "hidden")
    for number in range(count):
        kind = kinds[number % len(kinds)]
        fps = float(rng.choice([8.0, 12.5, 15.0]))
        yield Crossing(kind, fps, list(_frames(kind, fps, rng)))


def _frames(kind: str, fps: float, rng: np.random.Generator) -> Iterator[list[Seen]]:
    duration_s, size = 4.0, rng.uniform(50, 110, 2)
    front = int(rng.integers(2))
    size[front] *= rng.uniform(1.05, 1.35)
    speed = rng.uniform(0.6, 2.0, 2) * size
    top = 200 + rng.uniform(-0.25, 0.25, 2) * size
    # A detector's boxes tremble by some percent of their size.
    tremble = rng.uniform(0.02, 0.06)
    missed = rng.uniform(0.0, 0.15)
    for step in range(int(duration_s * fps)):
        t = step / fps - duration_s / 2
        places = _places(kind, t, speed, size)
        boxes = [_box(places[k], top[k], size[k], tremble, rng) for k in range(2)]
        hidden = _hidden(kind, t, boxes, front)
        seen = [
            Seen(FaceDetection(boxes[k], float(rng.uniform(0.6, 0.95))), k)
            for k in range(2)
            if not hidden[k] and rng.uniform() >= missed
        ]
        yield [seen[k] for k in rng.permutation(len(seen))]


def _places(kind: str, t: float, speed: np.ndarray, size: np.ndarray) -> tuple[float, float]:
    """The x of both centres at ``t`` seconds from the moment they meet."""
    if kind == "stops":
        return 500 + speed[0] * min(t, 0.6), 500.0 + 0.2 * size[1]
    if kind == "turns back":
        # They come together to within a third of a face, and part the way they came.
        gap = 0.33 * size.mean()
        return 500 - gap / 2 - speed[0] * abs(t), 500 + gap / 2 + speed[1] * abs(t)
    if kind == "beside":
        x = 500 + speed[0] * t
        return x, x + 1.15 * size.mean()
    if kind == "hidden":
        return 500 + 0.5 * speed[0] * t, 500.0 + 3 * size.mean()
    return 500 + speed[0] * t, 500 - speed[1] * t


def _hidden(kind: str, t: float, boxes: list[BoundingBox], front: int) -> list[bool]:
    if kind == "hidden":
        return [-0.4 < t < 0.4, False]
    covered = boxes[0].iou(boxes[1]) > 0.3
    return [covered and k != front for k in range(2)]


def _box(x: float, y: float, size: float, tremble: float, rng: np.random.Generator) -> BoundingBox:
    side = size * (1 + rng.normal(0, tremble))
    x += rng.normal(0, tremble) * size
    y += rng.normal(0, tremble) * size
    return BoundingBox(x - side / 2, y - side / 2, side, side)
