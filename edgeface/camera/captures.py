"""What a reader reads: webcams and streams through OpenCV. Runs in the reader's process."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edgeface.camera.base import load_opencv
from edgeface.camera.devices import device_now, refuse_virtual
from edgeface.camera.files import positive_or_none, read_capture
from edgeface.errors import CameraError
from edgeface.types import Size

__all__ = ["Capture", "CaptureSpec", "Shot", "open_capture", "open_stream", "open_webcam"]

# MJPEG, MPEG-TS, Matroska, FLV and bare H.264/H.265: what cameras send over HTTP. Playlists, which
# lead elsewhere, are not among them.
_HTTP_FORMATS = "mpjpeg,mjpeg,jpeg_pipe,mpegts,matroska,webm,flv,h264,hevc,mov,mp4"
_PROTOCOLS = "rtsp,rtsps,rtp,srtp,udp,tcp,tls,http,https,httpproxy,crypto"
# How long FFmpeg may look at an RTSP stream before the first frame: it would take 1.2 s.
_ANALYSE_US = 500_000
_DECODER_THREADS = 2


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """One read: pixels in the order of OpenCV (or RGB), and the time in the stream, if it counts.

    ``pixels`` may be None or empty; ``position_s`` is None where the source has no clock.
    """

    pixels: Any
    position_s: float | None = None
    is_rgb: bool = False


class Capture(Protocol):
    """An opened camera."""

    @property
    def fps(self) -> float | None:
        """Frames per second, as the camera says."""
        ...

    def read(self) -> Shot:
        """Return the next frame; may block without limit.

        Raises:
            CameraError: There is none any more.
        """
        ...

    def release(self) -> None:
        """Free the camera."""
        ...


@dataclass(frozen=True, slots=True)
class CaptureSpec:
    """Which capture a reader opens.

    ``opener`` names a function, "module:function", that takes ``arguments`` (JSON values) as
    keywords and returns a Capture. The arguments may hold credentials and are not shown.
    """

    opener: str
    arguments: dict[str, Any] = field(repr=False)


def open_webcam(
    *, index: int, by_path: str | None, size: tuple[int, int] | None, allow_virtual: bool
) -> Capture:
    """Return the webcam that is plugged in at ``by_path``, or has the number ``index``.

    Raises:
        CameraError: It cannot be opened, or is made by a program and may not be.
    """
    cv2 = load_opencv()
    index = device_now(index, by_path)
    if not allow_virtual:
        refuse_virtual(index)
    capture = cv2.VideoCapture(index)
    if not capture.isOpened():
        capture.release()
        raise CameraError(_no_webcam(index))
    if size is not None:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
    # A queue inside the driver would hand out old frames; drivers may ignore this.
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return _OpenCvCapture(capture, f"webcam {index}", has_clock=False)


def open_stream(
    *, address: str, name: str, transport: str, timeouts_s: tuple[float, float], max_pixels: int
) -> Capture:
    """Return the stream at ``address``, which errors call ``name``.

    Raises:
        CameraError: No answer, no access, no stream, a recording, or above ``max_pixels``.
    """
    is_rtsp = address.lower().startswith("rtsp")
    # Read by FFmpeg when the stream is opened; this process serves one stream. Who has set it
    # knows better.
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", _ffmpeg_options(is_rtsp, transport))
    cv2 = load_opencv()
    open_s, read_s = timeouts_s
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(open_s * 1000)]
    limits += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(read_s * 1000)]
    # Each thread of the decoder holds a frame back.
    limits += [cv2.CAP_PROP_N_THREADS, _DECODER_THREADS]
    capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, limits)
    try:
        _check_stream(capture, name, max_pixels)
    except CameraError:
        capture.release()
        raise
    return _OpenCvCapture(capture, name, has_clock=is_rtsp)


def _ffmpeg_options(is_rtsp: bool, transport: str) -> str:
    options = {"protocol_whitelist": _PROTOCOLS, "flags": "low_delay"}
    if is_rtsp:
        options |= {"rtsp_transport": transport, "analyzeduration": str(_ANALYSE_US)}
    else:
        options |= {"format_whitelist": _HTTP_FORMATS}
    return "|".join(f"{key};{value}" for key, value in options.items())


def _check_stream(capture: Any, name: str, max_pixels: int) -> None:
    cv2 = load_opencv()
    if not capture.isOpened():
        raise CameraError(
            f"{name} cannot be opened: no answer, access refused, or not a stream; check the "
            "address, the user name and the password"
        )
    if positive_or_none(capture.get(cv2.CAP_PROP_FRAME_COUNT)) is not None:
        raise CameraError(f"{name} is a recording; download it and open the file")
    width, height = (
        int(capture.get(prop)) for prop in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    )
    if width * height > max_pixels:
        raise CameraError(
            f"{name} gives {Size(width, height)}, more than {max_pixels} pixels; take a smaller "
            "stream of the camera, or raise max_pixels"
        )


class _OpenCvCapture:
    """``cv2.VideoCapture``; its position counts where it comes from the camera's clock."""

    def __init__(self, capture: Any, name: str, *, has_clock: bool) -> None:
        self._capture = capture
        self._name = name
        self._has_clock = has_clock
        self.fps = positive_or_none(capture.get(load_opencv().CAP_PROP_FPS))

    def read(self) -> Shot:
        ok, pixels = read_capture(self._capture, self._name)
        if not ok:
            raise CameraError(
                f"{self._name} stopped giving frames; check the camera and the network"
            )
        return Shot(pixels, self._position_s() if self._has_clock else None)

    def release(self) -> None:
        self._capture.release()

    def _position_s(self) -> float | None:
        position_ms = self._capture.get(load_opencv().CAP_PROP_POS_MSEC)
        return position_ms / 1000 if math.isfinite(position_ms) else None


def open_capture(spec: CaptureSpec) -> Capture:
    """Return the capture that ``spec`` names, opened."""
    import importlib

    module, _, function = spec.opener.partition(":")
    capture: Capture = getattr(importlib.import_module(module), function)(**spec.arguments)
    return capture


def _no_webcam(index: int, devices: Path = Path("/dev")) -> str:
    device = devices / f"video{index}"
    found = ", ".join(sorted(path.name for path in devices.glob("video*"))) or "none"
    if sys.platform != "linux":
        reason = "it does not exist, is in use, or may not be used by this account"
    elif not device.exists():
        reason = "it does not exist"
    elif not os.access(device, os.R_OK | os.W_OK):
        reason = "this account may not use it; add it to the group video"
    else:
        reason = "it is in use by another program, or gives no picture"
    return f"webcam {index} cannot be opened: {reason} (devices found: {found})"
