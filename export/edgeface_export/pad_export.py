"""From a checkpoint for presentation attack detection to a verified bundle."""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgeface._version import __version__
from edgeface.errors import ArchitectureError, GateFailedError, InvalidInputError
from edgeface.manifest import MANIFEST_NAME, ModelSource, PadManifest, Verdict, manifest_to_json
from edgeface.pad.bundle import PadBundle
from edgeface_export.architectures.minifasnet import BONA_FIDE, MiniFasNetLayout
from edgeface_export.architectures.network import Network
from edgeface_export.architectures.recognition import Recognition
from edgeface_export.bundle_writer import (
    REPORT_NAME,
    model_identity,
    write_artefact,
    write_file,
    write_folder,
)
from edgeface_export.checkpoints import Checkpoint
from edgeface_export.gates import GateResult
from edgeface_export.graph.emit import SCORES_NAME, emit
from edgeface_export.graph.reference import reference_embeddings
from edgeface_export.graph.session import EmbeddingSession
from edgeface_export.probes import synthetic_crops

__all__ = ["PadExportOptions", "PadExportResult", "box_scale_of", "export_pad"]

# Probabilities of float32 arithmetic agree with float64 within 1e-6 on the published nets; a net
# that has learnt other colours or another scale is off by 1e-1.
MAX_PARITY_DIFFERENCE = 1e-5
_CROPS = 8
_BATCHES = (1, 3, 8)
# The trainer's names: SCALE_HEIGHTxWIDTH_TYPE, with the shifts of the box, always 0, between.
_TRAINERS_NAME = re.compile(r"(?P<scale>\d+(?:\.\d+)?)(?:_0)*_\d+x\d+_\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class PadExportOptions:
    """How to export.

    ``name`` is the name in the manifest, by default the file's. ``box_scale`` is how many times
    the face's box the crops show that the network was trained on; by default the file's name says
    it, as its trainer writes it. ``overwrite`` replaces a bundle that stands at the output.
    """

    name: str = ""
    box_scale: float | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class PadExportResult:
    """A written bundle, what was recognised, the gates passed, and the seconds it took."""

    bundle: PadBundle
    recognition: Recognition
    gates: tuple[GateResult, ...]
    report: dict[str, Any]
    seconds: float


def box_scale_of(file_name: str) -> float:
    """Return the scale that a trainer's file name says, as 2.7 of ``2.7_80x80_MiniFASNetV2.pth``.

    Raises:
        InvalidInputError: The name does not say it, and the tensors cannot.
    """
    found = _TRAINERS_NAME.fullmatch(Path(file_name).stem)
    if found is None:
        raise InvalidInputError(
            f"the name {file_name!r} does not say how much around the face the network was "
            "trained on; name it SCALE_HEIGHTxWIDTH_TYPE as its trainer does "
            "(2.7_80x80_MiniFASNetV2.pth), or give box_scale in the options"
        )
    return float(found["scale"])


def export_pad(
    checkpoint: Checkpoint,
    recognition: Recognition,
    output: Path,
    *,
    options: PadExportOptions | None = None,
) -> PadExportResult:
    """Return the bundle made of a checkpoint that was read and recognised, written to ``output``.

    Raises:
        ArchitectureError: The network is none for presentation attack detection.
        GateFailedError: The graph does not compute what the checkpoint does; nothing is written.
        InvalidInputError: ``output`` is taken, or nothing says the scale of the crops.
    """
    options = options or PadExportOptions()
    started = time.monotonic()
    layout = recognition.layout
    if not isinstance(layout, MiniFasNetLayout):
        raise ArchitectureError(
            f"{layout.name} is no network for presentation attack detection; "
            "use export_checkpoint for a recogniser"
        )
    scale = box_scale_of(checkpoint.path.name) if options.box_scale is None else options.box_scale
    network = recognition.network
    model = emit(network, name=layout.name)
    figures = _measured(network, model)
    gates = _gates(figures)
    content = model.SerializeToString(deterministic=True)
    manifest = _manifest(checkpoint, layout, network, content, scale, figures)
    report = _report(recognition, figures, gates)
    name = options.name or checkpoint.path.stem
    _write(output, replace(manifest, name=name), content, report, overwrite=options.overwrite)
    bundle = PadBundle.open(output)
    return PadExportResult(bundle, recognition, gates, report, time.monotonic() - started)


def _measured(network: Network, model: onnx.ModelProto) -> dict[str, float]:
    """Return how far ``model`` is from the float64 forward; NaN counts as infinite."""
    crops = synthetic_crops(_CROPS, network.crop_size)
    expected = reference_embeddings(network, crops)
    session = EmbeddingSession(model, outputs=(SCORES_NAME,))
    runs = [session.embed(crops, batch_size=size) for size in _BATCHES]
    to_reference = max(float(np.abs(run - expected).max()) for run in runs)
    to_each_other = max(float(np.abs(run - runs[0]).max()) for run in runs)
    return {
        "parity_max_difference": to_reference if np.isfinite(to_reference) else float("inf"),
        "parity_batch_difference": to_each_other if np.isfinite(to_each_other) else float("inf"),
        "parity_crops": float(_CROPS),
        "multiply_adds": float(sum(network.multiply_adds().values())),
    }


def _gates(figures: dict[str, float]) -> tuple[GateResult, ...]:
    figure, limit = figures["parity_max_difference"], MAX_PARITY_DIFFERENCE
    sentence = f"parity to the checkpoint {figure:.3g} (at most {limit:g})"
    if not figure <= limit:
        raise GateFailedError(f"the export failed its gates, nothing was written: {sentence}")
    return (GateResult("parity to the checkpoint", figure, limit, True, sentence),)


def _manifest(
    checkpoint: Checkpoint,
    layout: MiniFasNetLayout,
    network: Network,
    content: bytes,
    box_scale: float,
    figures: dict[str, float],
) -> PadManifest:
    bona_fide = layout.classes.index(BONA_FIDE)
    contract = {
        "crop_size": str(network.crop_size),
        "box_scale": box_scale,
        "classes": layout.classes,
        "bona_fide_class": bona_fide,
    }
    notes = (
        "a colour camera deters presentation attacks, it does not stop them: measure yours with "
        "`edgeface pad evaluate` on recordings of your own.",
    )
    return PadManifest(
        model_id=model_identity(content, contract),
        name=checkpoint.path.stem,
        crop_size=network.crop_size,
        box_scale=box_scale,
        classes=layout.classes,
        bona_fide_class=bona_fide,
        source=ModelSource(
            file_name=checkpoint.path.name,
            sha256=checkpoint.sha256,
            format=checkpoint.format.value,
            architecture=layout.architecture,
            trainer=layout.trainer,
            loss=layout.loss,
        ),
        artefacts=(),
        verdict=Verdict("passed", False, figures, notes),
        tools={
            "edgeface": __version__,
            **{package: metadata.version(package) for package in ("onnx", "onnxruntime", "numpy")},
        },
    )


def _report(
    recognition: Recognition, figures: dict[str, float], gates: tuple[GateResult, ...]
) -> dict[str, Any]:
    return {
        "exported_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "layout": recognition.layout.name,
        "preprocessing": str(recognition.network.preprocessing),
        "reasons": list(recognition.reasons),
        "dropped": {entry.kind: len(entry.names) for entry in recognition.dropped},
        "figures": figures,
        "gates": [gate.sentence for gate in gates],
        "gate_results": [asdict(gate) for gate in gates],
    }


def _write(
    output: Path, manifest: PadManifest, model: bytes, report: dict[str, Any], *, overwrite: bool
) -> None:
    def fill(work: Path) -> None:
        artefact = write_artefact(work, "fp32", model)
        text = json.dumps(report, indent=2, sort_keys=True, allow_nan=False) + "\n"
        files = {REPORT_NAME: write_file(work / REPORT_NAME, text.encode())}
        final = replace(manifest, artefacts=(artefact,), files=files)
        write_file(work / MANIFEST_NAME, manifest_to_json(final).encode())
        PadBundle.open(work)

    write_folder(output, fill, overwrite=overwrite)
