"""``edgeface export``: from a checkpoint to a verified bundle."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeface.cli.console import note, print_json, print_line, progress
from edgeface.cli.needs import need_cpu, need_export
from edgeface.types import ImageArray

if TYPE_CHECKING:
    from edgeface_export.architectures.network import Network
    from edgeface_export.exporter import ExportResult

__all__ = ["export"]


def export(
    file: Annotated[Path, typer.Argument(help="Checkpoint of a trained face backbone.")],
    *,
    int8: Annotated[bool, typer.Option("--int8", help="Add an INT8 artefact.")] = False,
    activation_set: Annotated[
        Path | None,
        typer.Option(help="Folder of photos of at least 100 faces that set the INT8 ranges."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Bundle to write [FILE's name.edgeface].")
    ] = None,
    ranges: Annotated[
        str, typer.Option(help="How an activation set sets ranges: percentile or minmax.")
    ] = "percentile",
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Turn a trained checkpoint into a verified bundle: ONNX, INT8 ONNX, manifest, report.

    Nothing in the checkpoint is run. Without --activation-set the INT8 ranges come from the
    checkpoint's own BatchNorm statistics, and the verdict says so. Exit code 1, and no bundle,
    when a gate fails.
    """
    need_export()
    from edgeface_export.exporter import ExportOptions, export_checkpoint
    from edgeface_export.quantise import QuantiseOptions

    target = output or Path(f"{file.stem}.edgeface")
    loader = None
    if activation_set is not None:
        if not int8:
            raise typer.BadParameter(
                "an activation set is for --int8", param_hint="--activation-set"
            )
        need_cpu()
        loader = _loader(activation_set)
    result = export_checkpoint(
        file,
        target,
        options=ExportOptions(int8=int8, overwrite=force, quantise=QuantiseOptions(method=ranges)),
        activation_set=loader,
        progress=_bar,
    )
    if as_json:
        print_json(_as_dict(result))
    else:
        print_line(render(result))


def _bar(label: str, items: Iterable[Any]) -> Iterable[Any]:
    with progress(label, items) as bar:
        yield from bar


def _loader(folder: Path) -> Any:
    """Return a function that loads the activation set by the runtime's own detection."""

    def load(network: Network) -> ImageArray:
        from edgeface.detection import AutoRangeDetector, MediaPipeLandmarkFinder
        from edgeface_calibration.activation_set import load_activation_set
        from edgeface_calibration.crops import DetectorCrops

        with closing(AutoRangeDetector()) as detector, closing(MediaPipeLandmarkFinder()) as finder:
            crops = DetectorCrops(detector, finder, network.alignment_template)
            loaded = load_activation_set(folder, crops, progress=_bar)
        for line in loaded.notes:
            note(line)
        return loaded.crops

    return load


def _as_dict(result: ExportResult) -> dict[str, Any]:
    manifest = result.bundle.manifest
    return {
        "bundle": str(result.bundle.path),
        "model_id": manifest.model_id,
        "artefacts": {entry.name: entry.size_bytes for entry in manifest.artefacts},
        "verdict": manifest.verdict.status,
        "data_free": manifest.verdict.data_free,
        "gates": [gate.sentence for gate in result.gates],
        "notes": list(manifest.verdict.notes),
        "report": result.report,
        "seconds": round(result.seconds, 2),
    }


def render(result: ExportResult) -> str:
    """Return what was made and proved, as lines for people."""
    manifest = result.bundle.manifest
    found = result.recognition
    sizes = ", ".join(f"{a.name} {a.size_bytes / 1e6:.1f} MB" for a in manifest.artefacts)
    size = manifest.crop_size
    lines = [
        f"{result.bundle.path}",
        f"  model      {found.layout.architecture} by {found.layout.trainer}, {found.layout.loss}",
        f"  crop       {size.height_px}x{size.width_px} (height x width), "
        f"{found.network.preprocessing}",
        f"  embedding  {manifest.embedding_size} values, unit length",
        f"  artefacts  {sizes}",
        f"  verdict    {manifest.verdict.status}"
        + (" (data-free)" if manifest.verdict.data_free else ""),
        *(f"    {gate.sentence}" for gate in result.gates),
    ]
    ratio = manifest.verdict.figures.get("int8_speed_ratio")
    if ratio is not None:
        share = manifest.verdict.figures["int8_share"]
        lines.append(
            f"    {share:.0%} of the multiply-adds in INT8; on ONNX Runtime's CPU provider here "
            f"{ratio:.2f}x the speed of fp32"
        )
    lines += [f"  note       {text}" for text in manifest.verdict.notes]
    return "\n".join([*lines, f"  took       {result.seconds:.1f} s"])
