"""Reads a zip archive strictly, from memory: what is odd about it is an error, not repaired.

Python's ``zipfile`` tolerates data before the archive, members that overlap or appear twice, and
two headers that disagree; each of these lets two programs see two different files.
Format: PKWARE APPNOTE 6.3.10, sections 4.3.7, 4.3.12 and 4.3.14 to 4.3.16.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from edgeface.errors import (
    CheckpointFormatError,
    UnsafeCheckpointError,
    UnsupportedCheckpointError,
)
from edgeface_export.checkpoints.text import clip
from edgeface_export.checkpoints.values import ReadLimits

__all__ = ["ZipArchive"]

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_LONGEST_COMMENT = 0xFFFF
_IN_ZIP64 = 0xFFFFFFFF
_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 1 | 1 << 6 | 1 << 13
_SMALL_MEMBER_BYTES = 1 << 20
_OTHER_MEMBERS = 10_000  # the code of a TorchScript archive


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    method: int
    crc32: int
    packed_bytes: int
    size: int
    header: int


class ZipArchive:
    """The members of an archive, checked as a whole when it is opened.

    Raises (the constructor and ``read``):
        CheckpointFormatError: Damaged or truncated.
        UnsafeCheckpointError: Built to deceive: overlapping or duplicate members, names that
            leave the archive, or more data unpacked than the limits allow.
        UnsupportedCheckpointError: Encrypted, split, or compressed by something but deflate.
    """

    def __init__(self, content: bytes, limits: ReadLimits) -> None:
        self._content = memoryview(content)
        self._limits = limits
        self._directory, count, size = _find_directory(content)
        most = _OTHER_MEMBERS + 2 * limits.max_tensors
        if count > most:
            raise UnsafeCheckpointError(f"has {count:,} zip members; the limit is {most:,}")
        self._members: dict[str, _Member] = {}
        for member in _directory_entries(content, self._directory, count, size):
            self._add(member)
        self._data = self._data_ranges()

    def names(self) -> list[str]:
        """Names of the members, in the order of the directory."""
        return list(self._members)

    def has(self, name: str) -> bool:
        """Whether there is a member of that name."""
        return name in self._members

    def read(self, name: str) -> memoryview:
        """The unpacked content of a member, its length and CRC-32 checked."""
        member = self._members.get(name)
        if member is None:
            raise CheckpointFormatError(f"damaged: the archive has no member {clip(name)}")
        start = self._data[name]
        data = self._content[start : start + member.packed_bytes]
        if member.method == _DEFLATED:
            data = memoryview(_inflate(data, member))
        if len(data) != member.size or zlib.crc32(data) != member.crc32:
            raise CheckpointFormatError(
                f"damaged: the content of {clip(name)} fails its checksum; get the file again"
            )
        return data

    def _add(self, member: _Member) -> None:
        _check_name(member.name)
        _check_method(member)
        if member.name in self._members:
            raise UnsafeCheckpointError(f"has the zip member {clip(member.name)} twice")
        ratio_limit = self._limits.max_compression_ratio
        if member.size > max(_SMALL_MEMBER_BYTES, ratio_limit * member.packed_bytes):
            raise UnsafeCheckpointError(
                f"zip member {clip(member.name)} would unpack {member.packed_bytes:,} to "
                f"{member.size:,} bytes; the limit is {ratio_limit} to 1 "
                "(ReadLimits.max_compression_ratio)"
            )
        self._members[member.name] = member

    def _data_ranges(self) -> dict[str, int]:
        """Start of the content of each member, after checking that no two members overlap."""
        total, end_of_last = 0, 0
        starts: dict[str, int] = {}
        for member in sorted(self._members.values(), key=lambda one: one.header):
            if member.header < end_of_last:
                raise UnsafeCheckpointError(f"zip member {clip(member.name)} overlaps another one")
            starts[member.name] = _data_start(self._content, member)
            end_of_last = starts[member.name] + member.packed_bytes
            total += member.size
        if end_of_last > self._directory:
            raise UnsafeCheckpointError("has a zip member that reaches into the directory")
        if total > self._limits.max_tensor_bytes_total:
            raise UnsafeCheckpointError(
                f"would unpack to {total:,} bytes; the limit is "
                f"{self._limits.max_tensor_bytes_total:,} (ReadLimits.max_tensor_bytes_total)"
            )
        return starts


def _find_directory(content: bytes) -> tuple[int, int, int]:
    """Position of the central directory, its number of entries and its size in bytes."""
    position = content.rfind(b"PK\x05\x06", max(0, len(content) - _END.size - _LONGEST_COMMENT))
    if position < 0 or position + _END.size > len(content):
        raise CheckpointFormatError("truncated: the zip directory is missing; get the file again")
    _, disk, _, _, count, size, offset, comment = _END.unpack_from(content, position)
    if position + _END.size + comment != len(content):
        raise CheckpointFormatError(
            "damaged: bytes that do not belong to it follow the zip archive"
        )
    end = position
    locator = position - _END64_LOCATOR.size
    if locator >= 0 and content[locator : locator + 4] == b"PK\x06\x07":
        end, count, size, offset = _find_directory64(content, locator)
    elif disk != 0 or offset == _IN_ZIP64:
        raise UnsupportedCheckpointError("is one part of a split zip archive")
    if offset + size != end:
        raise CheckpointFormatError("damaged: the zip directory is not where its end says")
    return offset, count, size


def _find_directory64(content: bytes, locator: int) -> tuple[int, int, int, int]:
    _, _, end, _ = _END64_LOCATOR.unpack_from(content, locator)
    if end + _END64.size > locator or content[end : end + 4] != b"PK\x06\x06":
        raise CheckpointFormatError("damaged: the zip64 directory is missing")
    *_, count, size, offset = _END64.unpack_from(content, end)
    return end, count, size, offset


def _directory_entries(content: bytes, start: int, count: int, size: int) -> Iterator[_Member]:
    if count * _CENTRAL.size > size:
        raise CheckpointFormatError("damaged: the zip directory is shorter than its entries")
    position, end = start, start + size
    for _ in range(count):
        if position + _CENTRAL.size > end or content[position : position + 4] != b"PK\x01\x02":
            raise CheckpointFormatError("damaged: an entry of the zip directory is unreadable")
        member, length = _directory_entry(content, position, end)
        yield member
        position += length
    if position != end:
        raise CheckpointFormatError("damaged: the zip directory has bytes without an entry")


def _directory_entry(content: bytes, position: int, end: int) -> tuple[_Member, int]:
    (_, _, _, flags, method, _, _, crc32, packed, size, name_length, extra_length, comment_length,
     disk, _, _, header) = _CENTRAL.unpack_from(content, position)  # fmt: skip
    if flags & _ENCRYPTED or disk not in {0, 0xFFFF}:
        raise UnsupportedCheckpointError("is an encrypted or split zip archive; unpack it first")
    name_start = position + _CENTRAL.size
    extra_start = name_start + name_length
    if extra_start + extra_length + comment_length > end:
        raise CheckpointFormatError("damaged: an entry of the zip directory is too long")
    name = _decode_name(content[name_start:extra_start])
    extra = content[extra_start : extra_start + extra_length]
    size, packed, header = _with_zip64(extra, (size, packed, header))
    length = _CENTRAL.size + name_length + extra_length + comment_length
    return _Member(name, method, crc32, packed, size, header), length


def _decode_name(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointFormatError("damaged: the name of a zip member is not UTF-8") from error


def _with_zip64(extra: bytes, fields: tuple[int, int, int]) -> tuple[int, int, int]:
    """Size, packed size and position, those that are 0xFFFFFFFF taken from the zip64 field."""
    wide = _extra_field(extra, 1)
    values = []
    for value in fields:
        if value == _IN_ZIP64:
            if len(wide) < 8:
                raise CheckpointFormatError("damaged: a zip64 size is missing")
            value, wide = int.from_bytes(wide[:8], "little"), wide[8:]
        values.append(value)
    return values[0], values[1], values[2]


def _extra_field(extra: bytes, wanted: int) -> bytes:
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        if kind == wanted:
            return extra[position + 4 : position + 4 + length]
        position += 4 + length
    return b""


def _check_name(name: str) -> None:
    parts = name.split("/")
    if not name or "\0" in name or "\\" in name or ":" in name or parts[0] == "" or ".." in parts:
        raise UnsafeCheckpointError(
            f"zip member {clip(name)} has a name that reaches outside the archive"
        )


def _check_method(member: _Member) -> None:
    if member.method not in {_STORED, _DEFLATED}:
        raise UnsupportedCheckpointError(
            f"zip member {clip(member.name)} is compressed by method {member.method}; "
            "wanted none or deflate"
        )
    if member.method == _STORED and member.packed_bytes != member.size:
        raise CheckpointFormatError(f"damaged: zip member {clip(member.name)} has two sizes")


def _data_start(content: memoryview, member: _Member) -> int:
    if member.header + _LOCAL.size > len(content):
        raise CheckpointFormatError(f"truncated: zip member {clip(member.name)} is missing")
    fields = _LOCAL.unpack_from(content, member.header)
    name_start = member.header + _LOCAL.size
    name_end = name_start + fields[9]
    start: int = name_end + fields[10]
    if fields[0] != b"PK\x03\x04" or fields[3] != member.method:
        raise CheckpointFormatError(f"damaged: zip member {clip(member.name)} has a broken header")
    if content[name_start:name_end] != member.name.encode("utf-8"):
        raise UnsafeCheckpointError(f"zip member {clip(member.name)} has two different names")
    if start + member.packed_bytes > len(content):
        raise CheckpointFormatError(f"truncated: zip member {clip(member.name)} is cut off")
    return start


def _inflate(data: memoryview, member: _Member) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        unpacked = inflater.decompress(data, member.size + 1)
    except zlib.error as error:
        raise CheckpointFormatError(
            f"damaged: zip member {clip(member.name)} cannot be unpacked"
        ) from error
    return unpacked
