"""From a checkpoint to a verified bundle."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from edgeface._version import __version__
from edgeface.bundle import Bundle, Manifest, ModelSource, Verdict
from edgeface.errors import ActivationSetError, InvalidInputError
from edgeface.types import ImageArray, Size
from edgeface_export.architectures.network import Network
from edgeface_export.architectures.recognition import Recognition, recognise
from edgeface_export.bundle_writer import model_identity, write_bundle
from edgeface_export.checkpoints import Checkpoint, read_checkpoint
from edgeface_export.cpu_gate import make_cpu_artefacts
from edgeface_export.gates import GateLimits, GateResult, check_gates, figures_of
from edgeface_export.graph.emit import emit
from edgeface_export.html_report import render_report
from edgeface_export.int8 import Int8Result, Int8Source, make_int8
from edgeface_export.parity import measure_parity
from edgeface_export.probes import synthetic_crops
from edgeface_export.progress import Progress, no_progress
from edgeface_export.provisional import provisional_points
from edgeface_export.quantise import Quantised, QuantiseOptions
from edgeface_export.report_data import build_report

__all__ = ["CropLoader", "ExportOptions", "ExportResult", "export_checkpoint"]

CropLoader = Callable[[Network], ImageArray]
"""Returns the activation set as (n, height, width, 3) uint8 crops for a network's template."""

_SYNTHETIC_CROPS = 64
# Every fourth crop measures what the other three set: figures on the very crops that set the
# ranges would flatter.
_HELD_OUT = 4
_MIN_CROPS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How to export.

    ``name`` is the name in the manifest, by default the file's. ``int8`` adds the INT8 artefact.
    ``overwrite`` replaces a bundle that stands at the output.
    """

    name: str = ""
    int8: bool = False
    overwrite: bool = False
    limits: GateLimits = field(default_factory=GateLimits)
    quantise: QuantiseOptions = field(default_factory=QuantiseOptions)


@dataclass(frozen=True, slots=True, eq=False)
class ExportResult:
    """A written bundle, what was recognised, the gates passed, and the seconds it took."""

    bundle: Bundle
    recognition: Recognition
    gates: tuple[GateResult, ...]
    report: dict[str, Any]
    seconds: float


def export_checkpoint(
    path: Path,
    output: Path,
    *,
    options: ExportOptions | None = None,
    activation_set: CropLoader | None = None,
    progress: Progress = no_progress,
) -> ExportResult:
    """Return the bundle made from the checkpoint at ``path`` and written to ``output``.

    ``activation_set`` gives the crops that set the INT8 ranges; without it they come from the
    BatchNorm statistics and the verdict says data-free. ``progress`` may draw a bar.

    Raises:
        CheckpointError: The file cannot be read.
        ArchitectureError: No known network fits its tensors.
        ActivationSetError: The activation set is unusable.
        GateFailedError: The result was measured and is not good enough; nothing is written.
        InvalidInputError: ``output`` is taken, or an activation set is given without INT8.
    """
    options = options or ExportOptions()
    _require_use(activation_set, options)
    started = time.monotonic()
    checkpoint = read_checkpoint(path)
    recognition = recognise({name: t.array for name, t in checkpoint.tensors.items()})
    network = recognition.network
    name = options.name or Path(path).stem
    # The graph is called after the layout, not after the bundle: its bytes are the identity.
    graph_name = recognition.layout.name
    fp32 = emit(network, name=graph_name)
    ranging, held_out = _crops(activation_set, network)
    parity = measure_parity(network, fp32, held_out)
    check_gates(parity, None, options.limits)
    source = Int8Source(network, fp32, ranging, held_out)
    models, int8 = {"fp32": fp32}, None
    if options.int8:
        int8 = make_int8(source, options=options.quantise, limits=options.limits, progress=progress)
        models["int8"] = int8.quantised.model
    cpu = make_cpu_artefacts(source, int8, options=options.quantise, limits=options.limits)
    models |= cpu.models
    measured = None if int8 is None else int8.figures
    gates = check_gates(parity, measured, options.limits)
    figures = dict(figures_of(parity, measured)) | cpu.figures
    if int8 is not None:
        figures |= _cost_figures(network, int8.quantised)
        figures["int8_speed_ratio"] = figures.pop("int8_qdq_speed_ratio")
    content = {key: model.SerializeToString(deterministic=True) for key, model in models.items()}
    verdict = _verdict(figures, int8, cpu.notes)
    manifest = _manifest(checkpoint, recognition, content, name, verdict)
    report = build_report(recognition, options.limits, figures, gates, int8)
    bundle = write_bundle(
        Path(output),
        manifest,
        content,
        report,
        overwrite=options.overwrite,
        page=lambda final: render_report(report, final),
    )
    return ExportResult(bundle, recognition, gates, report, time.monotonic() - started)


def _require_use(activation_set: CropLoader | None, options: ExportOptions) -> None:
    if activation_set is not None and not options.int8:
        raise InvalidInputError(
            "an activation set sets INT8 ranges, but no INT8 artefact is asked for; "
            "set int8 in the options, or leave the activation set out"
        )


def _crops(
    activation_set: CropLoader | None, network: Network
) -> tuple[ImageArray | None, ImageArray]:
    """Return the crops that set the ranges, None when data-free, and those that measure them."""
    if activation_set is None:
        return None, synthetic_crops(_SYNTHETIC_CROPS, network.crop_size)
    crops = _usable(activation_set(network), network.crop_size)
    return np.delete(crops, np.s_[::_HELD_OUT], axis=0), crops[::_HELD_OUT]


def _usable(crops: ImageArray, size: Size) -> ImageArray:
    """Return ``crops`` if they can set the ranges of a network that reads crops of ``size``."""
    wanted = (size.height_px, size.width_px, 3)
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != wanted:
        raise ActivationSetError(
            f"the activation set must be uint8 RGB crops of shape (n, {size.height_px}, "
            f"{size.width_px}, 3), got {crops.dtype} of shape {crops.shape}; "
            "align the faces to the network's template"
        )
    if len(crops) < _MIN_CROPS:
        raise ActivationSetError(
            f"the activation set must have at least {_MIN_CROPS} crops, got {len(crops)}: "
            f"one in {_HELD_OUT} is held out to measure what the others set; give more faces"
        )
    return crops


def _cost_figures(network: Network, quantised: Quantised) -> dict[str, float]:
    costs = network.multiply_adds()
    total = sum(costs.values())
    return {
        "multiply_adds": float(total),
        "int8_share": sum(costs[name] for name in quantised.placement.nodes) / total,
    }


def _verdict(figures: dict[str, float], int8: Int8Result | None, more: tuple[str, ...]) -> Verdict:
    notes: list[str] = []
    data_free = int8 is not None and int8.quantised.data_free
    if int8 is not None and data_free:
        notes.append(
            "data-free: the INT8 ranges come from BatchNorm statistics and were tried on "
            f"{int8.figures.crops} synthetic pictures, not on faces. Give real aligned faces with "
            "--activation-set DIR, or check with `edgeface verify`."
        )
    notes.append(
        "the operating points are provisional: fit them with `edgeface verify --fit` on people "
        "like those the device will see."
    )
    return Verdict("passed", data_free, figures, (*notes, *more))


def _manifest(
    checkpoint: Checkpoint,
    recognition: Recognition,
    content: dict[str, bytes],
    name: str,
    verdict: Verdict,
) -> Manifest:
    network, layout = recognition.network, recognition.layout
    contract = {
        "crop_size": str(network.crop_size),
        "alignment_template": network.alignment_template,
        "embedding_size": network.embedding_size,
        "metric": "cosine",
    }
    return Manifest(
        model_id=model_identity(content["fp32"], contract),
        name=name,
        embedding_size=network.embedding_size,
        crop_size=network.crop_size,
        alignment_template=network.alignment_template,
        source=ModelSource(
            file_name=checkpoint.path.name,
            sha256=checkpoint.sha256,
            format=checkpoint.format.value,
            architecture=layout.architecture,
            trainer=layout.trainer,
            loss=layout.loss,
        ),
        artefacts=(),
        verdict=verdict,
        operating_points=tuple(
            point for artefact in content for point in provisional_points(artefact)
        ),
        tools=_tools(),
    )


def _tools() -> dict[str, str]:
    versions = {package: metadata.version(package) for package in ("onnx", "onnxruntime", "numpy")}
    return {"edgeface": __version__, **versions}
