"""Says what a model file is, without running anything in it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgeface.errors import ArchitectureError, CheckpointError
from edgeface_export.architectures.beside import is_averaged
from edgeface_export.architectures.network import Output
from edgeface_export.architectures.recognition import Recognition
from edgeface_export.checkpoints import Checkpoint, read_checkpoint
from edgeface_export.discovery.norm_fit import norm_state
from edgeface_export.intake.opening import Intake, is_program, open_model, recognise_opened
from edgeface_export.loss_facts import known_training

__all__ = ["Inspection", "inspect_checkpoint"]


_NOT_TOLD = "not told by the file: give it with --preprocessing, or measure it with --discover"


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a file is and what an export would make of it.

    ``exportable`` tells whether a known network was found; then the fields of the network are
    set and ``reasons`` say why, otherwise ``reasons`` say what it is and why it cannot be
    exported. ``output`` is what the network gives, ``embedding`` or ``class-scores``, of which
    ``embedding_size`` is the number. ``averaged`` tells that the weights are a moving average,
    ``batch_norm`` whether BatchNorm's statistics were kept, ``training`` has the fields of
    :class:`edgeface.manifest.Training`. ``parameters`` counts every tensor of the file, BatchNorm's
    statistics included, its counters not.
    """

    file: str
    size_bytes: int
    sha256: str
    format: str
    whole_module: bool
    root_class: str
    foreign_classes: tuple[str, ...]
    tensors: int
    parameters: int
    scalars: dict[str, int | float | bool | str]
    notes: tuple[str, ...]
    exportable: bool
    reasons: tuple[str, ...]
    architecture: str = ""
    layout: str = ""
    trainer: str = ""
    loss: str = ""
    wrappers: tuple[str, ...] = ()
    prefix: str = ""
    crop_height_px: int = 0
    crop_width_px: int = 0
    alignment_template: str = ""
    preprocessing: str = ""
    output: str = ""
    embedding_size: int = 0
    network_parameters: int = 0
    multiply_adds: int = 0
    dropped: tuple[tuple[str, int, str], ...] = ()
    averaged: bool = False
    batch_norm: str = ""
    training: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON; ``dropped`` as objects of kind, count and first name."""
        data = asdict(self)
        data["dropped"] = [
            {"kind": kind, "count": count, "first": first} for kind, count, first in self.dropped
        ]
        return data


def inspect_checkpoint(path: Path, intake: Intake | None = None) -> Inspection:
    """Return what the file at ``path`` is; ``intake`` is what it does not say itself.

    Raises:
        CheckpointError: The file cannot be read at all.
    """
    if is_program(path):
        opened = open_model(path, intake)
        facts = _file_facts(opened.checkpoint)
        return Inspection(
            **facts, exportable=True, **_network_facts(opened.recognition, opened.checkpoint)
        )
    checkpoint = read_checkpoint(path)
    facts = _file_facts(checkpoint)
    try:
        found = recognise_opened(checkpoint, intake)
    except (ArchitectureError, CheckpointError) as error:
        return Inspection(**facts, exportable=False, reasons=(str(error),))
    return Inspection(**facts, exportable=True, **_network_facts(found, checkpoint))


def _file_facts(checkpoint: Checkpoint) -> dict[str, Any]:
    counted = [
        int(tensor.array.size)
        for name, tensor in checkpoint.tensors.items()
        if not name.endswith("num_batches_tracked")
    ]
    return {
        "file": checkpoint.path.name,
        "size_bytes": checkpoint.size_bytes,
        "sha256": checkpoint.sha256,
        "format": checkpoint.format.value,
        "whole_module": checkpoint.whole_module,
        "root_class": checkpoint.root_class,
        "foreign_classes": checkpoint.foreign_classes,
        "tensors": len(checkpoint.tensors),
        "parameters": sum(counted),
        "scalars": dict(checkpoint.scalars),
        "notes": checkpoint.notes,
    }


def _network_facts(found: Recognition, checkpoint: Checkpoint) -> dict[str, Any]:
    network, layout = found.network, found.layout
    tensors = {name: tensor.array for name, tensor in checkpoint.tensors.items()}
    training = known_training(checkpoint, found) if network.output is Output.EMBEDDING else None
    return {
        "reasons": found.reasons,
        "architecture": layout.architecture,
        "layout": layout.name,
        "trainer": layout.trainer,
        "loss": layout.loss,
        "wrappers": found.wrappers,
        "prefix": found.prefix,
        "crop_height_px": network.crop_size.height_px,
        "crop_width_px": network.crop_size.width_px,
        "alignment_template": network.alignment_template,
        "preprocessing": _NOT_TOLD if found.assumed else str(network.preprocessing),
        "output": network.output.value,
        "embedding_size": network.embedding_size,
        "network_parameters": network.parameters,
        "multiply_adds": sum(network.multiply_adds().values()),
        "dropped": tuple((d.kind, len(d.names), d.names[0]) for d in found.dropped),
        "averaged": is_averaged(found.prefix),
        "batch_norm": norm_state(network, tensors).value,
        "training": {} if training is None else asdict(training),
    }
