"""Tells by its content what a file is, and refuses what is not a checkpoint by its name."""

from __future__ import annotations

import codecs
import io
import re
from enum import Enum, auto

from edgeface.errors import CheckpointFormatError, UnsupportedCheckpointError
from edgeface_export.checkpoints.budget import Budget
from edgeface_export.checkpoints.legacy import MAGIC_NUMBER
from edgeface_export.checkpoints.pickle_machine import PickleMachine
from edgeface_export.checkpoints.protobuf import MessageKind, message_kind
from edgeface_export.checkpoints.safetensors import looks_like_safetensors
from edgeface_export.checkpoints.torch_pickle import StorageTable
from edgeface_export.checkpoints.values import ReadLimits

__all__ = ["Container", "recognise"]


class Container(Enum):
    """How the bytes are to be read."""

    LEGACY_STREAM = auto()
    ZIP = auto()
    SAFETENSORS = auto()
    ONNX = auto()
    CAFFE = auto()


_KERAS = "convert it to ONNX, for example with tf2onnx"
# (position, bytes there, what the file is)
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89HDF\r\n\x1a\n", f"an HDF5 file, as Keras writes it; {_KERAS}"),
    (0, b"\x93NUMPY", "a numpy array (.npy); save the weights as safetensors"),
    (0, b"\x12\x01\0\0\0\0\0\0\0", "an MXNet parameter file; convert the model to ONNX"),
    (4, b"TFL3", "a TensorFlow Lite model; wanted the trained checkpoint it was made from"),
    (2, b"PK\x03\x04", "a MediaPipe task bundle; wanted the trained checkpoint"),
    (0, b"GGUF", "a GGUF file; save the weights as safetensors"),
    (0, b"ptrt", "a TensorRT engine, which is bound to its GPU; wanted the checkpoint or ONNX"),
    (0, b"ftrt", "a TensorRT engine, which is bound to its GPU; wanted the checkpoint or ONNX"),
    (0, b"7767517\n", "an ncnn parameter file; wanted the checkpoint it was made from"),
    (0, b"\x1f\x8b", "a gzip archive; unpack it and give the checkpoint inside"),
    (0, b"BZh", "a bzip2 archive; unpack it and give the checkpoint inside"),
    (0, b"\xfd7zXZ\0", "an xz archive; unpack it and give the checkpoint inside"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive; unpack it and give the checkpoint inside"),
    (0, b"Rar!\x1a\x07", "a RAR archive; unpack it and give the checkpoint inside"),
    (0, b"PK\x05\x06", "an empty zip archive"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ\x90", "a program"),
)
_OLD_TORCH_MEMBERS = (b"storages", b"tensors", b"pickle", b"sys_info")
# Beginnings of texts, after white space, in lower case.
_TEXTS: tuple[tuple[str, str], ...] = (
    (
        r"version https://git-lfs\.github\.com/spec/",
        "a Git LFS pointer, not the file itself; fetch it with: git lfs pull",
    ),
    (
        r"<!doctype html|<html|<head",
        "an HTML page, so the download failed (a login or confirmation page?); get it again",
    ),
    (r"<\?xml|<net|<error", "an XML document, not a checkpoint"),
    (
        r"(name|input|layers?|input_dim|state)\s*[:{]",
        "a Caffe network description (.prototxt); give the .caffemodel beside it",
    ),
    (r"[{\[]", "a JSON document, not a checkpoint"),
)
_CHECKED_TEXT_BYTES = 4096
_TEXT_CONTROLS = frozenset(b"\t\n\r\f\x1b")
_NEWEST_PICKLE_PROTOCOL = 5
_OLD_MAGIC = b"L%dL\n." % MAGIC_NUMBER


def recognise(content: bytes, limits: ReadLimits) -> Container:
    """How to read ``content``.

    Raises:
        UnsupportedCheckpointError: A known format that is not read; says what to do.
        CheckpointFormatError: Empty, text, or unknown.
        UnsafeCheckpointError: A plain pickle that calls something dangerous.
    """
    if not content:
        raise CheckpointFormatError("is empty; get the file again")
    if content.startswith(b"PK\x03\x04"):
        return Container.ZIP
    if looks_like_safetensors(content):
        return Container.SAFETENSORS
    _refuse_signatures(content)
    _refuse_tar(content)
    if _starts_like_pickle(content):
        return _pickle_container(content, limits)
    if message_kind(content) is MessageKind.ONNX:
        return Container.ONNX
    _refuse_text(content, limits)
    if message_kind(content) is MessageKind.CAFFE:
        return Container.CAFFE
    _refuse_messages(content)
    raise CheckpointFormatError(
        f"is of an unknown format (it begins with {content[:8].hex(' ')}); wanted a torch "
        "checkpoint, safetensors, ONNX or Caffe weights"
    )


def _refuse_signatures(content: bytes) -> None:
    for position, signature, kind in _SIGNATURES:
        if content.startswith(signature, position):
            raise UnsupportedCheckpointError(f"is {kind}")


def _refuse_tar(content: bytes) -> None:
    if content[257:262] != b"ustar" and not _is_old_tar(content):
        return
    if content[:100].rstrip(b"\0") in _OLD_TORCH_MEMBERS:
        raise UnsupportedCheckpointError(
            "is a tar checkpoint of torch before 0.1.10; load and save it with a newer torch"
        )
    raise UnsupportedCheckpointError("is a tar archive; unpack it and give the checkpoint inside")


def _is_old_tar(content: bytes) -> bool:
    return len(content) >= 512 and content[:100].rstrip(b"\0") in _OLD_TORCH_MEMBERS


def _starts_like_pickle(content: bytes) -> bool:
    if content.startswith(_OLD_MAGIC):
        return True
    return content[:1] == b"\x80" and len(content) > 1 and content[1] <= _NEWEST_PICKLE_PROTOCOL


def _pickle_container(content: bytes, limits: ReadLimits) -> Container:
    table = StorageTable()
    machine = PickleMachine(Budget(limits), persistent=table.persistent)
    found = machine.load(io.BytesIO(content))
    if table.by_key:
        raise UnsupportedCheckpointError(
            "is the data.pkl out of an unpacked torch checkpoint; give the whole file"
        )
    if isinstance(found, int) and found == MAGIC_NUMBER:
        return Container.LEGACY_STREAM
    raise UnsupportedCheckpointError(
        "is a plain pickle, not written by torch.save; save the weights with torch.save or as "
        "safetensors"
    )


def _refuse_text(content: bytes, limits: ReadLimits) -> None:
    if not _is_text(content):
        return
    _refuse_text_pickle(content, limits)
    beginning = content[:_CHECKED_TEXT_BYTES].decode("utf-8", "ignore").lstrip("\ufeff \t\r\n")
    for pattern, kind in _TEXTS:
        if re.match(pattern, beginning.lower()):
            raise UnsupportedCheckpointError(f"is {kind}")
    raise CheckpointFormatError("is text, not a checkpoint; get the file again")


def _is_text(content: bytes) -> bool:
    beginning = content[:_CHECKED_TEXT_BYTES]
    is_all = len(beginning) == len(content)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(beginning, final=is_all)
    except UnicodeDecodeError:
        return False
    return not any(byte < 0x20 and byte not in _TEXT_CONTROLS for byte in beginning)


def _refuse_text_pickle(content: bytes, limits: ReadLimits) -> None:
    """Pickle protocol 0 is text: name it, and say what it would have called."""
    if content[-1:] not in {b".", b"\n"}:
        return
    try:
        PickleMachine(Budget(limits)).load(io.BytesIO(content))
    except CheckpointFormatError:
        return
    raise UnsupportedCheckpointError(
        "is a plain pickle, not written by torch.save; save the weights with torch.save or as "
        "safetensors"
    )


def _refuse_messages(content: bytes) -> None:
    if message_kind(content) is MessageKind.TENSORFLOW:
        raise UnsupportedCheckpointError(f"is a TensorFlow graph; {_KERAS}")
