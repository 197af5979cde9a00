"""``edgeface replay``: a recorded run judged again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeface.cli.console import print_json, print_line
from edgeface.cli.shared_options import JsonOption, Profile
from edgeface.pipeline import ReplayedTrack, ReplayOptions, RunHead, read_run
from edgeface.pipeline import replay as replay_run
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
    as_json: JsonOption = False,
) -> None:
    """Judge a recorded run again under another threshold, rule or gates.

    Prints one line for each track. Exit code 1 when a track would have ended otherwise.
    """
    head, looks = read_run(run)
    rule = {"min_frames": min_frames, "margin": margin}
    changes: dict[str, Any] = {name: value for name, value in rule.items() if value is not None}
    options = ReplayOptions(
        threshold=threshold,
        decision=replace(head.decision, **changes) if changes else None,
        quality=None if profile is None else profile.options,
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
