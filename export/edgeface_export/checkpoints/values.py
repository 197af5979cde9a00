"""The values that reading a checkpoint gives, and the limits it keeps to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any

import numpy.typing as npt

from edgeface.errors import InvalidInputError

__all__ = ["Array", "Checkpoint", "CheckpointFormat", "CheckpointTensor", "ReadLimits", "Scalar"]

Array = npt.NDArray[Any]
Scalar = int | float | bool | str


class CheckpointFormat(str, Enum):
    """How the file is laid out; the value is the name that people read."""

    LEGACY_PICKLE = "legacy torch pickle"
    ZIP_PICKLE = "torch zip"
    TORCHSCRIPT = "torchscript"
    SAFETENSORS = "safetensors"
    ONNX = "onnx"
    CAFFE = "caffe"
    EXPORTED_PROGRAM = "torch.export program"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLimits:
    """What a file may cost its reader; beyond a limit it is refused as unsafe.

    The defaults leave room for training checkpoints of the largest face backbones: IR-100 with the
    two moments of Adam has 65 million x 3 x 4 bytes = 0.8 GB. A state dict takes about 35 opcodes
    for each tensor, a whole module about 80.

    Attributes:
        max_file_bytes: Size of the file, which is read whole.
        max_tensor_bytes_total: All arrays together, as they are returned; also the declared,
            unpacked size of all members of a zip archive.
        max_tensors: Named tensors, and likewise named scalars.
        max_depth: Containers inside containers.
        max_opcodes: Pickle instructions in the whole file.
        max_nodes: Objects that a pickle builds or remembers, and likewise the steps taken to walk
            them, which differ where a structure is shared.
        max_compression_ratio: Unpacked by packed size of a zip member larger than 1 MiB.
        max_name_length: Characters of a dotted name.
    """

    max_file_bytes: int = 2 << 30
    max_tensor_bytes_total: int = 4 << 30
    max_tensors: int = 100_000
    max_depth: int = 200
    max_opcodes: int = 20_000_000
    max_nodes: int = 2_000_000
    max_compression_ratio: int = 200
    max_name_length: int = 1024

    def __post_init__(self) -> None:
        for field in fields(self):
            value: object = getattr(self, field.name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidInputError(f"{field.name} is {value!r}; wanted a whole number above 0")


@dataclass(frozen=True, slots=True, eq=False)
class CheckpointTensor:
    """One named tensor.

    Attributes:
        name: Dotted path in the file, for example ``net_state_dict.conv1.conv.weight``.
        array: C-contiguous and read-only; every floating type as float32, integers and booleans
            unchanged, quantised values dequantised to float32.
        stored_dtype: The type in the file: ``float32``, ``bfloat16``, ``qint8`` …
        shares_storage: Whether another named tensor of the file views the same storage.
    """

    name: str
    array: Array
    stored_dtype: str
    shares_storage: bool


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What a file holds.

    Attributes:
        path: As given by the caller.
        sha256: Of the bytes that were parsed, in lower-case hexadecimal.
        size_bytes: Of the file.
        format: Decided by content.
        tensors: By name, in file order (a whole module: in the order of its ``state_dict``).
        scalars: Dotted path to value, for example ``epoch``; none for TorchScript and ONNX.
        foreign_classes: Sorted ``module.Name`` of everything that was named by the file and not
            built, apart from containers and torch's and numpy's own rebuilding functions.
        whole_module: Whether the file holds a pickled ``torch.nn.Module``.
        root_class: Class of the outermost object, or of the outermost module, or empty.
        notes: Sentences for people about what was done to the content.
    """

    path: Path
    sha256: str
    size_bytes: int
    format: CheckpointFormat
    tensors: Mapping[str, CheckpointTensor]
    scalars: Mapping[str, Scalar]
    foreign_classes: tuple[str, ...]
    whole_module: bool
    root_class: str
    notes: tuple[str, ...]
