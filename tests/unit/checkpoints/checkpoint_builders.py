"""Checkpoints assembled byte by byte, so that they can be wrong in exactly one place."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
PROTOCOL = b"\x80\x02M\xe9\x03."
ONE_STORAGE = {"0": np.arange(4, dtype=np.float32).tobytes()}


def literal(value: object) -> bytes:
    """Opcodes that push a plain value."""
    if isinstance(value, tuple):
        return b"(" + b"".join(literal(part) for part in value) + b"t"
    # Protocol 2 without its frame, and without the memo, whose numbers would collide.
    return _plain(value)


def _plain(value: object) -> bytes:
    if isinstance(value, str):
        raw = value.encode("utf-8", "surrogatepass")
        return b"X" + struct.pack("<I", len(raw)) + raw
    if isinstance(value, bool) or value is None:
        return {True: b"\x88", False: b"\x89", None: b"N"}[value]
    if isinstance(value, int):
        raw = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
        return b"\x8a" + bytes([len(raw)]) + raw
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    raise TypeError(type(value))


def global_name(module: str, name: str) -> bytes:
    """The opcode that names a class."""
    return f"c{module}\n{name}\n".encode()


def call(module: str, name: str, *arguments: bytes) -> bytes:
    """REDUCE of a named function."""
    return global_name(module, name) + b"(" + b"".join(arguments) + b"tR"


def storage(
    key: str = "0",
    numel: int = 4,
    kind: str = "FloatStorage",
    *,
    view: tuple[str, int, int] | None = None,
    legacy: bool = True,
    location: str = "cpu",
) -> bytes:
    """A persistent id of a storage."""
    parts = literal("storage") + global_name("torch", kind) + literal(key) + literal(location)
    last = literal(view) if legacy else b""
    return b"(" + parts + literal(numel) + last + b"tQ"


def tensor(
    source: bytes | None = None,
    *,
    offset: int = 0,
    size: tuple[int, ...] = (4,),
    stride: tuple[int, ...] = (1,),
    legacy: bool = True,
) -> bytes:
    """A call of ``_rebuild_tensor_v2``."""
    return call(
        "torch._utils",
        "_rebuild_tensor_v2",
        storage(legacy=legacy) if source is None else source,
        literal(offset),
        literal(size),
        literal(stride),
        literal(False),
        call("collections", "OrderedDict"),
    )


def mapping(entries: Mapping[str, bytes]) -> bytes:
    """A dictionary of text keys to opcodes."""
    return b"}(" + b"".join(literal(key) + value for key, value in entries.items()) + b"u"


def legacy_file(
    body: bytes,
    storages: Mapping[str, bytes] = ONE_STORAGE,
    *,
    item_bytes: Mapping[str, int] | None = None,
    little_endian: bool = True,
) -> bytes:
    """A legacy stream around the opcodes ``body`` of the object."""
    system = {"protocol_version": 1001, "little_endian": little_endian}
    head = MAGIC + PROTOCOL + pickle.dumps(system, 2) + b"\x80\x02" + body + b"."
    tail = pickle.dumps(list(storages), 2)
    for key, raw in storages.items():
        tail += struct.pack("<q", len(raw) // (item_bytes or {}).get(key, 4)) + raw
    return head + tail


def zip_file(body: bytes, storages: Mapping[str, bytes] = ONE_STORAGE) -> bytes:
    """A torch zip around the opcodes ``body`` of the object."""
    members = {"model/data.pkl": b"\x80\x02" + body + b".", "model/version": b"3\n"}
    members |= {f"model/data/{key}": raw for key, raw in storages.items()}
    return zip_of(list(members.items()))


def zip_of(members: Sequence[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return stream.getvalue()


def safetensors_file(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A safetensors file; ``header`` is JSON content, or its bytes."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def good_state_dict(*, legacy: bool = True) -> bytes:
    """Opcodes of a small state dict."""
    return mapping({"epoch": literal(3), "conv.weight": tensor(legacy=legacy)})
