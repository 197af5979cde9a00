"""Which files are handed to the video decoder.

FFmpeg opens some 300 formats, among them playlists and session descriptions that lead to other
files and to the network. Only containers that hold their frames themselves are let through, told
by their first bytes.
"""

from __future__ import annotations

__all__ = ["VIDEO_FORMATS", "VIDEO_MAGIC_SIZE", "is_video"]

VIDEO_FORMATS = "MP4, MOV, MKV, WebM, AVI, MPEG, FLV, Ogg, ASF"
VIDEO_MAGIC_SIZE = 400

_MAGICS = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"\x00\x00\x01\xba",  # MPEG programme stream
    b"\x00\x00\x01\xb3",  # MPEG video
    b"\x00\x00\x00\x01",  # H.264, H.265
    b"FLV\x01",
    b"OggS",
    b"\x30\x26\xb2\x75",  # ASF, WMV
)
# ISO/IEC 14496-12 boxes that files begin with, and the brands that mark still pictures.
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_PICTURE_BRANDS = (b"heic", b"heix", b"mif1", b"msf1", b"avif")
# MPEG transport stream: a sync byte at the head of each packet of 188, or 4 + 188, bytes.
_SYNC = 0x47
_PACKET_SIZES = ((188, 0), (192, 4))


def is_video(head: bytes) -> bool:
    """Return whether a file that begins with ``head`` (400 bytes) is a container of video."""
    if head[4:8] in _BOXES:
        return head[8:12] not in _PICTURE_BRANDS
    if head[:4] == b"RIFF":
        return head[8:12] == b"AVI "
    return head.startswith(_MAGICS) or _is_transport_stream(head)


def _is_transport_stream(head: bytes) -> bool:
    return any(
        len(head) > first + size and head[first] == _SYNC and head[first + size] == _SYNC
        for size, first in _PACKET_SIZES
    )
