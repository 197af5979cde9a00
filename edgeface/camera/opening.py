"""From what a user writes to a source of frames."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from edgeface.camera.base import FrameSource, SourceOptions
from edgeface.camera.files import ImageSource, VideoFileSource
from edgeface.camera.images import is_image_file
from edgeface.camera.live import LiveSource, stream_opener, webcam_opener
from edgeface.errors import CameraError, InvalidInputError

__all__ = ["open_source", "stream_name"]

# FFmpeg knows some 40 protocols, among them file:, concat: and subfile:. These are the ones that
# cameras speak.
_SCHEMES = ("rtsp", "rtsps", "http", "https")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_VIDEO_DEVICE = re.compile(r"/dev/video(\d{1,3})")
_MALFORMED = (
    "the address of the stream is malformed; it must name a host, and @ / ? # and spaces in a "
    "user name, password or path are written %40 %2F %3F %23 %20"
)
# OpenCV reads a webcam number of 100 and above as the number of a backend.
_MAX_WEBCAM = 99


def open_source(
    source: int | str | os.PathLike[str], *, options: SourceOptions | None = None
) -> FrameSource:
    """Return the frames of ``source``.

    A webcam (0, "0", /dev/video0), a stream (rtsp, rtsps, http or https address), a video file, a
    PNG or JPEG picture, or a folder of pictures. What a file holds is told by its content.

    Raises:
        CameraError: There is no such source, it cannot be opened, or it is of another kind.
    """
    options = options or SourceOptions()
    if isinstance(source, bool) or not isinstance(source, int | str | os.PathLike):
        raise InvalidInputError(
            f"a source must be a webcam number, an address or a path, got {type(source).__name__}"
        )
    if isinstance(source, int):
        return _open_webcam(source, options)
    text = os.fspath(source)
    if isinstance(source, str) and text.isascii() and text.isdigit():
        return _open_webcam(int(text), options)
    if isinstance(source, str) and _SCHEME.match(text):
        return _open_stream(text, options)
    return _open_path(Path(text), options)


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


def _open_webcam(index: int, options: SourceOptions) -> FrameSource:
    if not 0 <= index <= _MAX_WEBCAM:
        raise CameraError(f"a webcam number is in 0..{_MAX_WEBCAM}, got {index}")
    return LiveSource(f"webcam {index}", webcam_opener(index, options), options)


def _open_stream(address: str, options: SourceOptions) -> FrameSource:
    name = stream_name(address)
    return LiveSource(name, stream_opener(address, name, options), options)


def _open_path(path: Path, options: SourceOptions) -> FrameSource:
    try:
        device = _VIDEO_DEVICE.fullmatch(os.path.realpath(path))
        if not path.exists():
            raise CameraError(f"no source at {path}: there is no such file, folder or device")
        if path.is_char_device() and device is not None:
            return _open_webcam(int(device.group(1)), options)
        if path.is_dir():
            return ImageSource.of_folder(path)
        if not path.is_file():
            raise CameraError(f"{path} is neither a file, a folder nor a camera")
    except (OSError, ValueError) as exc:
        raise CameraError(f"{str(path)!r} cannot be opened: {exc}") from exc
    return ImageSource.of_file(path) if is_image_file(path) else VideoFileSource(path)
