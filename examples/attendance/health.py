"""Whether attendance is being taken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from examples.attendance.book import Book
from examples.attendance.broadcast import Broadcast
from examples.attendance.housekeeping import Housekeeping
from examples.attendance.pictures import Pictures
from examples.attendance.values import CameraStatus, Health, SinkStatus
from examples.attendance.watcher import Watcher

__all__ = ["Watched", "health_of"]


@dataclass(frozen=True, slots=True)
class Watched:
    """What health is told from; ``watcher`` is None without cameras."""

    watcher: Watcher | None
    housekeeping: Housekeeping
    book: Book
    pictures: Pictures
    broadcast: Broadcast


def health_of(watched: Watched, sinks: Sequence[SinkStatus], counts: Mapping[str, int]) -> Health:
    """Return how everything is doing; sinks that wait are told, and stop no attendance."""
    cameras = () if watched.watcher is None else watched.watcher.statuses()
    problems = tuple(_problems(watched, cameras))
    present = len(watched.book.present())
    figures = dict(_figures(watched, cameras, sinks, counts, present))
    return Health(not problems, problems, cameras, tuple(sinks), present, figures)


def _problems(watched: Watched, cameras: Sequence[CameraStatus]) -> Iterator[str]:
    if watched.housekeeping.refusal is not None:
        yield f"events cannot be recorded: {watched.housekeeping.refusal}"
    if watched.housekeeping.stands_still:
        yield "the clockwork stands still; start the program again"
    if watched.watcher is not None:
        yield from _problems_of(watched.watcher, cameras)


def _problems_of(watcher: Watcher, cameras: Sequence[CameraStatus]) -> Iterator[str]:
    if watcher.refusal is not None:
        yield f"sightings cannot be recorded: {watcher.refusal}"
    if watcher.failure is not None:
        yield f"watching failed: {watcher.failure}"
    elif watcher.has_ended:
        yield "every source has ended"
    elif watcher.stands_still:
        yield "cameras give frames, but none is searched; start the program again"
    elif not any(camera.is_usable for camera in cameras):
        yield "no camera gives a usable picture"


def _figures(
    watched: Watched,
    cameras: Sequence[CameraStatus],
    sinks: Sequence[SinkStatus],
    counts: Mapping[str, int],
    present: int,
) -> Iterator[tuple[str, float]]:
    for kind, count in counts.items():
        yield f"events_{kind}_total", count
    yield "present", present
    yield "cameras", len(cameras)
    yield "cameras_usable", sum(camera.is_usable for camera in cameras)
    yield "outbox_waiting", sum(sink.waiting for sink in sinks)
    yield "outbox_delivered_total", sum(sink.delivered for sink in sinks)
    yield "outbox_failures_total", sum(sink.failures for sink in sinks)
    yield "listeners", watched.broadcast.listeners
    yield "pictures_encoded_total", watched.pictures.encoded
    yield "clock_ahead_seconds", watched.book.clock_ahead_ms / 1000
    if watched.watcher is not None:
        looks = sum(camera.looks for camera in watched.watcher.cameras)
        yield "frames_searched_total", looks
        yield "look_milliseconds", watched.watcher.look_ms
