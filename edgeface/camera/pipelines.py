"""GStreamer pipelines as text: what is accepted, and what CSI cameras need."""

from __future__ import annotations

import re

from edgeface.errors import CameraError
from edgeface.types import Size

__all__ = ["CSI_SOURCES", "checked_pipeline", "csi_pipeline", "pipeline_name"]

_MAX_LENGTH = 2000
_ELEMENT = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_PROPERTY = re.compile(r"""[A-Za-z][A-Za-z0-9_:-]*\s*=\s*("[^"]*"|'[^']*'|[^\s"']+)""")
_CAPS = re.compile(
    r"""(?P<quote>["']?)(video|image|application)/[A-Za-z0-9.+-]+(\([A-Za-z0-9:]+\))?"""
    r"""(\s*,\s*[A-Za-z0-9_-]+\s*=\s*(\([A-Za-z0-9]+\))?\s*[A-Za-z0-9_/.:+-]+)*\s*(?P=quote)"""
)

CSI_SOURCES = ("nvarguscamerasrc", "libcamerasrc")
"""Elements that read a CSI camera: Jetson's, and libcamera's (Raspberry Pi); the first that is
installed is taken."""


def checked_pipeline(text: str) -> str:
    """Return the pipeline ``text`` without a closing appsink, which the reader brings itself.

    A chain of elements with properties and caps, joined by "!". It gives frames and does nothing
    else: a chain that branches, or has a sink of its own, could write files or send them away.

    Raises:
        CameraError: Not such a chain. The text is not quoted: it may hold a password.
    """
    parts = _split(text)
    if not text.isprintable() or len(text) > _MAX_LENGTH or parts is None:
        raise CameraError(
            f"a GStreamer pipeline is one printable line of at most {_MAX_LENGTH} characters, "
            "every quote closed"
        )
    if parts and parts[-1].split()[:1] == ["appsink"]:
        parts.pop()
    for number, part in enumerate(parts, start=1):
        _check(part, number)
    if not parts or _CAPS.fullmatch(parts[0]):
        raise CameraError("a GStreamer pipeline begins with an element that gives pictures")
    return " ! ".join(parts)


def _split(text: str) -> list[str] | None:
    """Return the parts between "!" outside quotes; None when a quote stays open."""
    parts, quote = [""], ""
    for sign in text:
        if sign == "!" and not quote:
            parts.append("")
            continue
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        parts[-1] += sign
    return None if quote else [part.strip() for part in parts]


def _check(part: str, number: int) -> None:
    if _CAPS.fullmatch(part):
        return
    element = _ELEMENT.match(part)
    rest = part[element.end() :] if element else "?"
    if element is None or _PROPERTY.sub("", rest).strip() or (rest and not rest[0].isspace()):
        raise CameraError(
            f"part {number} of the GStreamer pipeline must be an element with properties "
            "(name=value), or caps (video/x-raw,…)"
        )
    if "sink" in element.group().lower() or element.group() == "tee":
        raise CameraError(
            f"the GStreamer pipeline must not hold {element.group()}: its frames come to edgeface "
            "and go nowhere else; leave out the sink"
        )


def pipeline_name(pipeline: str) -> str:
    """Return the elements of a checked ``pipeline``; properties may hold credentials."""
    elements = [part for part in _split(pipeline) or [] if not _CAPS.fullmatch(part)]
    return "gstreamer " + " ! ".join(part.split()[0] for part in elements)


def csi_pipeline(element: str, number: int, size: Size | None) -> str:
    """Return the pipeline of the CSI camera ``number`` read by ``element``."""
    wanted = f",width={size.width_px},height={size.height_px}" if size else ""
    if element == "nvarguscamerasrc":
        # nvvidconv brings the picture from the camera's memory to the processor's.
        return (
            f"nvarguscamerasrc sensor-id={number} ! video/x-raw(memory:NVMM){wanted} ! nvvidconv"
            " ! video/x-raw,format=BGRx"
        )
    # libcamera names cameras, and takes the first one where none is named.
    if number:
        raise CameraError(f"{element} can only give the first CSI camera; write a pipeline instead")
    return f"{element} ! video/x-raw{wanted}"
