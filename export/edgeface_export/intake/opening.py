"""Opens a model file of any kind: its tensors, and the network that they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeface.errors import ArchitectureError, InvalidInputError
from edgeface.types import Size
from edgeface_export.architectures.recognition import Recognition, recognise
from edgeface_export.checkpoints import Checkpoint, CheckpointFormat, read_checkpoint
from edgeface_export.checkpoints.source import read_source
from edgeface_export.checkpoints.values import ReadLimits

__all__ = ["Intake", "OpenedModel", "open_model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """What the user says about a file that does not tell its network by key names.

    ``description`` is the ``.prototxt`` of Caffe weights, by default the one beside them. ``size``
    is that of the crops where an ONNX graph leaves it open, or a module is the user's own.
    ``arch`` is ``package.module:factory``, whose call gives the user's ``torch.nn.Module``: naming
    it lets that code run. ``trust_code`` lets the code inside of a TorchScript or ``.pt2`` file
    run.
    """

    description: Path | None = None
    size: Size | None = None
    arch: str = ""
    trust_code: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class OpenedModel:
    """A file that was read, and the network in it."""

    checkpoint: Checkpoint
    recognition: Recognition


def open_model(path: Path, intake: Intake | None = None) -> OpenedModel:
    """Return what the file at ``path`` is. Nothing in it is run unless ``intake`` says so.

    Raises:
        CheckpointError: The file, or the description of its network, cannot be read.
        ArchitectureError: No known network fits its tensors, or its graph has unknown nodes.
        InvalidInputError: ``intake`` asks for something that this kind of file has not.
        MissingDependencyError: It takes torch, which is not installed.
    """
    intake = intake or Intake()
    if is_program(path):
        from edgeface_export.intake.user_code import open_program

        return OpenedModel(*open_program(path, intake))
    checkpoint = read_checkpoint(path)
    return OpenedModel(checkpoint, recognise_opened(checkpoint, intake))


def is_program(path: Path) -> bool:
    """Return whether the file's name says that it is a ``torch.export`` program."""
    return path.suffix == ".pt2"


def recognise_opened(checkpoint: Checkpoint, intake: Intake | None = None) -> Recognition:
    """Return the network of a checkpoint that was read already; see :func:`open_model`."""
    intake = intake or Intake()
    tensors = {name: tensor.array for name, tensor in checkpoint.tensors.items()}
    if intake.arch:
        from edgeface_export.intake.user_code import recognise_module

        return recognise_module(checkpoint, intake)
    if checkpoint.format is CheckpointFormat.CAFFE:
        from edgeface_export.intake.caffe import caffe_recognition, find_prototxt

        description = find_prototxt(checkpoint.path, intake.description)
        return caffe_recognition(tensors, description, None)
    if intake.description is not None:
        raise InvalidInputError(
            f"a description of the network goes with Caffe weights; {checkpoint.path.name} is a "
            f"{checkpoint.format.value} file: leave --prototxt out"
        )
    try:
        return recognise(tensors)
    except ArchitectureError as error:
        return _by_other_means(checkpoint, intake, error)


def _by_other_means(
    checkpoint: Checkpoint, intake: Intake, unknown: ArchitectureError
) -> Recognition:
    if checkpoint.format is CheckpointFormat.ONNX:
        from edgeface_export.intake.onnx_graph import onnx_recognition

        content = reread(checkpoint)
        return onnx_recognition(content, size=intake.size)
    if checkpoint.format is CheckpointFormat.TORCHSCRIPT:
        if intake.trust_code:
            from edgeface_export.intake.user_code import recognise_script

            return recognise_script(checkpoint, intake)
        raise ArchitectureError(
            f"{unknown}. TorchScript holds its network as code: `--trust-code` runs it, with the "
            "torch extra; do so only if you trust who made the file"
        )
    raise unknown


def reread(checkpoint: Checkpoint) -> bytes:
    """Return the bytes of the file, which must be those that were read before.

    Raises:
        CheckpointFormatError: It cannot be read any more.
        InvalidInputError: It has changed meanwhile.
    """
    source = read_source(checkpoint.path, max_bytes=ReadLimits().max_file_bytes)
    if source.sha256 != checkpoint.sha256:
        raise InvalidInputError(f"{checkpoint.path} was changed while it was read; try again")
    return source.content
