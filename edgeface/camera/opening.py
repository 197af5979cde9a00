"""From what a user writes to a source of frames."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from edgeface.camera.base import FrameSource, SourceOptions, require_opencv
from edgeface.camera.captures import CaptureSpec
from edgeface.camera.devices import path_of_device
from edgeface.camera.files import ImageSource, VideoFileSource
from edgeface.camera.images import is_image_file
from edgeface.camera.live import LiveSource
from edgeface.camera.pattern import MIN_PATTERN_SIZE
from edgeface.camera.pipelines import checked_pipeline, pipeline_name
from edgeface.camera.record import OnEvent
from edgeface.errors import CameraError, InvalidInputError
from edgeface.types import Size

__all__ = ["live_spec", "open_source", "stream_name"]

# FFmpeg knows some 40 protocols, among them file:, concat: and subfile:. These are the ones that
# cameras speak.
_SCHEMES = ("rtsp", "rtsps", "http", "https")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_CSI = re.compile(r"csi:(\d)")
_TEST = re.compile(r"test:(?:(\d{1,5})x(\d{1,5}))?(?:@(\d{1,3}(?:\.\d{1,3})?))?")
_VIDEO_DEVICE = re.compile(r"/dev/video(\d{1,3})")
_MALFORMED = (
    "the address of the stream is malformed; it must name a host, and @ / ? # and spaces in a "
    "user name, password or path are written %40 %2F %3F %23 %20"
)
# OpenCV reads a webcam number of 100 and above as the number of a backend.
_MAX_WEBCAM = 99


def open_source(
    source: int | str | os.PathLike[str],
    *,
    options: SourceOptions | None = None,
    on_event: OnEvent | None = None,
) -> FrameSource:
    """Return the frames of ``source``.

    Live, as a :class:`LiveSource`: a webcam (0, "0", /dev/video0), a stream (rtsp, rtsps, http or
    https address), a CSI camera ("csi:0"), a GStreamer pipeline ("… ! …"), or the test source
    ("test:640x480@25"). Recorded: a video file, a PNG or JPEG picture, a folder of pictures. What
    a file holds is told by its content. ``on_event`` is told what happens to a live source.

    Raises:
        CameraError: There is no such source, it cannot be opened, or it is of another kind.
    """
    options = options or SourceOptions()
    if isinstance(source, bool) or not isinstance(source, int | str | os.PathLike):
        raise InvalidInputError(
            f"a source must be a webcam number, an address or a path, got {type(source).__name__}"
        )
    live = live_spec(source, options)
    if live is not None:
        return LiveSource(*live, options, on_event=on_event)
    return _open_path(Path(str(source)), options)


def live_spec(
    source: int | str | os.PathLike[str], options: SourceOptions
) -> tuple[str, CaptureSpec] | None:
    """Return the name of a live source and what its reader opens; None for anything else.

    Raises:
        CameraError: Meant to be a live source, and malformed.
    """
    if isinstance(source, int):
        return _webcam(source, options)
    if not isinstance(source, str):
        return _device(Path(source), options)
    if source.isascii() and source.isdigit():
        return _webcam(int(source), options)
    if " ! " in source and not _exists(source):
        return _pipeline(source, options)
    if match := _CSI.fullmatch(source):
        return _csi(int(match.group(1)), options)
    if source.startswith("test:"):
        return _test(source)
    return _stream(source, options) if _SCHEME.match(source) else _device(Path(source), options)


def stream_name(address: str) -> str:
    """Return ``address`` without user, password, query and anything in the path after a "=".

    Raises:
        CameraError: Not an address of a camera.
    """
    scheme = _SCHEME.match(address)
    if scheme is None or scheme.group()[:-3].lower() not in _SCHEMES:
        raise CameraError(
            f"unknown kind of address, choose one of {', '.join(f'{s}://' for s in _SCHEMES)}"
        )
    try:
        parts = urlsplit(address)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        # Not chained: the text of the cause quotes a piece of the address, maybe of the password.
        raise CameraError(_MALFORMED) from None
    # An "@" behind the host is most often that of a password with a "/", "?" or "#" in it.
    misplaced = "@" in f"{parts.path}{parts.query}{parts.fragment}"
    if not parts.hostname or misplaced or not address.isprintable() or " " in address:
        raise CameraError(_MALFORMED)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    # Some cameras want user=…&password=… as part of the path.
    path = re.sub(r"[^/]*=.*", "…", parts.path)
    return f"{parts.scheme}://{host}{port}{path}"


def _webcam(index: int, options: SourceOptions) -> tuple[str, CaptureSpec]:
    if not 0 <= index <= _MAX_WEBCAM:
        raise CameraError(f"a webcam number is in 0..{_MAX_WEBCAM}, got {index}")
    require_opencv()
    arguments = {
        "index": index,
        "by_path": path_of_device(index),
        "size": _pair(options.size),
        "allow_virtual": options.allow_virtual,
    }
    return f"webcam {index}", CaptureSpec("edgeface.camera.captures:open_webcam", arguments)


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def _device(path: Path, options: SourceOptions) -> tuple[str, CaptureSpec] | None:
    """Return the webcam behind a path such as /dev/v4l/by-id/…, None for another path."""
    try:
        match = _VIDEO_DEVICE.fullmatch(os.path.realpath(path))
        if match is None or not path.is_char_device():
            return None
    except (OSError, ValueError):
        return None
    return _webcam(int(match.group(1)), options)


def _stream(address: str, options: SourceOptions) -> tuple[str, CaptureSpec]:
    name = stream_name(address)
    require_opencv()
    arguments = {
        "address": address,
        "name": name,
        "transport": options.transport,
        "timeouts_s": (options.open_timeout_s, options.read_timeout_s),
        "max_pixels": options.max_pixels,
    }
    return name, CaptureSpec("edgeface.camera.captures:open_stream", arguments)


def _pipeline(text: str, options: SourceOptions) -> tuple[str, CaptureSpec]:
    pipeline = checked_pipeline(text)
    name = pipeline_name(pipeline)
    arguments = {
        "pipeline": pipeline,
        "name": name,
        "timeout_s": options.open_timeout_s,
        "max_pixels": options.max_pixels,
    }
    return name, CaptureSpec("edgeface.camera.gstreamer:open_pipeline", arguments)


def _csi(number: int, options: SourceOptions) -> tuple[str, CaptureSpec]:
    name = f"csi {number}"
    arguments = {
        "number": number,
        "name": name,
        "size": _pair(options.size),
        "timeout_s": options.open_timeout_s,
        "max_pixels": options.max_pixels,
    }
    return name, CaptureSpec("edgeface.camera.gstreamer:open_csi", arguments)


def _test(text: str) -> tuple[str, CaptureSpec]:
    match = _TEST.fullmatch(text)
    if match is None:
        raise CameraError(f'the test source is written "test:" or "test:640x480@25", got {text!r}')
    width, height, fps = match.groups()
    size = Size(int(width or 640), int(height or 480))
    least = MIN_PATTERN_SIZE
    if size.width_px < least.width_px or size.height_px < least.height_px:
        raise CameraError(f"a test picture has at least {least}, got {size}")
    arguments = {"size": _pair(size), "fps": float(fps or 25.0)}
    return "test source", CaptureSpec("edgeface.camera.pattern:open_pattern", arguments)


def _pair(size: Size | None) -> tuple[int, int] | None:
    return (size.width_px, size.height_px) if size else None


def _open_path(path: Path, options: SourceOptions) -> FrameSource:
    try:
        if not path.exists():
            raise CameraError(f"no source at {path}: there is no such file, folder or device")
        if path.is_dir():
            return ImageSource.of_folder(path)
        if not path.is_file():
            raise CameraError(f"{path} is neither a file, a folder nor a camera")
    except (OSError, ValueError) as exc:
        raise CameraError(f"{str(path)!r} cannot be opened: {exc}") from exc
    if is_image_file(path):
        return ImageSource.of_file(path)
    return VideoFileSource(path, real_time=options.real_time)
