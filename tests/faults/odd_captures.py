"""Captures that give pixels of odd shapes and types; opened in a reader's process."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np

from edgeface.camera.captures import Capture, Shot

_RNG = np.random.default_rng(5)
_BGR = _RNG.integers(0, 256, (48, 64, 3), np.uint8)

PICTURES: dict[str, Any] = {
    "1x1": _BGR[:1, :1],
    "grey without channels": _BGR[..., 0],
    "grey with one channel": _BGR[..., :1],
    "with alpha": np.dstack([_BGR, _BGR[..., 0]]),
    "16 bits": _BGR.astype(np.uint16) << 8,
    "not contiguous": np.repeat(_BGR, 2, axis=1)[:, ::2],
    "negative strides": _BGR[::-1, ::-1],
    "read-only": np.frombuffer(_BGR.tobytes(), np.uint8).reshape(_BGR.shape),
    "no rows": _BGR[:0],
    "no columns": _BGR[:, :0],
    "nothing": None,
    "float": _BGR.astype(np.float64),
    "two channels": _BGR[..., :2],
    "one dimension": _BGR.reshape(-1),
}
WANTED_BGR = _BGR


class OddCapture:
    """Gives one picture again and again, a little brighter each time."""

    fps = 50.0

    def __init__(self, what: str) -> None:
        self._pixels = PICTURES[what]
        self._count = itertools.count()

    def read(self) -> Shot:
        time.sleep(0.02)
        return Shot(self._pixels, next(self._count) / self.fps)

    def release(self) -> None:
        pass


def open_odd(*, what: str) -> Capture:
    return OddCapture(what)


class FlightyCapture:
    """Gives one frame and fails, again and again."""

    fps = None

    def __init__(self) -> None:
        self._left = 1

    def read(self) -> Shot:
        if not self._left:
            raise OSError("no such device, rtsp://me:hunter2@camera/live")
        self._left -= 1
        return Shot(_BGR)

    def release(self) -> None:
        raise OSError("nor this")


def open_flighty(*, address: str) -> Capture:
    assert address
    return FlightyCapture()
