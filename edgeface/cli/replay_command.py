"""``edgeface replay``: a recorded run judged again."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeface.cli.console import print_json, print_line
from edgeface.cli.gallery_access import gallery_keys
from edgeface.cli.shared_options import JsonOption, Profile
from edgeface.gallery import SqliteGallery
from edgeface.pipeline import ReplayedTrack, ReplayOptions, RunHead, read_run
from edgeface.pipeline import replay as replay_run
from edgeface.pipeline.run_key import read_run_key
from edgeface.types import IdentificationResult

__all__ = ["replay"]


def replay(
    run: Annotated[Path, typer.Argument(help="What `edgeface watch --record` wrote.")],
    *,
    threshold: Annotated[
        float | None, typer.Option(help="Threshold on the similarity [that of the run].")
    ] = None,
    min_frames: Annotated[
        int | None, typer.Option(help="Agreeing frames that name somebody [as in the run].")
    ] = None,
    margin: Annotated[
        float | None, typer.Option(help="Distance to the next subject's score [as in the run].")
    ] = None,
    profile: Annotated[
        Profile | None, typer.Option(help="Gates for faces, if stricter than in the run.")
    ] = None,
    gallery: Annotated[
        Path | None, typer.Option("--gallery", "-g", help="Search the templates in this gallery.")
    ] = None,
    templates_key: Annotated[
        Path | None, typer.Option(help="Key file that `watch --record-templates` made.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Judge a recorded run again under another threshold, rule or gates, or in another gallery.

    Prints one line for each track. Exit code 1 when a track would have ended otherwise.
    """
    if (gallery is None) != (templates_key is None):
        raise typer.BadParameter("--gallery and --templates-key belong together")
    key = None if templates_key is None else read_run_key(templates_key)
    head, looks = read_run(run, templates_key=key)
    rule = {"min_frames": min_frames, "margin": margin}
    changes: dict[str, Any] = {name: value for name, value in rule.items() if value is not None}
    with ExitStack() as stack:
        people = None
        if gallery is not None:
            people = SqliteGallery.open_existing(gallery, keys=gallery_keys())
            stack.callback(people.close)
        options = ReplayOptions(
            threshold=threshold,
            decision=replace(head.decision, **changes) if changes else None,
            quality=None if profile is None else profile.options,
            gallery=people,
        )
        tracks = replay_run(head, looks, options)
    if as_json:
        print_json({"tracks": [_as_dict(track) for track in tracks]})
    else:
        _print(head, options, tracks)
    raise typer.Exit(1 if any(track.is_changed for track in tracks) else 0)


def _print(head: RunHead, options: ReplayOptions, tracks: list[ReplayedTrack]) -> None:
    now = head.threshold if options.threshold is None else options.threshold
    print_line(f"threshold {head.threshold:.3f} in the run, {now:.3f} now")
    for track in tracks:
        change = "  CHANGED" if track.is_changed else ""
        when = "" if track.first_named_s is None else f"  named at {track.first_named_s:.2f} s"
        print_line(
            f"{track.stream}:{track.track:<5} {track.compared}/{track.looks} compared  "
            f"{_said(track.recorded):<24} -> {_said(track.replayed)}{when}{change}"
        )
    changed = sum(track.is_changed for track in tracks)
    print_line(f"{len(tracks)} track(s), {changed} changed")


def _said(result: IdentificationResult | None) -> str:
    if result is None:
        return "nothing"
    reasons = ", ".join(reason.value for reason in result.reasons)
    return result.subject or " ".join(filter(None, (result.outcome.value, reasons)))


def _as_dict(track: ReplayedTrack) -> dict[str, Any]:
    return {
        "stream": track.stream,
        "track": track.track,
        "looks": track.looks,
        "compared": track.compared,
        "recorded": None if track.recorded is None else track.recorded.outcome.value,
        "recorded_subject": None if track.recorded is None else track.recorded.subject,
        "replayed": None if track.replayed is None else track.replayed.outcome.value,
        "replayed_subject": None if track.replayed is None else track.replayed.subject,
        "first_named_s": track.first_named_s,
        "changed": track.is_changed,
    }
