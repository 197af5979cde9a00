"""How often a track keeps its number when two people pass each other."""

from __future__ import annotations

from collections import Counter

import pytest

from edgeface.tracking import MotionOptions, Tracker, TrackerOptions
from tests.benchmarks.crossings import crossings

pytestmark = pytest.mark.slow

STANDING = MotionOptions(place_gain=1.0, speed_gain=1e-9, speed_life_s=1e-9)
"""No motion: a track is where it was seen last."""


def outcomes(options: TrackerOptions, count: int, seed: int) -> Counter[str]:
    """Kept: both have at the end the number that they had in the first quarter."""
    result: Counter[str] = Counter()
    for script in crossings(count, seed=seed):
        tracker = Tracker(options)
        early: dict[int, int | None] = {}
        late: dict[int, int | None] = {}
        for step, seen in enumerate(script.frames):
            faces = [entry.detection for entry in seen]
            numbers = tracker.follow(faces, time_s=step / script.fps, looked=tracker.active)
            now = {entry.person: number for entry, number in zip(seen, numbers, strict=True)}
            early |= now if step < len(script.frames) // 4 else {}
            late |= now
        swapped = late.get(0) == early.get(1) or late.get(1) == early.get(0)
        result["kept" if late == early else "swapped" if swapped else "new"] += 1
    return result


def test_tracks_keep_their_numbers_through_crossings(
    capsys: pytest.CaptureFixture[str],
) -> None:
    count = 300
    rows = {
        "edgeface": outcomes(TrackerOptions(), count, seed=7),
        "without motion": outcomes(TrackerOptions(motion=STANDING), count, seed=7),
    }
    with capsys.disabled():
        print(f"\n{count} scripted crossings")  # noqa: T201
        for name, row in rows.items():
            shares = ", ".join(
                f"{kind} {row[kind] / count:.3f}" for kind in ("kept", "swapped", "new")
            )
            print(f"  {name:<16}{shares}")  # noqa: T201
    assert rows["edgeface"]["kept"] >= 0.95 * count
    assert rows["edgeface"]["kept"] > rows["without motion"]["kept"]
