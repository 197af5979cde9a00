"""Frames in memory that two processes share: the newest one wins, and none is read torn.

A header and three slots. The writer fills the slot after the newest, so that a reader has two
frame times for its copy; a counter in each slot, odd while it is written, tells a copy that was
overtaken. The memory has no name: nothing of it is left when both processes are gone, however
they ended.
"""

from __future__ import annotations

import mmap
import os
import secrets
import sys
import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeface.errors import CameraError
from edgeface.types import ImageArray

__all__ = ["FrameRing", "RingFrame"]

_SLOTS = 3
_PAGE = 4096
# Header: words of 8 bytes.
_COUNT, _HEARTBEAT, _SKIPPED, _REFUSED = range(4)
_FIRST_SLOT, _SLOT_WORDS = 8, 8
_SEQUENCE, _INDEX, _CAPTURED, _WIDTH, _HEIGHT = range(5)
# A writer that laps the copy this often in a row is not a camera.
_TRIES = 16


@dataclass(frozen=True, slots=True, eq=False)
class RingFrame:
    """A copy of a frame: (height, width, 3) uint8 RGB, its number, and when it was taken."""

    pixels: ImageArray
    index: int
    captured_s: float


class FrameRing:
    """Both ends of the ring; one process writes, another reads."""

    def __init__(self, token: int | str, max_pixels: int) -> None:
        """Map the memory that ``token`` stands for, a descriptor or the name of a mapping."""
        self.token = token
        self.max_pixels = max_pixels
        self._slot_bytes = -(-max_pixels * 3 // _PAGE) * _PAGE
        length = _length(max_pixels)
        self._memory = _map(token, length)
        self._words = np.frombuffer(self._memory, np.uint64, _PAGE // 8)
        self._reals = self._words.view(np.float64)

    @classmethod
    def create(cls, max_pixels: int) -> FrameRing:
        """Return new memory for frames up to ``max_pixels``; pages that no frame needs take none.

        Raises:
            CameraError: The system gives no such memory.
        """
        try:
            return cls(_memory(_length(max_pixels)), max_pixels)
        except OSError as exc:
            raise CameraError(f"no shared memory for {max_pixels} pixels: {exc}") from exc

    def close(self) -> None:
        """Give the memory back; the ring must not be used after it."""
        del self._words, self._reals
        self._memory.close()
        if isinstance(self.token, int):
            os.close(self.token)

    @property
    def count(self) -> int:
        """How many frames were written."""
        return int(self._words[_COUNT])

    @property
    def heartbeat_s(self) -> float:
        """When the writer last showed that it runs, on the monotonic clock."""
        return float(self._reals[_HEARTBEAT])

    @property
    def skipped(self) -> int:
        """How many frames had no pixels."""
        return int(self._words[_SKIPPED])

    @property
    def refused(self) -> int:
        """How many frames were too old or out of order."""
        return int(self._words[_REFUSED])

    @property
    def newest_captured_s(self) -> float:
        """When the newest frame was taken."""
        return float(self._reals[self._slot((self.count - 1) % _SLOTS) + _CAPTURED])

    def beat(self, now_s: float) -> None:
        """Show that the writer runs."""
        self._reals[_HEARTBEAT] = now_s

    def skip(self) -> None:
        """Count a frame without pixels."""
        self._words[_SKIPPED] = self.skipped + 1

    def refuse(self) -> None:
        """Count a frame that was too old or out of order."""
        self._words[_REFUSED] = self.refused + 1

    def begin(self, width_px: int, height_px: int) -> ImageArray:
        """Return where the next frame is written: (height, width, 3) uint8, whatever is in it.

        Raises:
            CameraError: It has more pixels than the ring was made for.
        """
        if width_px * height_px > self.max_pixels:
            raise CameraError(
                f"a frame of {width_px}x{height_px} has more than {self.max_pixels} pixels; "
                "ask the camera for a smaller picture, or raise max_pixels"
            )
        number = self.count % _SLOTS
        slot = self._slot(number)
        sequence = int(self._words[slot + _SEQUENCE])
        # A writer that was killed left an odd number behind: it stays odd.
        self._words[slot + _SEQUENCE] = sequence + 1 + sequence % 2
        _barrier()
        self._words[slot + _WIDTH], self._words[slot + _HEIGHT] = width_px, height_px
        return self._pixels(number, height_px, width_px)

    def publish(self, captured_s: float) -> None:
        """Make what was written since ``begin`` the newest frame."""
        count = self.count
        slot = self._slot(count % _SLOTS)
        self._words[slot + _INDEX] = count
        self._reals[slot + _CAPTURED] = captured_s
        _barrier()
        self._words[slot + _SEQUENCE] = int(self._words[slot + _SEQUENCE]) + 1
        self._words[_COUNT] = count + 1

    def newest(self) -> RingFrame | None:
        """Return a copy of the newest frame, None before the first.

        Raises:
            CameraError: Frames come faster than they can be copied.
        """
        for _ in range(_TRIES):
            count = self.count
            if count == 0:
                return None
            frame = self._copy((count - 1) % _SLOTS)
            if frame is not None:
                return frame
        raise CameraError("frames come faster than they can be copied; ask for fewer or smaller")

    def _copy(self, number: int) -> RingFrame | None:
        """Return what is in a slot, None when it was written meanwhile."""
        slot = self._slot(number)
        sequence = int(self._words[slot + _SEQUENCE])
        width_px, height_px = (int(self._words[slot + word]) for word in (_WIDTH, _HEIGHT))
        if sequence % 2 or not 0 < width_px * height_px <= self.max_pixels:
            return None
        _barrier()
        frame = RingFrame(
            self._pixels(number, height_px, width_px).copy(),
            int(self._words[slot + _INDEX]),
            float(self._reals[slot + _CAPTURED]),
        )
        _barrier()
        return frame if int(self._words[slot + _SEQUENCE]) == sequence else None

    def _slot(self, number: int) -> int:
        return _FIRST_SLOT + number * _SLOT_WORDS

    def _pixels(self, number: int, height_px: int, width_px: int) -> ImageArray:
        start = _PAGE + number * self._slot_bytes
        flat: npt.NDArray[np.uint8] = np.frombuffer(
            self._memory, np.uint8, height_px * width_px * 3, start
        )
        return flat.reshape(height_px, width_px, 3)


def _map(token: int | str, length: int) -> mmap.mmap:
    if sys.platform == "win32":
        # A named mapping ends with its last handle.
        return mmap.mmap(-1, length, str(token))
    return mmap.mmap(int(token), length)


def _length(max_pixels: int) -> int:
    return _PAGE + _SLOTS * (-(-max_pixels * 3 // _PAGE) * _PAGE)


def _memory(length: int) -> int | str:
    """Return a descriptor of memory without a name; on Windows the name of a mapping."""
    name = f"edgeface-{secrets.token_hex(8)}"
    if sys.platform == "win32":
        return name
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create(name)
    else:
        import _posixshmem  # type: ignore[import-not-found,unused-ignore]

        descriptor = _posixshmem.shm_open(f"/{name}", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        _posixshmem.shm_unlink(f"/{name}")
    os.ftruncate(descriptor, length)
    return int(descriptor)


_FENCE = threading.Lock()


def _barrier() -> None:
    """Keep what is written or read before it before what comes after, on ARM too.

    Taking and giving back a lock twice: a release before an acquire is never passed.
    """
    with _FENCE:
        pass
    with _FENCE:
        pass
