"""What a PNG or JPEG file says of itself, read without decoding it.

A decoder allocates what the header claims. Size, and completeness where it can be told cheaply,
are therefore checked here first.
"""

from __future__ import annotations

import zlib

from edgeface.errors import CameraError
from edgeface.types import Size

__all__ = ["MAGIC_SIZE", "image_kind", "image_size"]

MAGIC_SIZE = 8
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG_MAGIC = b"\xff\xd8\xff"
# ITU-T T.81, table B.1: SOF0-SOF15 without DHT (C4), JPG (C8) and DAC (CC).
_JPEG_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN_MARKER = 0xDA
# Markers without a length: TEM, RST0-RST7 and SOI.
_JPEG_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})


def image_kind(head: bytes) -> str | None:
    """Return "png", "jpeg" or None, from the first ``MAGIC_SIZE`` bytes of a file."""
    if head.startswith(_PNG_MAGIC):
        return "png"
    return "jpeg" if head.startswith(_JPEG_MAGIC) else None


def image_size(content: bytes, *, where: str) -> Size:
    """Return the size that the PNG or JPEG file ``content`` announces.

    Raises:
        CameraError: Neither PNG nor JPEG, or damaged or cut short. ``where`` names it.
    """
    kind = image_kind(content[:MAGIC_SIZE])
    if kind is None:
        raise CameraError(f"{where} is not a picture: wanted PNG or JPEG, whatever its name says")
    size = _png_size(content) if kind == "png" else _jpeg_size(content)
    if size is None:
        raise CameraError(f"{where} is a damaged or incomplete {kind.upper()} file; copy it again")
    return size


def _png_size(content: bytes) -> Size | None:
    """Return the size in IHDR if every chunk up to IEND is whole and has its checksum.

    One of them must hold pixels: a decoder that has seen none by then reads on behind IEND, and
    allocates what a chunk there claims to have.
    """
    if content[12:16] != b"IHDR":
        return None
    width, height = (int.from_bytes(content[i : i + 4], "big") for i in (16, 20))
    position, has_pixels = len(_PNG_MAGIC), False
    while True:
        end = position + 12 + int.from_bytes(content[position : position + 4], "big")
        if end > len(content) or len(content) - position < 12:
            return None
        body, checksum = content[position + 4 : end - 4], content[end - 4 : end]
        if zlib.crc32(body) != int.from_bytes(checksum, "big"):
            return None
        if body[:4] == b"IEND":
            return Size(width, height) if width and height and has_pixels else None
        has_pixels = has_pixels or body[:4] == b"IDAT"
        position = end


def _jpeg_size(content: bytes) -> Size | None:
    """Return the size in the frame header if the file has a scan and an end after it."""
    size, position = None, 2
    while position + 4 <= len(content):
        if content[position] != 0xFF:
            return None
        marker = content[position + 1]
        if marker == 0xFF or marker in _JPEG_BARE_MARKERS:
            position += 1 if marker == 0xFF else 2
            continue
        if marker in _JPEG_FRAME_MARKERS:
            height, width = (
                int.from_bytes(content[position + i : position + i + 2], "big") for i in (5, 7)
            )
            size = Size(width, height) if width and height else None
        if marker == _JPEG_SCAN_MARKER:
            # In the scan FF is followed by 00, so FF D9 is the end of the image.
            return size if content.find(b"\xff\xd9", position) > 0 else None
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return None
