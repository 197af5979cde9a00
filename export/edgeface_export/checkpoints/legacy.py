"""Reads the stream that ``torch.save`` wrote before version 1.6.

Five pickles (magic number, protocol, system, object, storage keys), then for each key the number
of elements as a little-endian int64 and the elements.
"""

from __future__ import annotations

import io
import struct

from edgeface.errors import CheckpointFormatError, UnsupportedCheckpointError
from edgeface_export.checkpoints.contents import Contents
from edgeface_export.checkpoints.nodes import DictNode, StorageRef
from edgeface_export.checkpoints.pickle_machine import PickleMachine
from edgeface_export.checkpoints.text import clip
from edgeface_export.checkpoints.torch_pickle import StorageTable, item_bytes

__all__ = ["MAGIC_NUMBER", "read_legacy"]

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_COUNT = struct.Struct("<q")


def read_legacy(content: bytes, contents: Contents) -> None:
    """Add the tensors and scalars of the stream to ``contents``."""
    stream = io.BytesIO(content)
    budget = contents.budget
    PickleMachine(budget).load(stream)  # the magic number, by which the format was recognised
    _check_protocol(PickleMachine(budget).load(stream))
    _check_system(PickleMachine(budget).load(stream))
    table = StorageTable()
    machine = PickleMachine(budget, persistent=table.persistent, foreign=contents.foreign)
    root = machine.load(stream)
    keys = _storage_keys(PickleMachine(budget).load(stream))
    storages, end = _storages(memoryview(content), stream.tell(), keys, table)
    if end != len(content):
        contents.notes.append(f"{len(content) - end:,} bytes after the last storage were ignored")

    def storage(wanted: StorageRef) -> memoryview:
        if wanted.key not in storages:
            raise CheckpointFormatError(f"damaged: storage {clip(wanted.key)} is not in the file")
        return storages[wanted.key]

    contents.describe_root(root)
    contents.add_tree(root, storage)


def _check_protocol(found: object) -> None:
    if not isinstance(found, int) or found != _PROTOCOL:
        raise UnsupportedCheckpointError(
            f"a torch stream of an unknown version; wanted {_PROTOCOL}"
        )


def _check_system(found: object) -> None:
    if not isinstance(found, DictNode):
        raise CheckpointFormatError("damaged: the torch stream does not describe its system")
    if found.get("little_endian") is False:
        raise UnsupportedCheckpointError(
            "was written on a big-endian machine; save it again on an ordinary one"
        )


def _storage_keys(found: object) -> list[str]:
    if not isinstance(found, list) or not all(isinstance(key, str) for key in found):
        raise CheckpointFormatError("damaged: the list of storages is not a list of names")
    if len(set(found)) != len(found):
        raise CheckpointFormatError("damaged: a storage is listed twice")
    return found


def _storages(
    content: memoryview, position: int, keys: list[str], table: StorageTable
) -> tuple[dict[str, memoryview], int]:
    """Bytes of each storage by key, and the position behind the last."""
    storages: dict[str, memoryview] = {}
    for key in keys:
        declared = table.by_key.get(key)
        if declared is None:
            raise CheckpointFormatError(f"damaged: no tensor uses the listed storage {clip(key)}")
        if position + _COUNT.size > len(content):
            raise CheckpointFormatError(_truncated(key, 0, declared))
        (numel,) = _COUNT.unpack_from(content, position)
        position += _COUNT.size
        if numel != declared.numel:
            raise CheckpointFormatError(
                f"damaged: storage {clip(key)} has {numel:,} elements in the file; the tensors say "
                f"{declared.numel:,}; get the file again (was it copied in text mode?)"
            )
        size = numel * item_bytes(declared)
        if position + size > len(content):
            raise CheckpointFormatError(_truncated(key, len(content) - position, declared))
        storages[key] = content[position : position + size]
        position += size
    return storages, position


def _truncated(key: str, left: int, declared: StorageRef) -> str:
    return (
        f"truncated: {left:,} of {declared.numel * item_bytes(declared):,} bytes of storage "
        f"{clip(key)} are there; get the file again"
    )
