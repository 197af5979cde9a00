"""Writing an annotated video."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from edgeface.camera.base import load_opencv
from edgeface.errors import CameraError, InvalidInputError
from edgeface.types import Frame, ImageArray, Size

__all__ = ["AnnotatedVideoWriter"]

# MPEG-4 part 2: the one codec for MP4 that every FFmpeg in an OpenCV package can write; H.264
# needs an encoder that they leave out. VLC and ffplay play it, web browsers do not.
_CODEC = "mp4v"
_MAX_FPS = 240.0


class AnnotatedVideoWriter:
    """Writes RGB frames to an MP4 file that appears under its name when it is whole.

    The first frame sets the size; MPEG-4 has even sizes, so that the last row or column of an odd
    one is left out. As a context manager it keeps the file, unless the block raised.
    """

    def __init__(self, path: str | os.PathLike[str], fps: float) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() != ".mp4":
            raise InvalidInputError(f"a video is written as .mp4, got {self.path.name!r}")
        if not (math.isfinite(fps) and 0.0 < fps <= _MAX_FPS):
            raise InvalidInputError(f"fps must be above 0 and at most {_MAX_FPS:g}, got {fps}")
        if not self.path.parent.is_dir():
            raise CameraError(f"the folder {self.path.parent} does not exist; make it first")
        self._fps = fps
        self._part: Path | None = None
        self._writer: Any = None
        self._size: Size | None = None
        self._count = 0

    def write(self, pixels: ImageArray) -> None:
        """Append (height, width, 3) uint8 RGB ``pixels``.

        Raises:
            InvalidInputError: Not such an array, or of another size than the first.
            CameraError: The file cannot be opened.
        """
        size = Frame(pixels).size
        if self._writer is None:
            self._open(size)
        if size != self._size:
            raise InvalidInputError(f"a frame of {size} in a video of {self._size}")
        cv2 = load_opencv()
        self._writer.write(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        self._count += 1

    def close(self) -> None:
        """Finish the file; may be called twice. Without a frame no file appears.

        Raises:
            CameraError: The file does not hold the frames that were written: the disk is full.
        """
        part = self._release()
        if part is None:
            return
        try:
            self._check(part)
            part.replace(self.path)
        except OSError as exc:
            raise CameraError(f"{self.path} cannot be written: {exc}") from exc
        finally:
            part.unlink(missing_ok=True)

    def discard(self) -> None:
        """Forget what was written; no file appears."""
        part = self._release()
        if part is not None:
            part.unlink(missing_ok=True)

    def __enter__(self) -> AnnotatedVideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def _open(self, size: Size) -> None:
        cv2 = load_opencv()
        try:
            # mkstemp makes the file 0600: a video of faces is for its owner.
            handle, name = tempfile.mkstemp(prefix=".part-", suffix=".mp4", dir=self.path.parent)
        except OSError as exc:
            raise CameraError(f"{self.path} cannot be written: {exc}") from exc
        os.close(handle)
        self._part, self._size = Path(name), size
        code = cv2.VideoWriter_fourcc(*_CODEC)
        self._writer = cv2.VideoWriter(name, code, self._fps, (size.width_px, size.height_px))
        if not self._writer.isOpened():
            self.discard()
            raise CameraError(
                f"{self.path} cannot be written: this OpenCV has no {_CODEC} encoder, or cannot "
                f"write {size}"
            )

    def _release(self) -> Path | None:
        if self._writer is not None:
            self._writer.release()
        part, self._part, self._writer = self._part, None, None
        return part

    def _check(self, part: Path) -> None:
        """OpenCV reports no write error; the frames that can be found again tell."""
        cv2 = load_opencv()
        capture = cv2.VideoCapture(str(part))
        found = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
        if found != self._count:
            raise CameraError(
                f"{self.path} holds {found} of {self._count} frames; check the free space"
            )
