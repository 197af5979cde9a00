"""``edgeface export``: from a checkpoint to a verified bundle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edgeface.cli import export_options as option
from edgeface.cli.console import print_json, print_line, progress
from edgeface.cli.export_activation_set import chosen_activation_set
from edgeface.cli.export_pairs import pair_evaluator
from edgeface.cli.export_preparation import discovery_faces, preparation
from edgeface.cli.model_options import (
    ArchOption,
    PrototxtOption,
    SizeOption,
    TrustCodeOption,
    intake,
)
from edgeface.cli.needs import need_export
from edgeface.cli.pad_export_lines import print_pad_export
from edgeface.cli.shared_options import JsonOption

if TYPE_CHECKING:
    from edgeface.manifest import Training
    from edgeface_export.crop_sets import CropLoader
    from edgeface_export.exporter import ExportOptions, ExportResult
    from edgeface_export.pad_export import PadExportResult
    from edgeface_export.pair_evidence import PairEvaluator

__all__ = ["export"]


def export(
    file: option.FileArgument,
    *,
    int8: option.Int8Option = False,
    int8_only: option.Int8OnlyOption = False,
    activation_set: option.ActivationSetOption = None,
    data_free: option.DataFreeOption = False,
    output: option.OutputOption = None,
    ranges: option.RangesOption = "auto",
    preprocessing: option.PreprocessingOption = None,
    loss: option.LossOption = None,
    flip: option.FlipOption = "none",
    discover: option.DiscoverOption = None,
    discover_images: option.DiscoverImagesOption = None,
    discover_landmarks: option.DiscoverLandmarksOption = None,
    prototxt: PrototxtOption = None,
    size: SizeOption = None,
    arch: ArchOption = "",
    trust_code: TrustCodeOption = False,
    pairs: option.PairsOption = None,
    images: option.ImagesOption = None,
    landmarks: option.LandmarksOption = None,
    folds: option.FoldsOption = None,
    max_parity_difference: option.MaxParityDifference = None,
    max_statistics_distance: option.MaxStatisticsDistance = None,
    max_first_layer_distance: option.MaxFirstLayerDistance = None,
    max_colour_ratio: option.MaxColourRatio = None,
    min_cosine_mean: option.MinCosineMean = None,
    min_cosine_p1: option.MinCosineP1 = None,
    max_pair_change: option.MaxPairChange = None,
    max_mean_score: option.MaxMeanScore = None,
    max_mean_score_rise: option.MaxMeanScoreRise = None,
    min_effective_dimension: option.MinEffectiveDimension = None,
    max_tar_loss: option.MaxTarLoss = None,
    report: option.ReportOption = None,
    force: option.ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Turn a trained checkpoint into a verified bundle: ONNX, INT8 ONNX, manifest, report.

    Nothing in the checkpoint is run, unless `--arch` or `--trust-code` say so. Without an
    activation set the INT8 ranges come from built-in synthetic faces, and the verdict says so.
    Exit code 1, no bundle, and a report of what was tried, when a gate fails.
    """
    limits = option.given(locals())
    need_export()
    loader = chosen_activation_set(activation_set, int8=int8, data_free=data_free)
    evaluator = pair_evaluator(pairs, images, landmarks, folds)
    faces = discovery_faces(discover, discover_images, discover_landmarks)
    prepared = preparation(preprocessing, loss, flip, faces)
    options = _options(int8, force, limits, ranges, report)
    options = replace(options, int8_only=int8_only, preparation=prepared)
    options = replace(options, intake=intake(prototxt, size, arch, trust_code))
    _show(_run(file, output, options, loader, evaluator), as_json=as_json)


def _options(
    int8: bool, force: bool, limits: dict[str, float], ranges: str, report: Path | None
) -> ExportOptions:
    from edgeface_export.exporter import ExportOptions
    from edgeface_export.quantise import QuantiseOptions

    if report is not None and report.suffix != ".html":
        raise typer.BadParameter("the report is a page: name it PAGE.html", param_hint="--report")
    return ExportOptions(
        int8=int8,
        overwrite=force,
        limits=limits,
        quantise=QuantiseOptions(method=ranges),
        report=report,
    )


def _run(
    file: Path,
    output: Path | None,
    options: ExportOptions,
    activation_set: CropLoader | None,
    pairs: PairEvaluator | None,
) -> ExportResult | PadExportResult:
    from edgeface_export.dispatch import export_model

    return export_model(
        file,
        output or Path(f"{file.stem}.edgeface"),
        options=options,
        activation_set=activation_set,
        pairs=pairs,
        progress=_bar,
    )


def _show(result: ExportResult | PadExportResult, *, as_json: bool) -> None:
    from edgeface_export.pad_export import PadExportResult

    if isinstance(result, PadExportResult):
        print_pad_export(result, as_json=as_json)
    elif as_json:
        print_json(_as_dict(result))
    else:
        print_line(render(result))


def _bar(label: str, items: Iterable[Any]) -> Iterable[Any]:
    with progress(label, items) as bar:
        yield from bar


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
    described = f"{found.layout.architecture} by {found.layout.trainer}"
    lines = [
        f"{result.bundle.path}",
        "  model      " + ", ".join(part for part in (described, found.layout.loss) if part),
        f"  crop       {size.height_px}x{size.width_px} (height x width), "
        f"{found.network.preprocessing}",
        f"  embedding  {manifest.embedding_size} values, unit length{_joined(manifest.training)}",
        f"  training   {render_training(manifest.training)}",
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
    lines += [f"  pairs      {text}" for text in _pair_lines(result.report)]
    lines += [f"  note       {text}" for text in manifest.verdict.notes]
    return "\n".join([*lines, f"  took       {result.seconds:.1f} s"])


def _joined(training: Training) -> str:
    how = training.flip_in_graph
    return "" if how == "none" else f", of a crop and its mirror image ({how})"


def render_training(training: Training) -> str:
    """Return what is known of the loss of a training, as a line for people."""
    if not training.loss:
        return "its loss is not known"
    rows = "unit rows" if training.unit_rows else "rows of any length"
    told = [f"{training.loss} ({training.known_from})", f"compared by {training.metric} of {rows}"]
    if training.flip != "none":
        told.append(f"tested with the {training.flip} of crop and mirror image")
    if training.length_is_quality:
        told.append("length tells quality")
    return ", ".join(told)


def _pair_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Give what labelled pairs say of each artefact."""
    for artefact, figures in report.get("verification", {}).items():
        rates = [f"accuracy {figures['accuracy']:.2%}"]
        for entry in figures["tar"]:
            said = "too few pairs to tell" if entry["tar"] is None else f"{entry['tar']:.2%}"
            span = entry["interval"]
            beside = "" if span is None else f" ({span['low']:.2%} to {span['high']:.2%})"
            rates.append(f"TAR at FMR {entry['target_fmr']:g} {said}{beside}")
        yield f"{artefact}: " + ", ".join(rates)
