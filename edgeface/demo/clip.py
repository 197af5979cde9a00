"""A camera clip made from two portraits: people who come, move, and leave.

A camera on a wall is imitated: the picture of a person is put before a blurred room, moved,
zoomed and turned a little, under changing light, with motion blur and sensor noise. Every number
comes from a seed, so the clip is the same each time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeface.camera import AnnotatedVideoWriter
from edgeface.demo.photos import ENROLLED, STRANGER, photo
from edgeface.types import ImageArray, Size

__all__ = ["CLIP_FPS", "SCENES", "Scene", "clip_frames", "write_clip"]

CLIP_FPS = 15.0
_SIZE = Size(640, 480)


@dataclass(frozen=True, slots=True)
class Scene:
    """A stretch of the clip: ``person`` is a portrait or None for an empty room.

    ``light`` multiplies the brightness; ``blur_px`` is the length of the motion blur.
    """

    person: str | None
    seconds: float
    light: float = 1.0
    blur_px: int = 0


SCENES = (
    Scene(None, 1.0),
    Scene(ENROLLED, 4.0),
    Scene(None, 1.5),
    Scene(STRANGER, 4.0),
    Scene(None, 1.5),
    Scene(ENROLLED, 3.0, light=0.55, blur_px=3),
    Scene(None, 1.0),
)


def clip_frames(*, seed: int = 7) -> Iterator[tuple[Scene, ImageArray]]:
    """Yield (scene, (480, 640, 3) uint8 RGB frame) for the whole clip, ``CLIP_FPS`` a second."""
    generator = np.random.default_rng(seed)
    room = _room(generator)
    for scene in SCENES:
        portrait = None if scene.person is None else photo(scene.person)
        count = round(scene.seconds * CLIP_FPS)
        for k in range(count):
            picture = room if portrait is None else _with_person(room, portrait, k / count)
            yield scene, _through_camera(picture, scene, k, generator)


def write_clip(path: Path, *, seed: int = 7) -> None:
    """Write the clip to ``path`` as an mp4 file.

    Raises:
        CameraError: The file cannot be written.
        MissingDependencyError: A package that holds a portrait is not installed.
    """
    with AnnotatedVideoWriter(path, CLIP_FPS) as writer:
        for _, frame in clip_frames(seed=seed):
            writer.write(frame)


def _room(generator: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return a soft, greyish background in 0..255."""
    import cv2

    small = generator.uniform(70, 165, (6, 8, 1)) + generator.uniform(-8, 8, (6, 8, 3))
    size = (_SIZE.width_px, _SIZE.height_px)
    large = cv2.resize(small.astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
    return np.asarray(cv2.GaussianBlur(large, (0, 0), 21), np.float32)


def _with_person(
    room: npt.NDArray[np.float32], portrait: ImageArray, progress: float
) -> npt.NDArray[np.float32]:
    """Return the room with the portrait in it, at ``progress`` 0..1 of its scene."""
    import cv2

    height, width = portrait.shape[:2]
    # In from the right edge over the first quarter of the scene, out again over the last.
    inside = min(1.0, progress / 0.25, (1.0 - progress) / 0.25)
    scale = (0.62 + 0.12 * math.sin(2 * math.pi * progress)) * _SIZE.height_px / height * 1.25
    angle_deg = 7.0 * math.sin(4 * math.pi * progress)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle_deg, scale)
    x = _SIZE.width_px * (0.5 + 0.14 * math.sin(3 * math.pi * progress) + 0.6 * (1 - inside) ** 2)
    matrix[:, 2] += (x - width / 2, _SIZE.height_px * 0.56 - height / 2)
    size = (_SIZE.width_px, _SIZE.height_px)
    placed = cv2.warpAffine(portrait, matrix, size, flags=cv2.INTER_AREA).astype(np.float32)
    solid = np.full((height, width), 255, np.uint8)
    mask = cv2.GaussianBlur(cv2.warpAffine(solid, matrix, size), (0, 0), 2)
    alpha = mask.astype(np.float32)[..., None] / 255.0
    return np.asarray(room * (1 - alpha) + placed * alpha, np.float32)


def _through_camera(
    picture: npt.NDArray[np.float32], scene: Scene, k: int, generator: np.random.Generator
) -> ImageArray:
    """Return the picture as a camera would give it: light, motion blur, noise, 8 bits."""
    import cv2

    if scene.blur_px > 1:
        kernel = np.full((1, scene.blur_px), 1 / scene.blur_px, np.float32)
        picture = cv2.filter2D(picture, -1, kernel)
    flicker = 1.0 + 0.04 * math.sin(0.9 * k)
    noise = generator.normal(0, 3.0, picture.shape)
    return np.clip(picture * (scene.light * flicker) + noise, 0, 255).astype(np.uint8)
