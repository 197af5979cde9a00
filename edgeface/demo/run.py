"""Runs the demonstration: enrol one person, watch a clip with two, show what was found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeface.camera import AnnotatedVideoWriter, open_source
from edgeface.demo.clip import CLIP_FPS, SCENES, write_clip
from edgeface.demo.photos import ENROLLED, photo
from edgeface.overlay import contact_sheet, draw
from edgeface.pipeline import FrameResult, Recognizer
from edgeface.types import Event, EventKind, ImageArray, Outcome

__all__ = ["DemoResult", "run_demo"]

_SHEET_FRAMES = 12


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demonstration found, and the files it wrote.

    ``recognised_share`` is the share of compared frames of the enrolled person that name her,
    ``false_identifications`` the frames of the other person, or of the empty room, that name
    anybody.
    """

    events: tuple[Event, ...]
    recognised_share: float
    false_identifications: int
    compared_frames: int
    video: Path
    sheet: Path

    @property
    def as_expected(self) -> bool:
        """Whether the enrolled person was recognised and nobody was named falsely."""
        return self.recognised_share >= 0.9 and self.false_identifications == 0


def run_demo(
    recognizer: Recognizer,
    output: Path,
    *,
    on_event: Callable[[Event], None] = lambda _: None,
    progress: Callable[[str, Iterable[Any]], Iterable[Any]] = lambda _, items: items,
) -> DemoResult:
    """Return what ``recognizer`` makes of the clip; write video, sheet and events to ``output``.

    Raises:
        EdgefaceError: A portrait is missing, or a file cannot be written.
    """
    output.mkdir(parents=True, exist_ok=True)
    clip, video, sheet = output / "camera.mp4", output / "demo.mp4", output / "contact_sheet.png"
    write_clip(clip)
    recognizer.enrol(ENROLLED, [photo(ENROLLED)])
    events: list[Event] = []
    results: list[FrameResult] = []
    pictures: list[ImageArray] = []
    with open_source(clip) as frames, AnnotatedVideoWriter(video, CLIP_FPS) as writer:
        stream = recognizer.stream(frames)
        for frame in progress("watching the clip", frames):
            result = stream.process(frame)
            picture = draw(frame, result.observations)
            writer.write(picture)
            results.append(result)
            pictures.append(picture)
            for event in result.events:
                events.append(event)
                on_event(event)
        for event in stream.finish():
            events.append(event)
            on_event(event)
    _write_events(output / "events.jsonl", events)
    _write_sheet(sheet, results, pictures)
    return _judge(results, tuple(events), video, sheet)


def _judge(
    results: list[FrameResult], events: tuple[Event, ...], video: Path, sheet: Path
) -> DemoResult:
    truth = [scene.person for scene in SCENES for _ in range(round(scene.seconds * CLIP_FPS))]
    compared = named = wrong = 0
    for person, result in zip(truth, results, strict=False):
        for face in result.observations:
            subject = face.result.subject
            if person != ENROLLED:
                wrong += subject is not None
            elif face.result.outcome is not Outcome.REJECTED:
                compared += 1
                named += subject == ENROLLED
    share = named / compared if compared else 0.0
    return DemoResult(events, share, wrong, compared, video, sheet)


def _write_events(path: Path, events: list[Event]) -> None:
    lines = [
        json.dumps(
            {
                "event": event.kind.value,
                "track": event.track_id,
                "outcome": event.outcome.value,
                "subject": event.subject,
                "score": event.score,
                "time_s": round(event.timestamp_s, 3),
            }
        )
        for event in events
    ]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def _write_sheet(path: Path, results: list[FrameResult], pictures: list[ImageArray]) -> None:
    """Write a sheet of pictures: those where somebody was identified, then evenly spread ones."""
    import cv2

    marks = [
        k
        for k, result in enumerate(results)
        if any(event.kind is EventKind.IDENTIFIED for event in result.events)
    ]
    spread = np.linspace(0, len(results) - 1, _SHEET_FRAMES).astype(int).tolist()
    chosen = sorted(dict.fromkeys([*marks, *spread]))[: 2 * _SHEET_FRAMES]
    titles = [f"{results[k].frame.timestamp_s:.1f} s" for k in chosen]
    sheet = contact_sheet([pictures[k] for k in chosen], titles, 4, cell_px=320)
    cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
