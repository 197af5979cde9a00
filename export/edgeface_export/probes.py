"""Pictures to try a model on when the user gave none: smooth, coloured, and the same every time."""

from __future__ import annotations

import numpy as np

from edgeface.types import ImageArray, Size

__all__ = ["synthetic_crops"]


def synthetic_crops(count: int, size: Size, *, seed: int = 0) -> ImageArray:
    """Return (count, height, width, 3) uint8 pictures with the 1/f spectrum of natural images.

    They are no faces: they show that two graphs compute the same thing, and nothing about people.
    """
    generator = np.random.default_rng(seed)
    rows = np.fft.fftfreq(size.height_px)[:, None]
    columns = np.fft.rfftfreq(size.width_px)[None, :]
    falloff = 1 / np.maximum(np.hypot(rows, columns), 1 / max(size.height_px, size.width_px))
    shape = (count, 3, size.height_px, columns.shape[1])
    phases = generator.standard_normal(shape) + 1j * generator.standard_normal(shape)
    # One pattern shared by the channels and a weaker one of each: natural colours are correlated.
    spectrum = (phases[:, :1] + 0.35 * phases) * falloff
    pictures = np.fft.irfft2(spectrum, s=(size.height_px, size.width_px), axes=(2, 3))
    pictures /= pictures.std(axis=(1, 2, 3), keepdims=True)
    contrast = generator.uniform(25, 70, (count, 1, 1, 1))
    brightness = generator.uniform(80, 170, (count, 1, 1, 1))
    values = np.clip(pictures * contrast + brightness, 0, 255)
    return np.ascontiguousarray(values.transpose(0, 2, 3, 1)).astype(np.uint8)
