"""Pictures that no camera took, for a teacher that can label any picture.

Function matching (Beyer et al. 2022, "Knowledge distillation: a good teacher is patient and
consistent") needs no true label, so a picture may be turned, bent, mixed with another face or
half covered, as long as teacher and student see the very same pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

CROP_PX = 112


@dataclass(frozen=True)
class Strength:
    """How often and how much. Shares are of all pictures; the rest is in the functions."""

    mixed: float = 0.55
    bent: float = 0.4
    turn_degrees: float = 9.0
    scale: float = 0.1
    shift_px: float = 5.0
    coloured: float = 0.8
    degraded: float = 0.4
    covered: float = 0.2


def make_picture(faces: Picture, rng: np.random.Generator, strength: Strength) -> Picture:
    """Return one (112, 112, 3) uint8 RGB picture made from random wide crops ``faces``."""
    picture = _take(faces, rng, strength)
    if rng.random() < strength.mixed:
        picture = _mix(picture, _take(faces, rng, strength), rng)
    if rng.random() < strength.bent:
        picture = _bend(picture, rng)
    if rng.random() < strength.coloured:
        picture = _colour(picture, rng)
    if rng.random() < strength.degraded:
        picture = _degrade(picture, rng)
    if rng.random() < strength.covered:
        picture = _cover(picture, faces, rng)
    return picture


def _take(faces: Picture, rng: np.random.Generator, strength: Strength) -> Picture:
    """A random face, turned, scaled, shifted, perhaps mirrored."""
    import cv2

    face = faces[rng.integers(len(faces))]
    middle = face.shape[0] / 2
    angle = float(np.clip(rng.normal(0, strength.turn_degrees / 2), -25, 25))
    scale = float(np.exp(np.clip(rng.normal(0, strength.scale / 1.5), -0.3, 0.3)))
    matrix = cv2.getRotationMatrix2D((middle, middle), angle, scale)
    matrix[:, 2] += CROP_PX / 2 - middle + rng.normal(0, strength.shift_px / 2, 2)
    picture = cv2.warpAffine(
        face, matrix, (CROP_PX, CROP_PX), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.ascontiguousarray(picture[:, ::-1]) if rng.random() < 0.5 else picture


def _mix(a: Picture, b: Picture, rng: np.random.Generator) -> Picture:
    """A third person: aligned faces blended, or one's features in the other's face."""
    if rng.random() < 0.5:
        mask = np.full((CROP_PX, CROP_PX, 1), rng.uniform(0.25, 0.75), np.float32)
    else:
        mask = _soft_mask(rng)
    blended = a * mask + b * (1 - mask)
    return np.clip(blended + 0.5, 0, 255).astype(np.uint8)


def _soft_mask(rng: np.random.Generator) -> Floats:
    """(112, 112, 1) in 0..1: a half plane, a band or a blob with a soft edge."""
    y, x = np.mgrid[0:CROP_PX, 0:CROP_PX].astype(np.float32)
    angle, soft = rng.uniform(0, 2 * np.pi), rng.uniform(2, 12)
    centre = rng.uniform(35, 77, 2)
    along = (x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)
    kind = rng.integers(3)
    if kind == 0:
        edge = along
    elif kind == 1:
        edge = rng.uniform(8, 22) - np.abs(y - centre[1])
    else:
        radii = rng.uniform(12, 40, 2)
        away = np.hypot((x - centre[0]) / radii[0], (y - centre[1]) / radii[1])
        edge = (1 - away) * radii.min()
    return np.asarray(1 / (1 + np.exp(-np.clip(edge / soft * 3, -30, 30))), np.float32)[..., None]


def _bend(picture: Picture, rng: np.random.Generator) -> Picture:
    """Features moved by a smooth field of a few pixels: another face of the same skin."""
    import cv2

    knots = int(rng.integers(3, 7))
    reach = rng.uniform(1.0, 4.5)
    field = rng.normal(0, reach, (knots, knots, 2)).astype(np.float32)
    field = cv2.resize(field, (CROP_PX, CROP_PX), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[0:CROP_PX, 0:CROP_PX].astype(np.float32)
    to_x, to_y = x + field[..., 0], y + field[..., 1]
    bent = cv2.remap(picture, to_x, to_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(bent, np.uint8)


def _colour(picture: Picture, rng: np.random.Generator) -> Picture:
    """Gain and offset of each channel and gamma, through a table; now and then grey."""
    import cv2

    values = np.linspace(0, 1, 256, dtype=np.float32)[:, None]
    gain = np.exp(rng.normal(0, 0.18) + rng.normal(0, 0.06, 3))
    table = np.clip(values ** np.exp(rng.normal(0, 0.2)) * gain + rng.normal(0, 0.05), 0, 1)
    table = (table * 255 + 0.5).astype(np.uint8)
    coloured = cv2.LUT(picture, table[None])
    if rng.random() < 0.08:
        grey = cv2.cvtColor(coloured, cv2.COLOR_RGB2GRAY)
        coloured = np.repeat(grey[..., None], 3, axis=2)
    return np.asarray(coloured, np.uint8)


def _degrade(picture: Picture, rng: np.random.Generator) -> Picture:
    """One of: blur, fewer pixels, JPEG, noise."""
    import cv2

    kind = rng.integers(4)
    if kind == 0:
        worse = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.4, 1.8)))
    elif kind == 1:
        side = int(rng.integers(32, 96))
        small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
        worse = cv2.resize(small, (CROP_PX, CROP_PX), interpolation=cv2.INTER_LINEAR)
    elif kind == 2:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 80))]
        worse = cv2.imdecode(cv2.imencode(".jpg", picture, quality)[1], cv2.IMREAD_COLOR)
    else:
        noise = rng.normal(0, rng.uniform(2, 12), picture.shape)
        worse = np.clip(picture + noise, 0, 255)
    return np.asarray(worse, np.uint8)


def _cover(picture: Picture, faces: Picture, rng: np.random.Generator) -> Picture:
    """A rectangle of one colour, or of another photograph, over a part of the face."""
    height, width = rng.integers(12, 56, 2)
    top, left = rng.integers(0, CROP_PX - height), rng.integers(0, CROP_PX - width)
    covered = picture.copy()
    if rng.random() < 0.5:
        covered[top : top + height, left : left + width] = rng.integers(0, 256, 3)
    else:
        other = faces[rng.integers(len(faces))]
        covered[top : top + height, left : left + width] = other[:height, :width]
    return covered
