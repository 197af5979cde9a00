"""A real camera process that fails on cue: what a camera does wrong, for tests of what reads it."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from pathlib import Path
from types import TracebackType

import numpy as np

from edgeface.camera.base import SourceOptions
from edgeface.camera.captures import Capture, CaptureSpec, Shot
from edgeface.camera.live import LiveSource
from edgeface.camera.pattern import PatternCapture
from edgeface.camera.record import OnEvent
from edgeface.errors import CameraError
from edgeface.types import ImageArray, Size

__all__ = ["CameraFault", "FaultyCamera", "open_faulty"]

# Long enough to be too old, short enough not to be taken for a read that hangs.
_STALL_S = 1.2
_STALL_EVERY = 50
_SLOW_S = 0.9


class CameraFault(Enum):
    """What a :class:`FaultyCamera` can be told to do."""

    NONE = "none"
    BLOCK = "block"
    """A read, or an opening, that does not return."""
    DIE = "die"
    """The process that reads ends at once, as in a crash of a codec."""
    STOP = "stop"
    """The process that reads is stopped: not even its heart beats."""
    FAIL = "fail"
    """A read that says that there are no more frames; opening again fails, too."""
    FREEZE = "freeze"
    LOOP = "loop"
    BLACK = "black"
    WHITE = "white"
    BLANK = "blank"
    NOISE = "noise"
    GREY = "grey"
    RESIZE = "resize"
    """Half the size."""
    ZERO_SIZE = "zero-size"
    """Every second frame without pixels."""
    HUGE = "huge"
    """More pixels than any camera has."""
    TIME_BACK = "time-back"
    """The camera's clock is set back by a minute each second."""
    LATE = "late"
    """Frames are held up for 1.2 s again and again, and then come all at once."""
    SLOW = "slow"
    """About one frame a second."""


class FaultyCamera:
    """A camera in a process of its own, as every live camera is, that fails on cue.

    Set ``fault`` at any time, also while it is read; it stays until it is set again. The picture
    is that of :func:`edgeface.camera.pattern.draw_pattern`. A context manager.
    """

    def __init__(self, size: Size | None = None, *, fps: float | None = 25.0) -> None:
        """Make a camera; ``fps`` None gives frames as fast as they are read."""
        size = size or Size(320, 240)
        self._folder = tempfile.TemporaryDirectory(prefix="edgeface-camera-")
        self._cue = Path(self._folder.name) / "fault"
        self._fault = CameraFault.NONE
        self.fault = CameraFault.NONE
        self.spec = CaptureSpec(
            "edgeface.testing.cameras:open_faulty",
            {"cue": str(self._cue), "size": (size.width_px, size.height_px), "fps": fps},
        )

    @property
    def fault(self) -> CameraFault:
        """What it does now."""
        return self._fault

    @fault.setter
    def fault(self, fault: CameraFault) -> None:
        self._fault = fault
        part = self._cue.with_suffix(".part")
        part.write_text(fault.value, encoding="utf-8")
        part.replace(self._cue)

    def open(
        self,
        options: SourceOptions | None = None,
        *,
        name: str = "faulty camera",
        on_event: OnEvent | None = None,
    ) -> LiveSource:
        """Return the live source of this camera."""
        return LiveSource(name, self.spec, options or SourceOptions(), on_event=on_event)

    def close(self) -> None:
        """Remove what it left on disk; close its sources first."""
        self._folder.cleanup()

    def __enter__(self) -> FaultyCamera:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_faulty(*, cue: str, size: tuple[int, int], fps: float | None) -> Capture:
    """Return the capture of a :class:`FaultyCamera`; called in the reader's process."""
    capture = _FaultyCapture(Path(cue), Size(*size), fps)
    capture.fail_on_cue()
    return capture


class _FaultyCapture(PatternCapture):
    def __init__(self, cue: Path, size: Size, fps: float | None) -> None:
        super().__init__(size, fps)
        self._cue = cue
        self._frozen: Shot | None = None
        self._recent: list[Shot] = []
        self._reads = 0

    def read(self) -> Shot:
        """Return the next picture, with the fault of the moment."""
        shot = super().read()
        fault = self.fail_on_cue()
        self._reads += 1
        if fault is not CameraFault.FREEZE:
            self._frozen = shot
        if fault is not CameraFault.LOOP:
            self._recent = [*self._recent[-11:], shot]
        return self._spoilt(fault, shot)

    def fail_on_cue(self) -> CameraFault:
        """Block, die, stop or raise where the cue says so; return any other fault."""
        while (fault := self._now()) is CameraFault.BLOCK:
            time.sleep(0.01)
        if fault is CameraFault.DIE:
            os._exit(1)
        if fault is CameraFault.STOP:
            os.kill(os.getpid(), signal.SIGSTOP)
        if fault is CameraFault.FAIL:
            raise CameraError("the camera has no more frames; the cue says so")
        return fault

    def _now(self) -> CameraFault:
        with suppress(OSError):
            return CameraFault(self._cue.read_text(encoding="utf-8"))
        return CameraFault.FAIL

    def _spoilt(self, fault: CameraFault, shot: Shot) -> Shot:
        position_s = shot.position_s
        if fault is CameraFault.FREEZE and self._frozen is not None:
            return replace(self._frozen, position_s=position_s)
        if fault is CameraFault.LOOP:
            return replace(self._recent[self._reads % len(self._recent)], position_s=position_s)
        if fault is CameraFault.TIME_BACK and position_s is not None:
            return replace(shot, position_s=position_s - 60.0 * int(position_s))
        if fault is CameraFault.LATE and self._reads % _STALL_EVERY == 0:
            time.sleep(_STALL_S)
        if fault is CameraFault.SLOW:
            time.sleep(_SLOW_S)
            shot = replace(shot, position_s=None)
        return replace(shot, pixels=_spoilt_pixels(fault, shot.pixels, self._reads))


def _spoilt_pixels(fault: CameraFault, pixels: ImageArray, number: int) -> ImageArray:
    plain = {CameraFault.BLACK: 3, CameraFault.WHITE: 252, CameraFault.BLANK: 128}
    if fault in plain:
        noise = np.random.default_rng(number).integers(-2, 3, pixels.shape)
        return (plain[fault] + noise).astype(np.uint8)
    if fault is CameraFault.NOISE:
        return np.random.default_rng(number).integers(0, 256, pixels.shape, np.uint8)
    if fault is CameraFault.GREY:
        return np.repeat(pixels.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    if fault is CameraFault.RESIZE:
        return np.ascontiguousarray(pixels[::2, ::2])
    if fault is CameraFault.ZERO_SIZE and number % 2:
        return pixels[:0]
    if fault is CameraFault.HUGE:
        # 900 Mpx that take no memory.
        return np.broadcast_to(pixels[:1, :1], (30_000, 30_000, 3))
    return pixels
