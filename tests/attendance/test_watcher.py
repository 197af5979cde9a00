"""What the watcher makes of the recogniser's results."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeface.pipeline import FrameResult
from edgeface.testing import FakeSource
from edgeface.types import (
    BoundingBox,
    Event,
    EventKind,
    FaceDetection,
    Frame,
    IdentificationResult,
    Observation,
    Outcome,
)
from examples.attendance.book import Book
from examples.attendance.cameras import Camera
from examples.attendance.errors import AttendanceError
from examples.attendance.interface import Settings
from examples.attendance.pictures import Pictures
from examples.attendance.store import Store
from examples.attendance.watcher import Watcher
from tests.attendance.parts import Clocks

UNKNOWN = IdentificationResult(Outcome.UNKNOWN, score=0.1)


def known(person: str) -> IdentificationResult:
    return IdentificationResult(Outcome.KNOWN, person, 0.9)


def result(*said: IdentificationResult, events: tuple[Event, ...] = ()) -> FrameResult:
    box = FaceDetection(BoundingBox(10, 10, 50, 50), 0.9)
    observations = [Observation(box, one, track_id=1, track_result=one) for one in said]
    frame = Frame(np.zeros((96, 128, 3), np.uint8))
    return FrameResult(frame, tuple(observations), events, {"detect": 1.0})


def event(kind: EventKind, said: IdentificationResult) -> Event:
    return Event(kind, 1, said, 0.0, 0)


class Recogniser:
    """A recogniser whose results are those of a script; a text is a failure."""

    def __init__(self, script: list[Any]) -> None:
        self.script = deque(script)
        self.is_closed = False

    def group(self, _sources: object) -> Recogniser:
        return self

    def __iter__(self) -> Any:
        while self.script:
            step = self.script.popleft()
            if isinstance(step, Exception):
                raise step
            yield step

    def finish(self) -> tuple[Event, ...]:
        return (event(EventKind.LEFT, UNKNOWN),)

    def close(self) -> None:
        self.is_closed = True


def watch(folder: Path, script: list[Any], book: Book | None = None) -> tuple[Watcher, list[str]]:
    """Watch a script to its end; return the watcher, closed, and the kinds recorded."""
    book = book or Book(Store.open(folder / "record.db"), Settings(), clocks=Clocks())
    pictures = Pictures(str)
    camera = Camera("door", FakeSource([]))
    recogniser: Any = Recogniser(script)
    watcher = Watcher(recogniser, [camera], book, pictures, lambda who: who != "inactive")
    watcher.start()
    assert watcher.wait(30)
    watcher.close()
    pictures.close()
    kinds = [one.kind.value for one in book.store.events()]
    book.store.close()
    return watcher, kinds


def test_a_person_counts_once_the_recogniser_has_settled_on_them(tmp_path: Path) -> None:
    ann = known("ann")
    script = [
        result(ann),  # the track says it, but the visit has not begun
        result(ann, events=(event(EventKind.ARRIVED, ann),)),
        result(ann),
        result(),
    ]
    watcher, kinds = watch(tmp_path, script)
    assert kinds == ["arrived", "unknown", "departed"]
    assert watcher.failure is None
    assert watcher.has_ended


def test_a_track_alone_is_no_arrival(tmp_path: Path) -> None:
    assert watch(tmp_path, [result(known("ann"))] * 5)[1] == ["unknown"]


def test_who_is_not_counted_is_not_recorded(tmp_path: Path) -> None:
    said = known("inactive")
    assert watch(tmp_path, [result(said, events=(event(EventKind.ARRIVED, said),))])[1] == [
        "unknown"
    ]


def test_a_stranger_counts_when_the_track_ends(tmp_path: Path) -> None:
    left = (event(EventKind.LEFT, UNKNOWN), event(EventKind.LEFT, known("ann")))
    assert watch(tmp_path, [result(UNKNOWN), result(events=left)])[1] == ["unknown", "unknown"]


def test_a_record_that_refuses_does_not_end_the_watching(tmp_path: Path) -> None:
    book = Book(Store.open(tmp_path / "record.db"), Settings(), clocks=Clocks())
    with book.store.writing() as connection:
        connection.execute(
            "CREATE TEMP TRIGGER full BEFORE INSERT ON main.event "
            "WHEN NEW.kind = 'unknown' BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )
    ann = known("ann")
    events = (event(EventKind.LEFT, UNKNOWN), event(EventKind.ARRIVED, ann))
    watcher, kinds = watch(tmp_path, [result(ann, events=events), result(ann)], book)
    assert kinds[:1] == ["arrived"]
    # The last one, at the end, had nobody to try again.
    assert isinstance(watcher.failure, AttendanceError)


@pytest.mark.parametrize("error", [RuntimeError("Zoë Quxwöthington"), AttendanceError("no disk")])
def test_a_failure_is_told_and_is_no_quiet_end(tmp_path: Path, error: Exception) -> None:
    watcher, kinds = watch(tmp_path, [result(), error])
    assert watcher.has_ended
    assert watcher.failure is not None
    assert "Qux" not in str(watcher.failure)
    assert kinds == []


def test_a_recording_is_open_then_live_then_over() -> None:
    clock = Clocks()
    camera = Camera("door", FakeSource([]), clock=clock.clock_s)
    states = [camera.status().state.value]
    camera.looked()
    states.append(camera.status().state.value)
    assert camera.status().is_usable
    clock.now_s += 11
    states.append(camera.status().state.value)
    assert states == ["opening", "live", "closed"]
    assert camera.can_see
    assert replace(camera.status(), name="x").age_s == 11
