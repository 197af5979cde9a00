"""Reads the zip archives of ``torch.save`` and of TorchScript; names the other zip formats."""

from __future__ import annotations

import io

from edgeface.errors import (
    CheckpointFormatError,
    UnsupportedCheckpointError,
)
from edgeface_export.checkpoints.contents import Contents
from edgeface_export.checkpoints.materialise import Storages
from edgeface_export.checkpoints.nodes import DictNode, StorageRef
from edgeface_export.checkpoints.pickle_machine import PickleMachine
from edgeface_export.checkpoints.text import clip
from edgeface_export.checkpoints.torch_pickle import StorageTable, item_bytes
from edgeface_export.checkpoints.values import CheckpointFormat
from edgeface_export.checkpoints.zip_archive import ZipArchive

__all__ = ["read_zip"]

# A file name that only one format has, at any depth of the archive.
_OTHER_FORMATS: tuple[tuple[str, str], ...] = (
    ("archive_format", "torch.export"),
    ("serialized_exported_program.json", "torch.export"),
    ("models/model.json", "torch.export"),
    ("model.weights.h5", "a Keras archive; convert it to ONNX, for example with tf2onnx"),
    ("model.json", "a TorchScript archive of torch before 1.4; save it again with a newer torch"),
    ("MANIFEST.json", "a model server archive; unpack it and give the checkpoint inside"),
    (".tflite", "a MediaPipe or TensorFlow Lite bundle; wanted the trained checkpoint"),
    (".npy", "a numpy archive (.npz); save the arrays as safetensors"),
    ("[Content_Types].xml", "an office document"),
    (".pt", "a zip around checkpoints; unpack it and give one of them"),
    (".pth", "a zip around checkpoints; unpack it and give one of them"),
    (".onnx", "a zip around a model; unpack it and give the model"),
    (".safetensors", "a zip around a checkpoint; unpack it and give the checkpoint"),
)


def read_zip(content: bytes, contents: Contents) -> None:
    """Add the tensors and scalars of the archive to ``contents`` and set its format."""
    archive = ZipArchive(content, contents.budget.limits)
    folder = _folder(archive)
    _check_byte_order(archive, folder)
    is_script = archive.has(f"{folder}constants.pkl")
    contents.format = CheckpointFormat.TORCHSCRIPT if is_script else CheckpointFormat.ZIP_PICKLE
    root, storages = _tree(archive, folder, "data", contents)
    contents.describe_root(root)
    contents.add_tree(root, storages, with_scalars=not is_script)
    if is_script:
        # The code of the archive calls these CONSTANTS.c0, CONSTANTS.c1, …
        constants, storages = _tree(archive, folder, "constants", contents)
        named = _numbered(constants)
        contents.add_tree(named, storages, prefix="CONSTANTS", with_scalars=False)


def _numbered(constants: object) -> object:
    if not isinstance(constants, tuple):
        return constants
    return DictNode((f"c{index}", value) for index, value in enumerate(constants))


def _folder(archive: ZipArchive) -> str:
    """What stands before ``data.pkl``: empty, or the one folder of the archive with its slash."""
    names = archive.names()
    if any(name.endswith(("/archive_format", "/models/model.json")) for name in names):
        _refuse_other(names)
    found = [name for name in names if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(found) == 1 and found[0].count("/") <= 1:
        return found[0].removesuffix("data.pkl")
    _refuse_other(names)
    shown = ", ".join(clip(name) for name in names[:4]) or "nothing"
    raise CheckpointFormatError(
        f"is a zip archive with {len(found)} data.pkl, not a torch checkpoint; it holds {shown}"
    )


def _refuse_other(names: list[str]) -> None:
    for ending, kind in _OTHER_FORMATS:
        if not any(_ends_in(name, ending) for name in names):
            continue
        if kind == "torch.export":
            raise UnsupportedCheckpointError(
                "is a torch.export archive, which only torch can read: name it .pt2 and allow it "
                "with --trust-code; pip install 'edgeface[torch]'"
            )
        raise UnsupportedCheckpointError(f"is {kind}")


def _ends_in(name: str, ending: str) -> bool:
    return name.endswith(ending if ending[0] == "." else f"/{ending}") or name == ending


def _check_byte_order(archive: ZipArchive, folder: str) -> None:
    name = f"{folder}byteorder"
    if archive.has(name) and bytes(archive.read(name)).strip() != b"little":
        raise UnsupportedCheckpointError(
            "was written on a big-endian machine; save it again on an ordinary one"
        )


def _tree(
    archive: ZipArchive, folder: str, which: str, contents: Contents
) -> tuple[object, Storages]:
    """Root node of ``which``.pkl and its storages, which lie in the folder of the same name."""
    table = StorageTable(folder=f"{which}/")
    machine = PickleMachine(contents.budget, persistent=table.persistent, foreign=contents.foreign)
    pickled = archive.read(f"{folder}{which}.pkl")
    stream = io.BytesIO(pickled)
    root = machine.load(stream)
    if stream.tell() != len(pickled):
        raise CheckpointFormatError(f"damaged: bytes follow the end of {which}.pkl")
    read: dict[str, memoryview] = {}

    def storage(wanted: StorageRef) -> memoryview:
        if wanted.key not in read:
            data = archive.read(f"{folder}{wanted.key}")
            _check_size(wanted, len(data))
            read[wanted.key] = data
        return read[wanted.key]

    return root, storage


def _check_size(storage: StorageRef, found: int) -> None:
    wanted = storage.numel * item_bytes(storage)
    if found != wanted:
        raise CheckpointFormatError(
            f"damaged: storage {clip(storage.key)} has {found:,} bytes; {storage.numel:,} x "
            f"{storage.dtype} need {wanted:,}; get the file again"
        )
