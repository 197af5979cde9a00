"""``edgeface calibrate``: thresholds for searches, with the evidence for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeface.bundle import Bundle
from edgeface.cli.console import note, print_json, print_line, progress, table
from edgeface.cli.gallery_access import open_gallery
from edgeface.cli.labelled_pairs import crop_source
from edgeface.cli.shared_options import JsonOption, ThreadsOption
from edgeface.errors import InvalidInputError
from edgeface.types import OperatingPoint

if TYPE_CHECKING:
    from edgeface_calibration.crops import CropSource
    from edgeface_calibration.identification import LabelledRows
    from edgeface_calibration.labelled_images import LabelledImage
    from edgeface_calibration.protocol_file import PointProtocol
    from edgeface_calibration.search_points import SearchPoint
    from edgeface_calibration.threshold_report import ThresholdReport

__all__ = ["calibrate"]


BundleArgument = Annotated[
    Path, typer.Argument(help="The bundle, a folder made by `edgeface export`.")
]
ImagesOption = Annotated[
    list[Path] | None,
    typer.Option(help="Folder with a sub-folder of pictures for each person; repeat it."),
]
PairsOption = Annotated[
    Path | None,
    typer.Option(help="LFW pairs.txt: use only the pictures of --images that it names."),
]
LandmarksOption = Annotated[
    Path | None,
    typer.Option(
        help="Five points for each picture: name and ten numbers. Without it faces are found."
    ),
]
EnrolledOption = Annotated[
    Path | None,
    typer.Option("--gallery", "-g", help="Compare the enrolled people of this gallery instead."),
]
ProtocolOption = Annotated[
    Path | None, typer.Option(help="TOML file with images and targets; options here win.")
]
FpirOption = Annotated[
    list[float] | None,
    typer.Option(help="Share of strangers that may be taken for somebody; repeat it."),
]
SizeOption = Annotated[list[int] | None, typer.Option(help="How many will be enrolled; repeat it.")]
FmrOption = Annotated[
    list[float] | None, typer.Option(help="False match rate of one comparison; repeat it.")
]
TemplatesOption = Annotated[
    int | None, typer.Option(help="References of each person: their first pictures.")
]
CautiousOption = Annotated[
    bool | None,
    typer.Option(
        "--cautious/--expected",
        help="Keep the whole 95 % interval below the target, not the measured rate alone.",
    ),
]
CohortOption = Annotated[
    float | None,
    typer.Option(help="Try score normalisation with this share of the people as its cohort."),
]
ResamplesOption = Annotated[int | None, typer.Option(help="Draws of people for intervals.")]
ArtefactsOption = Annotated[
    list[str] | None, typer.Option(help="Artefact to measure; repeat it. All by default.")
]
PageOption = Annotated[Path | None, typer.Option(help="Write the report to this HTML file.")]
WriteOption = Annotated[
    bool, typer.Option("--write/--dry-run", help="Write the thresholds into the bundle.")
]


def calibrate(
    bundle: BundleArgument,
    images: ImagesOption = None,
    pairs: PairsOption = None,
    landmarks: LandmarksOption = None,
    gallery: EnrolledOption = None,
    protocol: ProtocolOption = None,
    target_fpir: FpirOption = None,
    gallery_size: SizeOption = None,
    target_fmr: FmrOption = None,
    templates: TemplatesOption = None,
    cautious: CautiousOption = None,
    cohort_share: CohortOption = None,
    resamples: ResamplesOption = None,
    artefact: ArtefactsOption = None,
    threads: ThreadsOption = None,
    html: PageOption = None,
    write: WriteOption = True,
    as_json: JsonOption = False,
) -> None:
    """Find thresholds for searches of BUNDLE: from a target FPIR and how many will be enrolled.

    Exit code 1 means that a threshold that was asked for could not be found: not enough data.
    """
    changes = {
        "target_fpirs": tuple(target_fpir or ()),
        "gallery_sizes": tuple(gallery_size or ()),
        "target_fmrs": tuple(target_fmr or ()),
        "templates": templates,
        "cautious": cautious,
        "cohort_share": cohort_share,
        "n_resamples": resamples,
    }
    asked = _asked(protocol, images, pairs, landmarks, changes)
    opened = Bundle.open(bundle)
    if gallery is not None:
        report = _of_gallery(opened, bundle, gallery, asked, artefact, had_images=bool(images))
    else:
        report = _of_images(opened, asked, artefact, threads)
    points = _written(bundle, report) if write else ()
    if html is not None:
        _write_page(report, html)
    if as_json:
        print_json({**report.to_dict(), "operating_points_written": [asdict(p) for p in points]})
    else:
        _print(report, len(points))
    raise typer.Exit(0 if report.complete else 1)


def _asked(
    protocol: Path | None,
    images: list[Path] | None,
    pairs: Path | None,
    landmarks: Path | None,
    changes: dict[str, Any],
) -> PointProtocol:
    """Return what the protocol file asks for, changed by what was typed."""
    from edgeface_calibration.protocol_file import PointProtocol, read_point_protocol

    read = PointProtocol(name="") if protocol is None else read_point_protocol(protocol)
    typed = {key: value for key, value in changes.items() if value not in (None, ())}
    folders = tuple(images or read.images)
    return replace(
        read,
        name=read.name or ", ".join(folder.name for folder in folders),
        images=folders,
        pairs=pairs or read.pairs,
        landmarks=landmarks or read.landmarks,
        options=replace(read.options, **typed),
    )


def _of_images(
    bundle: Bundle, asked: PointProtocol, artefacts: list[str] | None, threads: int | None
) -> ThresholdReport:
    from edgeface_calibration.labelled_images import embed_people

    images = _images(asked)
    with ExitStack() as stack:
        labelled, missing = embed_people(
            bundle,
            images,
            _sources(stack, asked.landmarks, bundle.manifest.alignment_template),
            artefacts=artefacts,
            threads=threads,
            progress=_bar,
        )
    return _report(bundle, labelled, asked, missing)


def _images(asked: PointProtocol) -> list[LabelledImage]:
    from edgeface_calibration.labelled_images import images_of_folder, images_of_pairs
    from edgeface_calibration.pairs import read_pairs

    if not asked.images:
        raise InvalidInputError("no pictures: give --images, --protocol or --gallery")
    if asked.pairs is None:
        return [image for folder in asked.images for image in images_of_folder(folder)]
    if len(asked.images) > 1:
        raise InvalidInputError("--pairs names the pictures of one folder: give --images once")
    return images_of_pairs(read_pairs(asked.pairs, asked.images[0]))


def _sources(
    stack: ExitStack, landmarks: Path | None, template: str
) -> Callable[[Path], CropSource]:
    """Return what gives the source of crops of a folder; without landmarks one serves all."""
    opened: dict[Path | None, CropSource] = {}

    def source(folder: Path) -> CropSource:
        key = None if landmarks is None else folder
        if key not in opened:
            opened[key] = stack.enter_context(crop_source(landmarks, folder, template))
        return opened[key]

    return source


def _of_gallery(
    bundle: Bundle,
    model: Path,
    gallery: Path,
    asked: PointProtocol,
    artefacts: list[str] | None,
    *,
    had_images: bool,
) -> ThresholdReport:
    """Return the thresholds that the templates of a gallery give.

    Raises:
        InvalidInputError: Images were given too, or not one artefact was named: the gallery does
            not say which artefact its templates are from.
    """
    from edgeface_calibration.labelled_images import gallery_people

    known = [entry.name for entry in bundle.manifest.artefacts]
    names = artefacts or (known if len(known) == 1 else [])
    if had_images or len(names) != 1:
        raise InvalidInputError(
            "--gallery takes the place of --images, and needs the one --artefact that its people "
            f"were enrolled with, of {', '.join(known)}"
        )
    bundle.artefact(names[0])
    with open_gallery(gallery, model) as opened:
        labelled = gallery_people(
            (person.name, [template.vector for template in opened.templates(person.name)])
            for person in opened.subjects()
        )
    return _report(bundle, {names[0]: labelled}, replace(asked, name="the enrolled people"), ())


def _report(
    bundle: Bundle,
    labelled: dict[str, LabelledRows],
    asked: PointProtocol,
    missing: tuple[str, ...],
) -> ThresholdReport:
    from edgeface_calibration.search_points import threshold_figures
    from edgeface_calibration.threshold_report import ThresholdReport

    return ThresholdReport(
        bundle=bundle.manifest.name,
        model_id=bundle.manifest.model_id,
        protocol=asked.name,
        options=asked.options,
        artefacts=tuple(
            threshold_figures(name, rows, asked.options) for name, rows in labelled.items()
        ),
        faces_not_found=missing,
    )


def _written(bundle: Path, report: ThresholdReport) -> tuple[OperatingPoint, ...]:
    from edgeface_calibration.operating_point import write_operating_points

    points = report.operating_points()
    if points:
        write_operating_points(bundle, points)
    return points


def _write_page(report: ThresholdReport, path: Path) -> None:
    from edgeface_calibration.threshold_page import render_thresholds

    page = render_thresholds(report)
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as exc:
        raise InvalidInputError(f"the report {path} cannot be written: {exc}") from exc
    note(f"wrote {path}")


def _bar(label: str, items: Iterable[Any]) -> Iterator[Any]:
    with progress(label, items) as bar:
        yield from bar


def _print(report: ThresholdReport, n_written: int) -> None:
    print_line(f"{report.bundle} on {report.protocol}")
    for figures in report.artefacts:
        print_line()
        print_line(
            f"{figures.artefact}: {figures.n_faces:,} faces of {figures.n_people:,} people, "
            f"{len(report.faces_not_found):,} pictures without a face"
        )
        _print_points(
            "searches", [(f"{p.gallery_size:,} enrolled", p) for p in figures.searches], "FPIR"
        )
        _print_points("comparisons", [("", p) for p in figures.comparisons], "FMR")
        if figures.n_twins:
            print_line(figures.twins_note)
        if figures.cohort is not None:
            print_line(figures.cohort.sentence)
    if n_written:
        print_line(f"\nwrote {n_written} operating points into the bundle")


def _print_points(title: str, points: list[tuple[str, SearchPoint]], rate: str) -> None:
    from edgeface_calibration.threshold_report import interval_text, rate_text

    missed = "FNIR" if rate == "FPIR" else "FNMR"
    rows = [
        [
            f"{size} {rate} {rate_text(p.target)}".strip(),
            "-" if p.threshold is None else f"{p.threshold:.4f}",
            rate_text(p.fpir),
            interval_text(p.fpir_interval),
            rate_text(p.fnir),
            interval_text(p.fnir_interval),
            p.evidence,
        ]
        for size, p in points
    ]
    header = [title, "threshold", rate, "95 % interval", missed, "95 % interval", "evidence"]
    print_line(table(header, rows))
    for size, p in points:
        if p.note:
            print_line(f"  {size} {rate} {rate_text(p.target)}: {p.note}".replace("  ", " ", 1))
