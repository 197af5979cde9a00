"""Reads a checkpoint once and exports what it turns out to be."""

from __future__ import annotations

from pathlib import Path

from edgeface.errors import InvalidInputError
from edgeface_export.architectures.network import Output
from edgeface_export.exporter import (
    CropLoader,
    ExportInputs,
    ExportOptions,
    ExportResult,
    export_recognised,
)
from edgeface_export.intake.opening import open_model
from edgeface_export.pad_export import PadExportOptions, PadExportResult, export_pad
from edgeface_export.pair_evidence import PairEvaluator
from edgeface_export.progress import Progress, no_progress

__all__ = ["export_model"]


def export_model(
    path: Path,
    output: Path,
    *,
    options: ExportOptions | None = None,
    activation_set: CropLoader | None = None,
    pairs: PairEvaluator | None = None,
    progress: Progress = no_progress,
) -> ExportResult | PadExportResult:
    """Return the bundle made from the checkpoint at ``path`` and written to ``output``.

    A recogniser becomes what :func:`edgeface_export.export_checkpoint` makes; a network for
    presentation attack detection a bundle of its own kind, which has no INT8 artefact.

    Raises:
        CheckpointError: The file cannot be read.
        ArchitectureError: No known network fits its tensors.
        ActivationSetError: The activation set is unusable.
        GateFailedError: The result was measured and is not good enough; nothing is written.
        InvalidInputError: ``output`` is taken, something is asked for that the kind of network
            has not, or nothing says how crops are prepared.
    """
    options = options or ExportOptions()
    opened = open_model(path, options.intake)
    checkpoint, recognition = opened.checkpoint, opened.recognition
    prepared = options.preparation
    if recognition.assumed and prepared.preprocessing is None and prepared.faces is None:
        raise InvalidInputError(
            f"{path.name}: nothing in it says how crops are prepared; give it with "
            "--preprocessing, such as rgb:127.5/127.5, or have it measured with --discover"
        )
    if recognition.network.output is Output.EMBEDDING:
        return export_recognised(
            checkpoint,
            recognition,
            output,
            options=options,
            inputs=ExportInputs(activation_set, pairs, progress),
        )
    if pairs is not None:
        raise InvalidInputError(
            f"{recognition.layout.architecture} gives no embeddings, so that no pairs can be "
            "compared; leave the pairs out"
        )
    if options.int8 or activation_set is not None:
        raise InvalidInputError(
            f"{recognition.layout.architecture} is exported in float only: INT8 would move its "
            "scores and nothing here measures by how much; leave --int8 out"
        )
    return export_pad(
        checkpoint,
        recognition,
        output,
        options=PadExportOptions(name=options.name, overwrite=options.overwrite),
    )
