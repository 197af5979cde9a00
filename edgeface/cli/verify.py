"""``edgeface verify``: how good every artefact of a bundle is, on labelled pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeface.bundle import Bundle
from edgeface.cli.console import note, print_json, print_line, progress, table
from edgeface.cli.labelled_pairs import crop_source, read_protocol
from edgeface.errors import OperatingPointError
from edgeface.types import OperatingPoint

if TYPE_CHECKING:
    from edgeface_calibration.report import ArtefactFigures, VerificationReport

__all__ = ["verify"]


def verify(
    bundle: Annotated[Path, typer.Argument(help="The bundle, a folder made by `edgeface export`.")],
    images: Annotated[Path, typer.Option(help="Folder of the images that the pairs name.")],
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="LFW pairs.txt, or CSV image_a,image_b,same. Without it each sub-folder of "
            "--images is one person, and their images are paired."
        ),
    ] = None,
    landmarks: Annotated[
        Path | None,
        typer.Option(
            help="Five points for each image: name and ten numbers. Without it faces are detected."
        ),
    ] = None,
    folds: Annotated[
        str | None, typer.Option(help="Folds of pairs.txt, such as 1-5; all by default.")
    ] = None,
    artefact: Annotated[
        list[str] | None, typer.Option(help="Artefact to measure; repeat it. All by default.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the engine.")] = None,
    histogram: Annotated[
        Path | None, typer.Option(help="Write the histogram of scores to this PNG file.")
    ] = None,
    det: Annotated[
        Path | None, typer.Option(help="Write the error trade-off curve to this PNG file.")
    ] = None,
    fit: Annotated[
        bool, typer.Option("--fit", help="Fit thresholds and write them into the bundle.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure every artefact of BUNDLE on labelled pairs of images, side by side.

    Exit code 1 means that an artefact does no better than guessing.
    """
    from edgeface_calibration.operating_point import write_operating_points
    from edgeface_calibration.verify import verify_bundle

    opened = Bundle.open(bundle)
    protocol = read_protocol(pairs, images, folds)
    with crop_source(landmarks, images, opened.manifest.alignment_template) as source:
        report = verify_bundle(
            opened, protocol, source, artefacts=artefact, threads=threads, progress=_bar
        )
    # A threshold for an artefact that guesses would look like a licence to use it.
    points, refusal = _fitted(report) if fit and report.passed else ((), None)
    if points:
        write_operating_points(bundle, points)
    _draw(report, points, histogram, det)
    if as_json:
        fitted = [asdict(point) for point in points]
        print_json({**report.to_dict(), "operating_points_written": fitted})
    else:
        _print(report, points)
    if refusal is not None:
        raise refusal
    raise typer.Exit(0 if report.passed else 1)


def _bar(label: str, items: Iterable[Any]) -> Iterator[Any]:
    with progress(label, items) as bar:
        yield from bar


def _fitted(
    report: VerificationReport,
) -> tuple[tuple[OperatingPoint, ...], OperatingPointError | None]:
    """Return the points, or why there are none: the figures are worth printing either way."""
    from edgeface_calibration.verify import fit_report

    try:
        return fit_report(report), None
    except OperatingPointError as error:
        return (), error


def _draw(
    report: VerificationReport,
    points: Sequence[OperatingPoint],
    histogram: Path | None,
    det: Path | None,
) -> None:
    from edgeface_calibration.plots import save_det_curve, save_score_histogram

    if histogram is not None:
        save_score_histogram(report, histogram, points)
        note(f"wrote {histogram}")
    if det is not None:
        save_det_curve(report, det)
        note(f"wrote {det}")


def _print(report: VerificationReport, points: Sequence[OperatingPoint]) -> None:
    columns = [_column(figures, points) for figures in report.artefacts]
    # The column of FP32 itself lacks the lines that compare with FP32: the longest knows them all.
    longest_first = sorted(columns, key=len, reverse=True)
    labels = list(dict.fromkeys(label for column in longest_first for label in column))
    rows = [[label, *(column.get(label, "-") for column in columns)] for label in labels]
    protocol = report.protocol
    print_line(f"{report.bundle} on {protocol.name}")
    print_line(
        f"{len(protocol.pairs):,} pairs of {len(protocol.image_names):,} images; "
        f"{len(report.faces_not_found):,} faces not found"
    )
    print_line()
    print_line(table(["", *(figures.artefact for figures in report.artefacts)], rows))
    for figures in report.artefacts:
        for text in (*_warnings(figures), *figures.notes):
            print_line(f"{figures.artefact}: {text}")
    if points:
        print_line(f"wrote {len(points)} operating points into the bundle")


def _column(figures: ArtefactFigures, points: Sequence[OperatingPoint]) -> dict[str, str]:
    """Return the figures of one artefact as texts, by label."""
    interval = figures.accuracy_interval
    column = {
        "pairs compared": f"{figures.n_pairs:,}",
        "accuracy over folds": f"{figures.accuracy:.2%} ± {figures.accuracy_std:.2%}",
        "  95 % interval": f"{interval.low:.2%} to {interval.high:.2%}",
        "  missing faces as errors": f"{figures.accuracy_counting_missing:.2%}",
    }
    for entry in figures.tar:
        label = f"TAR at FMR {entry.target_fmr:g}"
        column[label] = "not enough data" if entry.tar is None else f"{entry.tar:.2%}"
        if entry.interval is not None:
            low, high = entry.interval.low, entry.interval.high
            column[f"  95 % interval, FMR {entry.target_fmr:g}"] = f"{low:.2%} to {high:.2%}"
    column |= {
        "EER": f"{figures.eer:.2%}",
        "AUC": f"{figures.auc:.5f}",
        "mean score, mated": f"{figures.mean_mated_score:.3f}",
        "mean score, non-mated": f"{figures.mean_non_mated_score:.3f}",
        "effective dimension": f"{figures.effective_dimension:.1f}",
    }
    if figures.drift is not None:
        drift = figures.drift
        column |= {
            "cosine to fp32, mean": f"{drift.cosine_mean:.4f}",
            "cosine to fp32, 1st percentile": f"{drift.cosine_p1:.4f}",
            "cosine to fp32, lowest": f"{drift.cosine_min:.4f}",
            "pair score change, 99th percentile": f"{drift.pair_change_p99:.3f}",
            "pair score change, largest": f"{drift.pair_change_worst:.3f}",
        }
    for point in points:
        if point.artefact == figures.artefact:
            missed = "-" if point.fnmr is None else f"{point.fnmr:.2%}"
            column[f"threshold at FMR {point.target_fmr:g}"] = f"{point.threshold:.4f}"
            column[f"  FNMR there, FMR {point.target_fmr:g}"] = missed
    return column


def _warnings(figures: ArtefactFigures) -> Iterator[str]:
    if figures.at_chance:
        yield "does no better than guessing; do not use it"
    if figures.collapsed:
        yield "gives nearly the same embedding for every face"
    if figures.n_unusable:
        yield f"gives no usable embedding for {figures.n_unusable:,} faces"
