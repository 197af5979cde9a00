"""Measures of the pixels of an aligned crop.

The crop is the model's, 112 pixels high, whatever the size of the face in the frame: the cost does
not grow with the face. Light is measured on the middle of the crop, from the brows to the chin and
between the cheeks, where OFIQ takes the region inside the outline of the landmarks at 616x616.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from edgeface.types import AlignedFace, FaceLandmarks, ImageArray, QualityMeasure

__all__ = [
    "dynamic_range",
    "illumination_uniformity",
    "light_measures",
    "linear_luminance",
    "luminance",
    "natural_colour",
    "sharpness",
    "skin_measures",
]

Reals = npt.NDArray[np.float64]

_NO_CONTRAST = 1e-3
"""Below a quarter of one step of 8 bits there is nothing to see."""

_MIDDLE_ROWS, _MIDDLE_COLUMNS = (0.25, 0.95), (0.2, 0.8)
"""From the brows to the chin and between the cheeks, as shares of the crop: no background."""

_BT601 = np.array([0.299, 0.587, 0.114]) / 255
_BT709 = np.array([0.2126, 0.7152, 0.0722])
# IEC 61966-2-1 (sRGB) to linear light, for the 256 values of a byte.
_BYTE = np.arange(256) / 255
_LINEAR = np.where(_BYTE <= 0.04045, _BYTE / 12.92, ((_BYTE + 0.055) / 1.055) ** 2.4)
_WEIGHTED = _BT709[:, None] * _LINEAR * 255
"""What each value of red, green and blue adds to a luminance of 0..255."""
# ISO/IEC 29794-5, over- and under-exposure: the luminances that count as too bright, too dark.
_TOO_BRIGHT, _TOO_DARK = slice(247, 256), slice(0, 26)
# ISO/IEC 29794-5, natural colour: linear sRGB to XYZ of the white point D50, and that white.
_TO_XYZ = np.array(
    [[0.43605, 0.38508, 0.14309], [0.22249, 0.71689, 0.06062], [0.01393, 0.09710, 0.71419]]
)
_WHITE = np.array([0.964221, 1.0, 0.825211])
_SKIN_A, _SKIN_B = (5.0, 25.0), (5.0, 35.0)
# OFIQ's value for a colour that no skin has: green or blue.
_NO_SKIN = 100.0
_CHEEK = 0.3
"""ISO/IEC 29794-5: side of a cheek zone over the distance of the eyes."""


def luminance(crop: ImageArray) -> float:
    """Return the mean luminance of the middle of an aligned crop, 0 black to 1 white.

    ITU-R BT.601, gamma-coded as the pixels are: what the eye sees, and not the luminance mean of
    ISO/IEC 29794-5, which is of linear light.
    """
    return float(_grey_middle(crop).mean())


def sharpness(crop: ImageArray) -> float:
    """Return the sharpness of the middle of an aligned crop; 0 for one without any contrast.

    Standard deviation of the Laplacian over that of the luminance, no unit, 0 to about 1.5 for
    faces. The crop has one size whatever the size of the face, and the division takes out contrast
    and exposure. A proxy, not the sharpness of ISO/IEC 29794-5, which is a random forest.
    """
    light = _grey_middle(crop)
    if min(light.shape) < 3:
        return 0.0
    spread = float(light.std())
    around = light[:-2, 1:-1] + light[2:, 1:-1] + light[1:-1, :-2] + light[1:-1, 2:]
    laplacian = around - 4 * light[1:-1, 1:-1]
    return float(laplacian.std()) / spread if spread > _NO_CONTRAST else 0.0


def light_measures(crop: ImageArray) -> dict[QualityMeasure, float]:
    """Return luminance mean and variance, dynamic range, and over- and under-exposure.

    All of the histogram of linear luminance, ISO/IEC 29794-5. OFIQ leaves out pixels that its
    segmentation finds covered by glasses or hands when it measures exposure; here they count.
    """
    shares = _shares(linear_luminance(_middle(crop)))
    mean = float(shares @ _BYTE)
    return {
        QualityMeasure.LUMINANCE_MEAN: mean,
        QualityMeasure.LUMINANCE_VARIANCE: float(shares @ (_BYTE - mean) ** 2),
        QualityMeasure.DYNAMIC_RANGE: dynamic_range(shares),
        QualityMeasure.OVER_EXPOSURE: float(shares[_TOO_BRIGHT].sum()),
        QualityMeasure.UNDER_EXPOSURE: float(shares[_TOO_DARK].sum()),
    }


def skin_measures(landmarks: FaceLandmarks, aligned: AlignedFace) -> dict[QualityMeasure, float]:
    """Return illumination uniformity and natural colour of the two cheeks.

    NaN where a cheek lies outside the crop. Eyes are the centres of the irises, OFIQ's the middles
    of their corners.
    """
    left, right = _cheeks(landmarks, aligned)
    return {
        QualityMeasure.ILLUMINATION_UNIFORMITY: illumination_uniformity(left, right),
        QualityMeasure.NATURAL_COLOUR: natural_colour(left, right),
    }


def linear_luminance(pixels: ImageArray) -> npt.NDArray[np.int64]:
    """Return the (height, width) luminance of RGB pixels, 0..255 in linear light, rounded.

    ISO/IEC 29794-5: sRGB to linear light, then ITU-R BT.709.
    """
    red, green, blue = (_WEIGHTED[k][pixels[..., k]] for k in range(3))
    light: npt.NDArray[np.int64] = (red + green + blue + 0.5).astype(np.int64)
    return light


def dynamic_range(shares: Reals) -> float:
    """Return the entropy in bits, 0..8, of a (256,) histogram of shares (ISO/IEC 29794-5)."""
    seen = shares[shares > 0]
    return float(-(seen * np.log2(seen)).sum())


def illumination_uniformity(left: ImageArray, right: ImageArray) -> float:
    """Return how much two zones have the same luminances, 0..1; NaN for an empty zone.

    ISO/IEC 29794-5: the intersection of their histograms.
    """
    if left.size == 0 or right.size == 0:
        return math.nan
    both = np.minimum(_shares(linear_luminance(left)), _shares(linear_luminance(right)))
    return float(both.sum())


def natural_colour(left: ImageArray, right: ImageArray) -> float:
    """Return how far the mean colour of two zones is from skin, in CIELAB units; NaN if empty.

    ISO/IEC 29794-5: distance of a* from 5..25 and of b* from 5..35; 100 where one is negative.
    0 for pictures without any colour, which are those of another camera and not of another light.
    """
    if left.size == 0 or right.size == 0:
        return math.nan
    pixels = np.concatenate([left.reshape(-1, 3), right.reshape(-1, 3)])
    if (pixels == pixels[:, :1]).all():
        return 0.0
    mean = pixels.mean(0) / 255
    linear = np.where(mean <= 0.04045, mean / 12.92, ((mean + 0.055) / 1.055) ** 2.4)
    ratio = _TO_XYZ @ linear / _WHITE
    # CIE 15: kappa = 24389/27 and epsilon = 216/24389.
    curve = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    a, b = float(500 * (curve[0] - curve[1])), float(200 * (curve[1] - curve[2]))
    if a < 0 or b < 0:
        return _NO_SKIN
    return math.hypot(_outside(a, *_SKIN_A), _outside(b, *_SKIN_B))


def _outside(value: float, low: float, high: float) -> float:
    return max(low - value, 0.0, value - high)


def _shares(light: npt.NDArray[np.int64]) -> Reals:
    counts: Reals = np.bincount(light.ravel(), minlength=256) / light.size
    return counts


def _middle(crop: ImageArray) -> ImageArray:
    height, width = crop.shape[:2]
    rows = slice(int(height * _MIDDLE_ROWS[0]), max(1, int(height * _MIDDLE_ROWS[1])))
    columns = slice(int(width * _MIDDLE_COLUMNS[0]), max(1, int(width * _MIDDLE_COLUMNS[1])))
    return crop[rows, columns]


def _grey_middle(crop: ImageArray) -> Reals:
    """Return the gamma-coded luminance in 0..1 of the middle of an aligned crop."""
    light: Reals = _middle(crop).astype(np.float64) @ _BT601
    return light


def _cheeks(landmarks: FaceLandmarks, aligned: AlignedFace) -> tuple[ImageArray, ImageArray]:
    """Return the zones outwards of the eyes, half-way down to the mouth; empty when outside."""
    matrix = aligned.frame_to_crop.astype(np.float64)
    points = landmarks.points_px.astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]
    left, right, mouth = points[0], points[1], points[3:].mean(0)
    side = int(np.linalg.norm(right - left) * _CHEEK)
    down = np.linalg.norm(mouth - (left + right) / 2) / 2
    return (
        _square(aligned.pixels, left[0] - side, left[1] + down, side),
        _square(aligned.pixels, right[0], right[1] + down, side),
    )


def _square(pixels: ImageArray, left: float, top: float, side: int) -> ImageArray:
    height, width = pixels.shape[:2]
    # A comparison with NaN is false, so NaN is refused here as well.
    if not (0 <= left <= width - side and 0 <= top <= height - side):
        return pixels[:0, :0]
    return pixels[round(top) : round(top) + side, round(left) : round(left) + side]
