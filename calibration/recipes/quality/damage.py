"""Pictures made worse in one way, as cameras make them: for quality measures to learn from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeface.types import FloatArray, ImageArray

__all__ = ["DAMAGES", "damaged"]

Rng = np.random.Generator


def damaged(kind: str, pixels: ImageArray, points_px: FloatArray, rng: Rng) -> ImageArray:
    """Return (height, width, 3) uint8 RGB ``pixels`` made worse in the way called ``kind``.

    ``points_px`` are the five points of the face. Only ``small`` changes the size of the picture.
    """
    changed = DAMAGES[kind](pixels, np.asarray(points_px, np.float64), rng)
    return np.ascontiguousarray(np.clip(changed, 0, 255).astype(np.uint8))


def _eyes_px(points: np.ndarray) -> float:
    return float(np.linalg.norm(points[1] - points[0]))


def _small(pixels: ImageArray, points: np.ndarray, rng: Rng) -> np.ndarray:
    import cv2

    scale = rng.uniform(8, 30) / _eyes_px(points)
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _blurred(pixels: ImageArray, points: np.ndarray, rng: Rng) -> np.ndarray:
    import cv2

    return cv2.GaussianBlur(pixels, (0, 0), _eyes_px(points) * rng.uniform(0.02, 0.11))


def _moved(pixels: ImageArray, points: np.ndarray, rng: Rng) -> np.ndarray:
    import cv2

    length = max(3, int(_eyes_px(points) * rng.uniform(0.08, 0.4)))
    angle, middle = rng.uniform(0, np.pi), (length - 1) / 2
    kernel = np.zeros((length, length), np.float32)
    for step in np.linspace(-middle, middle, 4 * length):
        row, column = middle + step * np.sin(angle), middle + step * np.cos(angle)
        kernel[round(row), round(column)] = 1
    return cv2.filter2D(pixels, -1, kernel / kernel.sum())


def _dark(pixels: ImageArray, _points: np.ndarray, rng: Rng) -> np.ndarray:
    return pixels * rng.uniform(0.04, 0.5) + rng.normal(0, rng.uniform(1, 4), pixels.shape)


def _bright(pixels: ImageArray, _points: np.ndarray, rng: Rng) -> np.ndarray:
    return pixels * rng.uniform(1.4, 3) + rng.uniform(0, 60)


def _noisy(pixels: ImageArray, _points: np.ndarray, rng: Rng) -> np.ndarray:
    return pixels + rng.normal(0, rng.uniform(8, 45), pixels.shape)


def _compressed(pixels: ImageArray, _points: np.ndarray, rng: Rng) -> np.ndarray:
    import cv2

    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(rng.uniform(3, 25))])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def _lit_from_one_side(pixels: ImageArray, points: np.ndarray, rng: Rng) -> np.ndarray:
    across = (np.arange(pixels.shape[1]) - points[:, 0].mean()) / _eyes_px(points)
    light = 1 / (1 + np.exp(-rng.choice([-1, 1]) * across * rng.uniform(1.5, 5)))
    least = rng.uniform(0, 0.3)
    return pixels * (1.2 * (least + (1 - least) * light))[None, :, None]


def _covered(pixels: ImageArray, points: np.ndarray, rng: Rng) -> np.ndarray:
    """Cover the eyes, the mouth, or a square around one of the points."""
    eyes = _eyes_px(points)
    size = float(rng.uniform(0.4, 0.8))
    places = [
        (points[:2].mean(0), 1.1, 0.3),
        (points[3:].mean(0), 1.0, 0.55),
        (points[rng.integers(5)], size, size),
    ]
    centre, half_width, half_height = places[rng.integers(3)]
    left, right = (max(0, int(centre[0] + s * half_width * eyes)) for s in (-1, 1))
    top, bottom = (max(0, int(centre[1] + s * half_height * eyes)) for s in (-1, 1))
    changed = pixels.astype(np.float64)
    changed[top:bottom, left:right] = rng.uniform(0, 255, 3)
    return changed


DAMAGES: dict[str, Callable[[ImageArray, np.ndarray, Rng], np.ndarray]] = {
    "small": _small,
    "blurred": _blurred,
    "moved": _moved,
    "dark": _dark,
    "bright": _bright,
    "noisy": _noisy,
    "compressed": _compressed,
    "lit from one side": _lit_from_one_side,
    "covered": _covered,
}
