"""``edgeface pad``: whether a face is there in person."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeface.camera import open_source
from edgeface.cli.console import note, print_json, print_line, progress, table
from edgeface.cli.needs import need_cpu
from edgeface.cli.shared_options import JsonOption
from edgeface.pad import (
    BoxConvention,
    Challenge,
    ChallengeFace,
    PadModel,
    PadOperatingPoint,
    PresentationAttackDetector,
    instruction,
    pad_advice,
)
from edgeface.pipeline.pad_stream import PadFace, PadParts, PadStream, present

if TYPE_CHECKING:
    from edgeface.pad import PadDecision
    from edgeface_calibration.pad_evaluation import ErrorRate, PadEvaluation

__all__ = ["pad_app"]

pad_app = typer.Typer(
    help="See whether a face is there in person. RGB cameras deter attacks; they stop none.",
    no_args_is_help=True,
)

BundlesOption = Annotated[
    list[Path],
    typer.Option("--bundle", "-b", help="Bundle of a PAD model; repeat it to fuse several."),
]
PointOption = Annotated[
    Path | None,
    typer.Option(help="File of the operating point [the trainer's rule, unmeasured]."),
]
StillnessOption = Annotated[
    bool,
    typer.Option(
        "--stillness/--no-stillness", help="Hold back faces of clips that are too constant."
    ),
]
ThreadsOption = Annotated[int | None, typer.Option(help="Threads of the inference engine.")]


@contextmanager
def _parts(
    bundles: list[Path], point: Path | None, *, stillness: bool, threads: int | None
) -> Iterator[PadParts]:
    need_cpu()
    from edgeface.detection import AutoRangeDetector, MediaPipeLandmarkFinder

    with ExitStack() as stack:
        models = []
        for bundle in bundles:
            models.append(PadModel.open(bundle, threads=threads))
            stack.callback(models[-1].close)
        assessor = PresentationAttackDetector(models, boxes=BoxConvention.BLAZEFACE)
        parts = PadParts(
            detector=stack.enter_context(AutoRangeDetector()),
            assessor=assessor,
            operating_point=_point(point, assessor),
            landmark_finder=(stack.enter_context(MediaPipeLandmarkFinder()) if stillness else None),
        )
        yield parts


def _point(path: Path | None, assessor: PresentationAttackDetector) -> PadOperatingPoint:
    if path is None:
        point = PadOperatingPoint.of_trainer(assessor.model_ids)
        note(f"threshold {point.threshold:g} by the trainer's rule; measured on no camera of yours")
        return point
    point = PadOperatingPoint.read(path)
    point.require_models(assessor.model_ids)
    return point


@pad_app.command()
def check(
    source: Annotated[str, typer.Argument(help="Picture, folder, video file, camera or stream.")],
    *,
    bundle: BundlesOption,
    operating_point: PointOption = None,
    stillness: StillnessOption = True,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Frames to look at [all].")] = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say of the faces of SOURCE whether they are there in person.

    Exit code 0 when the last decision on the largest face is bona fide, else 1.
    """
    last: PadDecision | None = None
    with (
        _parts(bundle, operating_point, stillness=stillness, threads=threads) as parts,
        open_source(source) as frames,
    ):
        stream = PadStream(parts, stills=frames.fps is None and not frames.is_live)
        for count, frame in enumerate(frames, 1):
            faces = stream.process(frame)
            last = faces[0].decision if faces else last
            if as_json:
                shown = [_face_dict(face) for face in faces]
                print_json(
                    {"index": frame.index, "time_s": frame.timestamp_s, "faces": shown}, indent=None
                )
            else:
                for face in faces:
                    print_line(f"{frame.index:>6}  {_face_line(face)}")
            if count == max_frames:
                break
    if last is None:
        note("no face was found")
    raise typer.Exit(0 if last is not None and last.passed else 1)


@pad_app.command()
def challenge(
    source: Annotated[str, typer.Argument(help="Camera or stream; a video file to try it.")],
    *,
    mirrored: Annotated[
        bool, typer.Option("--mirrored", help="The camera mirrors its picture.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Ask the person in front of a camera for movements in a random order.

    Exit code 0 when they made them all, in time; else 1.
    """
    need_cpu()
    from edgeface.detection import AutoRangeDetector, MediaPipeLandmarkFinder
    from edgeface.pad import ChallengeOptions

    run = Challenge(ChallengeOptions(mirrored=mirrored))
    decision: PadDecision | None = None
    asked = -1
    with (
        AutoRangeDetector() as detector,
        MediaPipeLandmarkFinder(blendshapes=True) as finder,
        open_source(source) as frames,
    ):
        for frame in frames:
            found = detector.detect(frame)
            largest = max(found, key=lambda face: face.box.area_px, default=None)
            landmarks = None if largest is None else finder.find(frame, largest)
            if decision is None and landmarks is None:
                continue  # nobody is there yet
            seen = None if landmarks is None else ChallengeFace.of(landmarks)
            decision = run.step(seen, frame.timestamp_s)
            if run.action is None:
                break
            if run.done > asked:
                asked = run.done
                note(instruction(run.action))
    passed = decision is not None and decision.passed
    reasons = () if decision is None else decision.reasons
    if as_json:
        print_json({"passed": passed, "done": run.done, "reasons": [r.value for r in reasons]})
    else:
        said = " ".join(pad_advice(reason) for reason in reasons)
        print_line("passed" if passed else f"not passed: {said or 'No face was found.'}")
    raise typer.Exit(0 if passed else 1)


@pad_app.command()
def evaluate(
    bona_fide: Annotated[Path, typer.Argument(help="Folder of recordings of people.")],
    attacks: Annotated[
        Path, typer.Argument(help="Folder of recordings of attacks, one sub-folder a species.")
    ],
    *,
    bundle: BundlesOption,
    operating_point: PointOption = None,
    stillness: StillnessOption = False,
    fit: Annotated[
        Path | None, typer.Option(help="Fit the threshold and write the point to this file.")
    ] = None,
    target_apcer: Annotated[
        float, typer.Option(help="APCER of the worst species that --fit aims at.")
    ] = 0.05,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure APCER and BPCER on recordings of your own; each picture or clip is a presentation.

    Exit code 1 when attacks pass as often as people do.
    """
    from edgeface_calibration.pad_evaluation import evaluate_pad, fit_pad_threshold

    with _parts(bundle, operating_point, stillness=stillness, threads=threads) as parts:
        found = evaluate_pad(
            bona_fide,
            attacks,
            lambda path: _score(parts, path),
            threshold=parts.operating_point.threshold,
            progress=_bar,
        )
        model_ids = parts.assessor.model_ids
    if as_json:
        print_json(found.to_dict())
    else:
        print_line(render(found))
    if fit is not None:
        point = fit_pad_threshold(found, target_apcer=target_apcer, model_ids=model_ids)
        point.write(fit)
        note(
            f"wrote threshold {point.threshold:.4f} to {fit}: APCER {_percent(point.apcer)}, "
            f"BPCER {_percent(point.bpcer)}"
        )
    worst, refused = found.worst.apcer.rate or 0.0, found.bpcer.rate or 0.0
    raise typer.Exit(1 if worst >= 1.0 - refused else 0)


def _bar(label: str, items: Iterable[Any]) -> Iterable[Any]:
    with progress(label, items) as bar:
        yield from bar


def _score(parts: PadParts, path: Path) -> float | None:
    with open_source(path) as frames:
        return present(parts, frames, stills=frames.fps is None).score


def _face_dict(face: PadFace) -> dict[str, Any]:
    box, decision = face.detection.box, face.decision
    return {
        "track": face.track_id,
        "box": [box.left_px, box.top_px, box.width_px, box.height_px],
        "frame_score": None if face.score is None else face.score.bona_fide,
        "by_model": None if face.score is None else list(face.score.by_model),
        "outcome": decision.outcome.value,
        "score": decision.score,
        "frames": decision.frames,
        "reasons": [reason.value for reason in decision.reasons],
        "stillness": None if face.stillness is None else asdict(face.stillness),
    }


def _face_line(face: PadFace) -> str:
    decision = face.decision
    models = () if face.score is None else face.score.by_model
    parts = [
        f"track {face.track_id}",
        "frame " + ("-" if face.score is None else f"{face.score.bona_fide:.3f}"),
        "(" + ", ".join(f"{value:.3f}" for value in models) + ")",
        "track " + ("-" if decision.score is None else f"{decision.score:.3f}"),
        decision.outcome.value,
        ", ".join(reason.value for reason in decision.reasons),
    ]
    return "  ".join(part for part in parts if part)


def render(found: PadEvaluation) -> str:
    """Return the figures as a table, the worst species first."""
    rows = [_row("BPCER  bona fide", found.bpcer, found.bona_fide_no_response)]
    ordered = sorted(found.species, key=lambda each: -(each.apcer.rate or 0.0))
    rows += [_row(f"APCER  {each.species}", each.apcer, each.no_response) for each in ordered]
    header = ["rate", "errors", "of", "rate", "95 % interval", "no response"]
    worst = found.worst
    lines = [
        table(header, rows),
        f"threshold {found.threshold:.4f}; worst species {worst.species}: APCER "
        f"{_percent(worst.apcer.rate)}, at most {worst.apcer.interval.high:.1%} by its interval",
        f"ACER {_percent(found.acer)}",
        "the figures hold for these recordings, these cameras and these attacks only",
    ]
    return "\n".join(lines)


def _row(label: str, rate: ErrorRate, no_response: int) -> list[str]:
    interval = f"{rate.interval.low:.1%} to {rate.interval.high:.1%}"
    figures = [str(rate.errors), str(rate.trials), _percent(rate.rate), interval]
    return [label, *figures, str(no_response)]


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1%}"
