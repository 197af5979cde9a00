"""Every fault of frames and cameras, made in a real reader's process, and what comes of it."""

from __future__ import annotations

import itertools
import logging
import re
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from edgeface.camera import (
    CameraEvent,
    CameraEventKind,
    CameraState,
    FrameCondition,
    LiveSource,
    SourceOptions,
    open_source,
)
from edgeface.camera.captures import CaptureSpec
from edgeface.errors import CameraError
from edgeface.testing import CameraFault, FaultyCamera
from edgeface.types import Size
from tests.faults.camera_servers import mjpeg_camera
from tests.faults.odd_captures import WANTED_BGR

pytest.importorskip("cv2")

_LIMIT_S = 30.0


@pytest.fixture(scope="module")
def watched() -> Iterator[tuple[FaultyCamera, LiveSource]]:
    with FaultyCamera(Size(320, 240)) as camera, camera.open() as source:
        yield camera, source


def until(happened: Callable[[], bool]) -> None:
    started_s = time.monotonic()
    while not happened():
        assert time.monotonic() - started_s < _LIMIT_S, "it never happened"
        time.sleep(0.005)


def is_good(source: LiveSource) -> bool:
    health = source.health()
    return source.read(0.0) is not None and health.is_usable and not health.conditions


def event_of(
    source: LiveSource, kind: CameraEventKind, condition: FrameCondition | None = None
) -> CameraEvent:
    """Wait for an event and return it, reading frames meanwhile."""
    found: list[CameraEvent] = []

    def look() -> bool:
        source.read(0.0)
        found.extend(
            event
            for event in source.take_events()
            if event.kind is kind and event.condition is condition
        )
        return bool(found)

    until(look)
    return found[0]


@pytest.mark.parametrize(
    ("fault", "condition"),
    [
        (CameraFault.FREEZE, FrameCondition.FROZEN),
        (CameraFault.LOOP, FrameCondition.LOOPED),
        (CameraFault.BLACK, FrameCondition.BLACK),
        (CameraFault.WHITE, FrameCondition.WHITE),
        (CameraFault.BLANK, FrameCondition.BLANK),
        (CameraFault.NOISE, FrameCondition.NOISE),
        (CameraFault.ZERO_SIZE, FrameCondition.ZERO_SIZE),
        (CameraFault.TIME_BACK, FrameCondition.CLOCK_BACK),
        (CameraFault.LATE, FrameCondition.TOO_OLD),
    ],
)
def test_a_picture_that_proves_nothing_makes_the_camera_unusable_until_it_is_good_again(
    watched: tuple[FaultyCamera, LiveSource], fault: CameraFault, condition: FrameCondition
) -> None:
    camera, source = watched
    until(lambda: is_good(source))
    camera.fault = fault
    try:
        event_of(source, CameraEventKind.BEGAN, condition)
        health = source.health()
        assert condition in health.conditions
        assert not health.is_usable
        assert health.state is CameraState.LIVE
    finally:
        camera.fault = CameraFault.NONE
    until(lambda: is_good(source))


@pytest.mark.parametrize(
    ("fault", "condition"),
    [
        (CameraFault.GREY, FrameCondition.GREY),
        (CameraFault.SLOW, FrameCondition.SLOW),
        (CameraFault.RESIZE, FrameCondition.RESIZED),
    ],
)
def test_what_changes_the_picture_only_is_named_and_the_camera_stays_usable(
    watched: tuple[FaultyCamera, LiveSource], fault: CameraFault, condition: FrameCondition
) -> None:
    camera, source = watched
    until(lambda: is_good(source))
    camera.fault = fault
    try:
        event_of(source, CameraEventKind.BEGAN, condition)
        assert source.health().is_usable
        if fault is CameraFault.RESIZE:
            frames = itertools.islice(source, 3)
            assert Size(160, 120) in [frame.size for frame in frames]
    finally:
        camera.fault = CameraFault.NONE
    until(lambda: is_good(source))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (CameraFault.BLOCK, r"gave no frame for 1\.5 s"),
        (CameraFault.STOP, r"gave no frame for 1\.5 s"),
        (CameraFault.DIE, "the process that reads it ended"),
        (CameraFault.FAIL, "no more frames"),
        (CameraFault.HUGE, "a frame of 30000x30000 has more than 16777216 pixels"),
    ],
)
def test_a_camera_that_gives_no_frames_is_lost_at_once_and_comes_back(
    watched: tuple[FaultyCamera, LiveSource], fault: CameraFault, message: str
) -> None:
    camera, source = watched
    until(lambda: is_good(source))
    reconnects = source.health().reconnects
    camera.fault = fault
    try:
        lost = event_of(source, CameraEventKind.LOST)
        assert re.search(message, lost.detail)
        health = source.health()
        assert (health.state, health.is_usable) == (CameraState.LOST, False)
        assert health.conditions == frozenset()
        assert health.error == lost.detail
        assert source.read(0.05) is None
    finally:
        camera.fault = CameraFault.NONE
    event_of(source, CameraEventKind.BACK)
    assert source.health().reconnects == reconnects + 1
    assert source.health().error is None


def test_a_camera_that_is_lost_for_long_is_said_once(
    watched: tuple[FaultyCamera, LiveSource], caplog: pytest.LogCaptureFixture
) -> None:
    camera, source = watched
    until(lambda: is_good(source))
    source.take_events()
    with caplog.at_level(logging.DEBUG):
        camera.fault = CameraFault.FAIL
        event_of(source, CameraEventKind.LOST)
        time.sleep(1.5)
        assert source.take_events() == ()
        camera.fault = CameraFault.NONE
        event_of(source, CameraEventKind.BACK)
    assert len(caplog.records) == 2


def test_frames_without_pixels_are_counted_and_never_handed_out(
    watched: tuple[FaultyCamera, LiveSource],
) -> None:
    camera, source = watched
    until(lambda: is_good(source))
    skipped = source.skipped
    camera.fault = CameraFault.ZERO_SIZE
    until(lambda: source.skipped > skipped + 3)
    assert all(frame.pixels.size for frame in itertools.islice(source, 3))
    camera.fault = CameraFault.NONE
    until(lambda: is_good(source))


def open_odd(what: str, options: SourceOptions | None = None) -> LiveSource:
    spec = CaptureSpec("tests.faults.odd_captures:open_odd", {"what": what})
    return LiveSource("odd camera", spec, options or SourceOptions())


@pytest.mark.parametrize(
    "what",
    ["1x1", "grey without channels", "grey with one channel", "with alpha", "16 bits",
     "not contiguous", "negative strides", "read-only"],
)  # fmt: skip
def test_pixels_of_an_odd_form_become_rgb(what: str) -> None:
    rgb = WANTED_BGR[..., ::-1]
    grey = np.repeat(WANTED_BGR[..., :1], 3, axis=2)
    wanted = {"1x1": rgb[:1, :1], "negative strides": rgb[::-1, ::-1]}.get(
        what, grey if what.startswith("grey") else rgb
    )
    with open_odd(what) as source:
        frame = source.read(_LIMIT_S)
        assert frame is not None
        np.testing.assert_array_equal(frame.pixels, wanted)
        assert not frame.pixels.flags.writeable


@pytest.mark.parametrize("what", ["no rows", "no columns", "nothing"])
def test_a_camera_that_gives_only_frames_without_pixels_cannot_be_opened(what: str) -> None:
    options = SourceOptions(open_timeout_s=0.5)
    with pytest.raises(CameraError, match=r"gave no frame for 0\.5 s"):
        open_odd(what, options)


@pytest.mark.parametrize("what", ["float", "two channels", "one dimension"])
def test_pixels_that_are_no_picture_are_refused(what: str) -> None:
    with pytest.raises(CameraError, match=r"odd camera cannot be read: .*must"):
        open_odd(what)


def test_a_library_that_raises_its_own_errors_ends_the_attempt_and_shows_no_password(
    caplog: pytest.LogCaptureFixture,
) -> None:
    spec = CaptureSpec(
        "tests.faults.odd_captures:open_flighty", {"address": "rtsp://me:hunter2@camera/live"}
    )
    options = SourceOptions(retry_delay_s=0.01, max_retries=3)
    with LiveSource("flighty camera", spec, options) as source:
        lost = event_of(source, CameraEventKind.LOST)
        event_of(source, CameraEventKind.BACK)
    assert "OSError: no such device, …" in lost.detail
    assert "hunter2" not in lost.detail + caplog.text


def test_a_camera_that_fails_after_each_frame_is_not_opened_in_a_storm() -> None:
    spec = CaptureSpec("tests.faults.odd_captures:open_flighty", {"address": "x"})
    with LiveSource("flighty camera", spec, SourceOptions()) as source:
        time.sleep(2.0)
        # Delays of 0.5, 1 and 2 s.
        assert source.health().reconnects <= 3


def test_a_stream_above_the_limit_is_refused_before_a_frame_is_decoded() -> None:
    with (
        mjpeg_camera(320, 240) as camera,
        pytest.raises(CameraError, match="gives 320x240, more than 10000 pixels"),
    ):
        open_source(camera.address, options=SourceOptions(max_pixels=10_000))


def test_a_stream_of_cut_jpegs_is_named_and_rubbish_is_a_loss() -> None:
    """Later in a stream FFmpeg fills what is missing with an older picture, which nobody sees."""
    with mjpeg_camera() as camera:
        camera.tell("damaged")
        with open_source(camera.address) as source:
            assert isinstance(source, LiveSource)
            event_of(source, CameraEventKind.BEGAN, FrameCondition.CUT)
            assert not source.health().is_usable
            camera.tell("good")
            until(lambda: is_good(source))
            camera.tell("rubbish")
            event_of(source, CameraEventKind.LOST)
            camera.tell("good")
            until(lambda: is_good(source))
