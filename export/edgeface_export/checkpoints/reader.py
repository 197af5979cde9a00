"""Opens a checkpoint of any known format."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

from edgeface.errors import CheckpointError, CheckpointFormatError, UnsafeCheckpointError
from edgeface_export.checkpoints.budget import Budget
from edgeface_export.checkpoints.caffe import read_caffe
from edgeface_export.checkpoints.contents import Contents
from edgeface_export.checkpoints.legacy import read_legacy
from edgeface_export.checkpoints.onnx_initialisers import read_onnx
from edgeface_export.checkpoints.recognise import Container, recognise
from edgeface_export.checkpoints.safetensors import read_safetensors
from edgeface_export.checkpoints.source import Source, read_source
from edgeface_export.checkpoints.text import plural, printable
from edgeface_export.checkpoints.torch_zip import read_zip
from edgeface_export.checkpoints.values import Checkpoint, CheckpointFormat, ReadLimits

__all__ = ["read_checkpoint"]

_READERS: dict[Container, tuple[CheckpointFormat, Callable[[bytes, Contents], None]]] = {
    Container.LEGACY_STREAM: (CheckpointFormat.LEGACY_PICKLE, read_legacy),
    Container.ZIP: (CheckpointFormat.ZIP_PICKLE, read_zip),
    Container.SAFETENSORS: (CheckpointFormat.SAFETENSORS, read_safetensors),
    Container.ONNX: (CheckpointFormat.ONNX, read_onnx),
    Container.CAFFE: (CheckpointFormat.CAFFE, read_caffe),
}


def read_checkpoint(
    path: str | os.PathLike[str],
    *,
    limits: ReadLimits = ReadLimits(),  # noqa: B008 - frozen
) -> Checkpoint:
    """The named tensors of a checkpoint; nothing in the file is run or imported.

    Args:
        path: A torch checkpoint (legacy stream or zip, state dict or whole module), TorchScript,
            safetensors, ONNX or Caffe weights; the ending of the name does not matter.
        limits: What the file may cost.

    Raises:
        CheckpointFormatError: Missing, damaged, truncated, or not a checkpoint.
        UnsafeCheckpointError: Over a limit, or built to attack its reader.
        UnsupportedCheckpointError: Understood, but not read; the message says what to do.
        MissingDependencyError: An ONNX file, and the package onnx is not installed.
    """
    try:
        return _read(path, limits)
    except CheckpointError as error:
        raise type(error)(f"{_shown(path)}: {error}") from error
    except MemoryError as error:
        raise UnsafeCheckpointError(
            f"{_shown(path)}: needs more memory than there is; nothing was run"
        ) from error


def _read(path: str | os.PathLike[str], limits: ReadLimits) -> Checkpoint:
    source = read_source(path, max_bytes=limits.max_file_bytes)
    container = recognise(source.content, limits)
    format_of_container, read = _READERS[container]
    contents = Contents(format_of_container, Budget(limits))
    read(source.content, contents)
    return _checkpoint(source, contents)


def _checkpoint(source: Source, contents: Contents) -> Checkpoint:
    tensors = contents.tensors()
    if not tensors:
        raise CheckpointFormatError(
            f"is a {contents.format.value} file without tensors "
            f"({plural(len(contents.scalars), 'other value')}); wanted trained weights"
        )
    return Checkpoint(
        path=source.path,
        sha256=source.sha256,
        size_bytes=len(source.content),
        format=contents.format,
        tensors=MappingProxyType(tensors),
        scalars=MappingProxyType(contents.scalars),
        foreign_classes=tuple(sorted(contents.foreign)),
        whole_module=contents.whole_module,
        root_class=contents.root_class,
        notes=contents.all_notes(),
    )


def _shown(path: str | os.PathLike[str]) -> str:
    return printable(str(Path(path)))
