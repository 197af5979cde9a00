"""``edgeface activation-set``: the faces that set INT8 ranges, collected and looked at."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeface.cli.console import note, print_json, print_line, table
from edgeface.cli.needs import need_cpu
from edgeface.cli.shared_options import JsonOption

if TYPE_CHECKING:
    from edgeface_calibration.activation_set_collect import Collected, Tell
    from edgeface_calibration.activation_set_coverage import Coverage
    from edgeface_calibration.activation_set_people import PeopleEstimate
    from edgeface_calibration.activation_set_store import StoredActivationSet

__all__ = ["activation_set_app"]

activation_set_app = typer.Typer(
    help="Faces that set the ranges of an INT8 model.", no_args_is_help=True
)

_PRIVACY = "faces are personal data: only you may read this folder; delete it when it has served"
_TELL_EVERY = 50


@activation_set_app.command("collect")
def collect(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Folders, pictures, videos, webcam numbers, RTSP or HTTP addresses.",
        ),
    ],
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="SET", help="Folder NAME.activations [your own default set]."
        ),
    ] = None,
    template: Annotated[
        str, typer.Option(help="Alignment template; crops of 112x112 serve 112x96 models, too.")
    ] = "arcface-112x112",
    maximum: Annotated[
        int, typer.Option("--max", min=100, max=10_000, help="Faces to stop at.")
    ] = 1000,
    every_s: Annotated[
        float, typer.Option(min=0.0, help="At most one crop of one face in so many seconds.")
    ] = 0.5,
    force: Annotated[bool, typer.Option("--force", help="Replace a set there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Collect aligned faces from photos, videos or a live camera.

    Faces go through the detection, alignment and quality gates of `edgeface watch`; near
    duplicates are left out. A live camera ends with Ctrl-C or when there are faces enough. Below
    100 faces nothing is written. The set holds faces, which are personal data: its folder is for
    you alone, and no name or path of a source is kept in it.
    """
    need_cpu()
    from edgeface.detection import AutoRangeDetector, MediaPipeLandmarkFinder
    from edgeface_calibration.activation_set_collect import CollectOptions, collect_activation_set
    from edgeface_calibration.activation_set_limits import ActivationSetLimits
    from edgeface_calibration.activation_set_store import default_activation_set_path

    options = CollectOptions(
        template=template,
        every_s=every_s,
        limits=ActivationSetLimits(maximum=maximum),
        overwrite=force,
    )
    target = output or default_activation_set_path()
    with (
        closing(AutoRangeDetector()) as detector,
        closing(MediaPipeLandmarkFinder()) as finder,
        _telling(maximum) as tell,
    ):
        done = collect_activation_set(sources, target, detector, finder, options=options, tell=tell)
    if done.stopped:
        note("stopped")
    if as_json:
        print_json(_collected_as_dict(done))
    else:
        print_line(_collected_as_text(done))


@activation_set_app.command("report")
def report(
    folder: Annotated[Path, typer.Argument(metavar="SET", help="Folder NAME.activations.")],
    *,
    sheet: Annotated[
        Path | None, typer.Option(help="Write a contact sheet of an even sample here (.png).")
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="Bundle that tells people apart.")
    ] = None,
    target_fmr: Annotated[
        float, typer.Option(help="Operating point that tells them apart, by its FMR.")
    ] = 1e-4,
    as_json: JsonOption = False,
) -> None:
    """Say what an activation set covers, and what it has too little of.

    Exit code 1 when no ranges should be taken from it.
    """
    from edgeface_calibration.activation_set_coverage import Verdict, cover, coverage_sheet
    from edgeface_calibration.activation_set_store import StoredActivationSet

    need_cpu()
    stored = StoredActivationSet.open(folder)
    _find_again(stored)
    people = None if model is None else _people(stored, model, target_fmr)
    coverage = cover(stored, people=people)
    if sheet is not None:
        _write_png(sheet, coverage_sheet(stored))
        note(f"wrote {sheet}; it shows faces")
    if as_json:
        print_json({"set": str(folder), **coverage.to_dict()})
    else:
        print_line(render(coverage, folder))
    if coverage.verdict is Verdict.REFUSED:
        raise typer.Exit(1)


def _find_again(stored: StoredActivationSet) -> None:
    """Return if the crops are aligned faces; an empty set has none to look at."""
    from edgeface.detection import AutoRangeDetector, MediaPipeLandmarkFinder
    from edgeface_calibration.activation_set_spot_check import spot_check
    from edgeface_calibration.crops import DetectorCrops

    if not len(stored):
        return
    with closing(AutoRangeDetector()) as detector, closing(MediaPipeLandmarkFinder()) as finder:
        spot_check(stored, DetectorCrops(detector, finder, stored.manifest.template))


def _people(stored: StoredActivationSet, model: Path, target_fmr: float) -> PeopleEstimate:
    from edgeface.backends import open_backend
    from edgeface.bundle import Bundle
    from edgeface.embedding import FaceEmbedder
    from edgeface_calibration.activation_set_people import estimate_people
    from edgeface_calibration.activation_set_store import cut_to_template

    bundle = Bundle.open(model)
    template = bundle.manifest.alignment_template
    crops = cut_to_template(stored.crops(), stored.manifest.template, template)
    point = bundle.operating_point("fp32", target_fmr=target_fmr)
    # The float artefact on the engine that every extra brings: nothing here is in a hurry.
    with closing(open_backend(bundle, backend="ort", artefact="fp32")) as backend:
        return estimate_people(crops, FaceEmbedder(backend, bundle.manifest), point)


def render(coverage: Coverage, folder: Path) -> str:
    """Return ``coverage`` as lines for people."""
    kinds = ", ".join(f"{count} of {kind}s" for kind, count in coverage.source_kinds.items())
    rows = [
        [name, *(f"{value:.4g}" for value in (d.minimum, d.p10, d.median, d.p90, d.maximum))]
        for name, d in coverage.measures.items()
    ]
    lines = [
        f"{folder}",
        f"  faces            {coverage.count} ({kinds}), {coverage.template}",
        f"  people           {_people_as_text(coverage.people)}",
        f"  near duplicates  {coverage.near_duplicates}",
        f"  left out         {_counts(coverage.refused)}",
        f"  blue skin        {coverage.blue_skin_share:.1%}",
        *(f"  {line}" for line in _table(rows)),
        *(f"  thin             {sentence}" for sentence in coverage.thin),
        f"  verdict          {coverage.sentence}",
    ]
    return "\n".join(lines)


def _table(rows: list[list[str]]) -> list[str]:
    return table(["measure", "min", "p10", "median", "p90", "max"], rows).splitlines()


def _people_as_text(people: PeopleEstimate | None) -> str:
    if people is None:
        return "not estimated; --model BUNDLE tells them apart"
    kind = "provisional " if people.provisional else ""
    return (
        f"about {people.count}, {people.largest_share:.0%} of the faces of one of them (groups "
        f"with a mean score of {people.threshold:.2f} or more, the {kind}operating point at FMR "
        f"{people.target_fmr:g})"
    )


def _counts(refused: Any) -> str:
    return ", ".join(f"{count} {why}" for why, count in sorted(refused.items())) or "none"


def _collected_as_dict(done: Collected) -> dict[str, Any]:
    return {
        "set": str(done.stored.path),
        "faces": len(done.stored),
        "template": done.stored.manifest.template,
        "looked_at": done.looked_at,
        "refused": dict(done.refused),
        "stopped": done.stopped,
        "notes": list(done.notes),
    }


def _collected_as_text(done: Collected) -> str:
    lines = [
        f"{done.stored.path}",
        f"  faces     {len(done.stored)} of {done.looked_at} pictures and frames looked at",
        f"  left out  {_counts(done.refused)}",
        *(f"  note      {text}" for text in done.notes),
        f"  privacy   {_PRIVACY}",
    ]
    return "\n".join(lines)


@contextmanager
def _telling(maximum: int) -> Iterator[Tell]:
    """Give what shows on stderr how many faces there are: a bar, or a line now and then."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield _tell_in_lines()
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("collecting faces", total=maximum)
        yield lambda kept, looked_at: bar.update(
            task, completed=kept, description=f"{kept} faces, {looked_at} looked at"
        )


def _tell_in_lines() -> Tell:
    told = 0

    def tell(kept: int, looked_at: int) -> None:
        nonlocal told
        if kept >= told + _TELL_EVERY:
            told = kept
            note(f"{kept} faces, {looked_at} pictures and frames looked at")

    return tell


def _write_png(path: Path, picture: Any) -> None:
    """Write an RGB picture of faces: whole or not at all, for its owner alone."""
    from edgeface.camera.base import load_opencv
    from edgeface.errors import InvalidInputError

    if path.suffix.lower() != ".png" or not path.parent.is_dir():
        raise InvalidInputError(
            f"a contact sheet is written as .png to a folder that exists, got {path}"
        )
    cv2 = load_opencv()
    _, content = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    # mkstemp makes the file 0600.
    handle, part = tempfile.mkstemp(prefix=".part-", suffix=".png", dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(bytes(content))
    Path(part).replace(path)
