"""What a monitor says about frames, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from edgeface.camera import FrameCondition, FrameMonitor, MonitorOptions, open_source
from edgeface.camera.capture_time import CaptureClock
from edgeface.camera.pattern import draw_pattern, pattern_number
from edgeface.camera.picture_statistics import fingerprint, statistics_of
from edgeface.errors import InvalidInputError
from edgeface.types import ImageArray, Size

SIZE = Size(160, 120)
FPS = 25.0


def pattern(number: int) -> ImageArray:
    return draw_pattern(number, SIZE)


def noisy(value: float, deviation: float = 1.5) -> Callable[[int], ImageArray]:
    def make(number: int) -> ImageArray:
        noise = np.random.default_rng(number).normal(value, deviation, (120, 160, 3))
        return np.clip(noise, 0, 255).astype(np.uint8)

    return make


def grey(number: int) -> ImageArray:
    """An infrared picture: grey, with the tint that some cameras give it."""
    levels = pattern(number).mean(axis=2, keepdims=True) * 0.9
    pixels: ImageArray = (levels.repeat(3, axis=2) + (12.0, 0.0, 8.0)).astype(np.uint8)  # noqa: RUF005
    return pixels


def cut(number: int, colour: tuple[int, int, int]) -> ImageArray:
    pixels = pattern(number)
    pixels[70:] = colour
    return pixels


def run(
    monitor: FrameMonitor, frames: Iterable[ImageArray | None], start_s: float, fps: float = FPS
) -> dict[FrameCondition, tuple[float, float | None]]:
    """Return when each condition began and ended, in seconds after the start."""
    found: dict[FrameCondition, tuple[float, float | None]] = {}
    for number, pixels in enumerate(frames):
        now_s = start_s + number / fps
        for change in monitor.update(pixels, now_s).changes:
            began_s = found.get(change.condition, (now_s - start_s, None))[0]
            found[change.condition] = (began_s, None if change.began else now_s - start_s)
    return found


def conditions_of(
    make: Callable[[int], ImageArray], seconds: float = 2.0, fps: float = FPS
) -> dict[FrameCondition, tuple[float, float | None]]:
    """Return what is said of ``make`` after two seconds of a good picture."""
    monitor = FrameMonitor()
    good = run(monitor, map(pattern, range(50)), 100.0)
    assert good == {}
    return run(monitor, map(make, range(50, 50 + int(seconds * fps))), 102.0, fps)


@pytest.mark.parametrize(
    ("make", "condition", "within_s"),
    [
        (lambda _: pattern(49), FrameCondition.FROZEN, 1.0),
        (lambda number: pattern(number % 12), FrameCondition.LOOPED, 1.0),
        (lambda number: pattern(number - 50), FrameCondition.LOOPED, 1.0),
        (noisy(2), FrameCondition.BLACK, 0.2),
        (noisy(16), FrameCondition.BLACK, 0.2),
        (noisy(253), FrameCondition.WHITE, 0.2),
        (noisy(128), FrameCondition.BLANK, 0.2),
        (noisy(128, 60.0), FrameCondition.NOISE, 0.2),
        (lambda number: cut(number, (0, 135, 0)), FrameCondition.CUT, 0.2),
        (lambda number: cut(number, (128, 128, 128)), FrameCondition.CUT, 0.2),
        (grey, FrameCondition.GREY, 0.2),
        (lambda number: pattern(number)[:96], FrameCondition.RESIZED, 0.1),
        (lambda number: pattern(number)[:0], FrameCondition.ZERO_SIZE, 0.1),
    ],
    ids=["frozen", "short loop", "long loop", "black", "video black", "white", "blank", "noise",
         "cut green", "cut grey", "grey", "resized", "zero size"],
)  # fmt: skip
def test_a_fault_is_named_soon_and_nothing_else_is(
    make: Callable[[int], ImageArray], condition: FrameCondition, within_s: float
) -> None:
    found = conditions_of(make)
    assert set(found) == {condition}
    assert found[condition][0] <= within_s


@pytest.mark.parametrize("condition", ["black", "frozen", "looped", "grey", "noise"])
def test_a_condition_ends_when_the_picture_is_good_again(condition: str) -> None:
    make = {
        "black": noisy(2), "frozen": lambda _: pattern(49), "grey": grey,
        "looped": lambda number: pattern(number % 12), "noise": noisy(128, 60.0),
    }[condition]  # fmt: skip
    monitor = FrameMonitor()
    run(monitor, map(pattern, range(50)), 0.0)
    run(monitor, map(make, range(50)), 2.0)
    assert {one.value for one in monitor.conditions} == {condition}
    found = run(monitor, map(pattern, range(1000, 1025)), 4.0)
    assert not monitor.conditions
    [(_, ended_s)] = found.values()
    assert ended_s is not None
    assert ended_s <= 0.2


def test_a_key_frame_does_not_end_a_frozen_picture() -> None:
    """It codes the same picture a little differently, once a second or so."""
    monitor = FrameMonitor()
    frames = [pattern(0) ^ np.uint8(number // 20 % 2) for number in range(100)]
    found = run(monitor, frames, 0.0)
    assert set(found) == {FrameCondition.FROZEN}
    began_s, ended_s = found[FrameCondition.FROZEN]
    assert began_s <= 1.0
    assert ended_s is None


@pytest.mark.parametrize("fps", [3.0, 5.0, 10.0, 30.0])
def test_a_frozen_camera_of_any_rate_is_noticed_within_ten_frames_or_a_second(fps: float) -> None:
    [(began_s, _)] = conditions_of(lambda _: pattern(49), 4.0, fps).values()
    assert began_s <= max(1.0, 10 / fps)


def test_a_picture_doubled_by_a_driver_is_not_frozen() -> None:
    assert conditions_of(lambda number: pattern(1000 + number // 4)) == {}


def test_frames_that_come_too_seldom_are_said_within_two_seconds() -> None:
    found = conditions_of(pattern, 6.0, fps=1.25)
    assert set(found) == {FrameCondition.SLOW}
    assert found[FrameCondition.SLOW][0] <= 2.0
    monitor = FrameMonitor(MonitorOptions(min_fps=0.0))
    assert run(monitor, map(pattern, range(9)), 0.0, fps=0.2) == {}


def test_a_moment_is_held_for_a_second_so_that_nobody_misses_it() -> None:
    monitor = FrameMonitor(size=Size(64, 48))
    frames = [None, *map(pattern, range(50))]
    found = run(monitor, frames, 0.0)
    for condition, at_s in ((FrameCondition.ZERO_SIZE, 0.0), (FrameCondition.RESIZED, 0.04)):
        began_s, ended_s = found[condition]
        assert began_s == pytest.approx(at_s)
        assert ended_s == pytest.approx(at_s + 1.0, abs=0.05)


def test_black_bars_are_part_of_the_picture() -> None:
    assert conditions_of(lambda number: cut(number, (0, 0, 0))) == {}


def test_a_flapping_size_is_one_event_not_thirty() -> None:
    monitor = FrameMonitor()
    frames = [pattern(number)[: 96 + 24 * (number % 2)] for number in range(100)]
    changes = [
        change
        for number, pixels in enumerate(frames)
        for change in monitor.update(pixels, number / FPS).changes
        if change.condition is FrameCondition.RESIZED
    ]
    assert len(changes) == 1


@pytest.mark.parametrize(
    ("positions_s", "kept", "condition"),
    [
        ([0.0, 0.04, 0.08], [True, True, True], None),
        ([5.0, 5.04, 1.0, 1.04], [True, True, False, True], FrameCondition.CLOCK_BACK),
        ([5.0, 5.04, 9000.0, 9000.04], [True, True, False, True], FrameCondition.CLOCK_BACK),
        ([5.0, 5.04, -1e9, -1e9 + 0.04], [True, True, False, True], FrameCondition.CLOCK_BACK),
        ([float("nan"), None, float("inf"), 3.0], [True] * 4, None),
        ([3.0, 3.0, 3.0], [True, True, True], None),
    ],
    ids=["in order", "back", "ahead by hours", "far back", "no time", "standing"],
)
def test_a_time_that_jumps_drops_one_frame_and_starts_anew(
    positions_s: list[float | None], kept: list[bool], condition: FrameCondition | None
) -> None:
    monitor = FrameMonitor()
    checks = [
        monitor.update(pattern(number), 50.0 + number / FPS, position_s)
        for number, position_s in enumerate(positions_s)
    ]
    assert [check.is_kept for check in checks] == kept
    assert monitor.conditions == ({condition} if condition else set())
    assert all(check.captured_s <= 50.0 + k / FPS for k, check in enumerate(checks))


def test_an_arrival_that_goes_back_is_noticed_too() -> None:
    monitor = FrameMonitor()
    monitor.update(pattern(0), 10.0)
    assert not monitor.update(pattern(1), 9.0).is_kept
    assert monitor.conditions == {FrameCondition.CLOCK_BACK}


def test_frames_that_were_held_up_are_as_old_as_they_are() -> None:
    """A stall of 2 s in the network, after which what was queued comes at once."""
    clock = CaptureClock()
    for number in range(100):
        clock.captured_s(200.0 + number / FPS, number / FPS)
    ages_s = []
    for number in range(100, 160):
        arrived_s = max(200.0 + number / FPS, 206.0 + (number - 100) * 0.001)
        captured_s, in_order = clock.captured_s(arrived_s, number / FPS)
        assert in_order
        ages_s.append(arrived_s - captured_s)
    assert ages_s[0] == pytest.approx(2.0, abs=0.01)
    assert ages_s[-1] == pytest.approx(0.0, abs=0.01)
    assert ages_s == sorted(ages_s, reverse=True)


def test_a_clock_that_drifts_is_no_delay() -> None:
    clock = CaptureClock()
    ages_s = []
    for number in range(0, 24 * 3600):
        captured_s, _ = clock.captured_s(float(number), number * (1 - 1e-4))
        ages_s.append(number - captured_s)
    assert max(ages_s) < 0.01


def test_old_frames_are_dropped_and_named() -> None:
    monitor = FrameMonitor()
    for number in range(25):
        assert monitor.update(pattern(number), number / FPS, number / FPS).is_kept
    late = monitor.update(pattern(25), 25 / FPS + 0.6, 25 / FPS)
    assert not late.is_kept
    assert monitor.conditions == {FrameCondition.TOO_OLD}
    assert "0.6 s late" in late.changes[0].detail
    patient = FrameMonitor(MonitorOptions(max_age_s=None))
    patient.update(pattern(0), 0.0, 0.0)
    assert patient.update(pattern(1), 90.0, 0.04).is_kept


@pytest.mark.parametrize(
    "options",
    [{"frozen_s": -1.0}, {"min_fps": float("nan")}, {"max_age_s": float("inf")},
     {"loop_frames": -1}],
    ids=str,
)  # fmt: skip
def test_impossible_monitor_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError):
        MonitorOptions(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (3, 5), (480, 640), (481, 643), (1080, 1920)])
def test_any_size_has_statistics_and_a_fingerprint_that_sees_a_move(
    shape: tuple[int, int],
) -> None:
    rng = np.random.default_rng(7)
    pixels = rng.integers(0, 256, (*shape, 3), np.uint8)
    found = statistics_of(pixels)
    assert 0 <= found.mean <= 255
    assert fingerprint(pixels) == fingerprint(pixels.copy())
    if pixels.size > 3:
        moved = [np.roll(pixels, 8, axis=axis) for axis in (0, 1) if shape[axis] > 8]
        assert all(fingerprint(other) != fingerprint(pixels) for other in moved)
        assert fingerprint(pixels[::-1]) != fingerprint(pixels) or shape[0] == 1


def test_the_number_of_a_test_picture_can_be_read() -> None:
    for number in (0, 1, 77, 2**20 + 5, 2**32 - 1):
        assert pattern_number(pattern(number)) == number
    with pytest.raises(InvalidInputError, match="at least"):
        draw_pattern(0, Size(64, 64))


@pytest.mark.parametrize(
    "name", ["ageitgey__short_hamilton_clip.mp4", "HyperInspire__810_1684206192.mp4"]
)
def test_a_real_clip_has_no_condition(test_data: Path, name: str) -> None:
    pytest.importorskip("cv2")
    path = test_data / "data" / "video" / name
    if not path.is_file():
        pytest.skip(f"no clip {name} in the test data")
    monitor = FrameMonitor(MonitorOptions(min_fps=0.0))
    with open_source(path) as source:
        for frame in source:
            monitor.update(frame.pixels, frame.timestamp_s)
            assert monitor.conditions == frozenset(), frame.timestamp_s
