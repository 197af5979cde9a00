"""Live sources: the newest frame, and no waiting for ever."""

from __future__ import annotations

import http.server
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from edgeface.camera import (
    SourceOptions,
    open_source,
)
from edgeface.camera.live import LiveSource
from edgeface.camera.opening import stream_name
from edgeface.errors import CameraError, InvalidInputError
from edgeface.testing import ManualClock
from edgeface.types import ImageArray, Size

cv2 = pytest.importorskip("cv2")

RED, BLUE = (255, 0, 0), (0, 0, 255)


def picture(colour: tuple[int, int, int], width_px: int = 32, height_px: int = 16) -> ImageArray:
    return np.full((height_px, width_px, 3), colour, np.uint8)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("rtsp://host/live", "rtsp://host/live"),
        ("RTSP://User:Secret@Host:554/live/1", "rtsp://host:554/live/1"),
        ("http://[::1]:8080/video", "http://[::1]:8080/video"),
        ("https://host/video?user=a&password=b", "https://host/video"),
        ("rtsp://10.0.0.2/user=a_password=b_channel=1.sdp", "rtsp://10.0.0.2/…"),
        ("rtsp://u:p%40ss@host/x", "rtsp://host/x"),
    ],
)
def test_the_name_of_a_stream_holds_no_credentials(address: str, name: str) -> None:
    assert stream_name(address) == name


class ScriptedCapture:
    """A capture that does what its script says: pixels, None for a failure, or a call."""

    def __init__(self, script: list[Any]) -> None:
        self._script = iter(script)
        self.released = threading.Event()

    def read(self) -> tuple[bool, Any]:
        step = next(self._script, None)
        if callable(step):
            step = step()
        return step is not None, step

    def get(self, prop: int, /) -> float:
        return 30.0

    def release(self) -> None:
        self.released.set()


def live(
    *scripts: list[Any] | Exception, clock: Callable[[], float] = time.monotonic, **options: Any
) -> LiveSource:
    """Return a source whose n-th opening follows the n-th script."""
    settings = {"open_timeout_s": 5.0, "read_timeout_s": 5.0, "retry_delay_s": 0.0} | options
    openings = iter(scripts)

    def opener() -> ScriptedCapture:
        script = next(openings, CameraError("gone"))
        if isinstance(script, Exception):
            raise script
        return ScriptedCapture(script)

    return LiveSource("test", opener, SourceOptions(**settings), clock=clock)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    deadline = time.monotonic() + 5
    while any(thread.name == "edgeface-camera" for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "a reader thread was left behind"
        time.sleep(0.01)


def bgr(value: int) -> np.ndarray:
    return np.full((4, 4, 3), (value, 0, 0), np.uint8)


def test_a_live_source_keeps_the_newest_frame_only() -> None:
    clock, all_read, go_on = ManualClock(7.0), threading.Event(), threading.Event()

    def last() -> np.ndarray:
        all_read.set()
        go_on.wait(5)
        return bgr(99)

    with live([bgr(1), bgr(2), bgr(3), last], clock=clock) as source:
        assert (source.name, source.frame_count, source.is_live) == ("test", None, True)
        assert source.fps == 30.0
        assert all_read.wait(5)
        frames = iter(source)
        frame = next(frames)
        assert (frame.index, frame.timestamp_s) == (2, 7.0)
        assert tuple(frame.pixels[0, 0]) == (0, 0, 3)
        go_on.set()
        assert next(frames).index == 3


def test_a_camera_that_cannot_be_opened_is_an_error_at_once() -> None:
    with pytest.raises(CameraError, match="in use"):
        live(CameraError("in use"))
    with pytest.raises(CameraError, match="stopped giving frames"):
        live([])


def test_an_opening_that_hangs_does_not_hang_us() -> None:
    release = threading.Event()

    def opener() -> ScriptedCapture:
        release.wait(5)
        return ScriptedCapture([])

    started = time.monotonic()
    with pytest.raises(CameraError, match=r"no frame for 0\.1 s"):
        LiveSource("test", opener, SourceOptions(open_timeout_s=0.1))
    assert time.monotonic() - started < 4
    release.set()


def test_a_read_that_hangs_does_not_hang_us() -> None:
    release = threading.Event()

    def hang() -> None:
        release.wait(5)

    source = live([bgr(1), hang], read_timeout_s=0.1)
    frames = iter(source)
    next(frames)
    with pytest.raises(CameraError, match="test gave no frame for"):
        next(frames)
    release.set()
    source.close()


def test_a_stream_that_fails_is_opened_again() -> None:
    with live([bgr(1)], [bgr(2)], [bgr(3)], max_retries=1) as source:
        seen: list[int] = []
        with pytest.raises(CameraError, match="gone"):
            seen.extend(frame.index for frame in source)
    assert seen[-1] == 2


def test_a_stream_is_given_up_after_its_retries() -> None:
    gone = [CameraError(f"gone {number}") for number in range(5)]
    with live([bgr(1)], *gone, max_retries=3) as source, pytest.raises(CameraError, match="gone 2"):
        list(source)


def test_frames_without_pixels_are_skipped_and_counted() -> None:
    empty = np.empty((0, 0, 3), np.uint8)
    hold = threading.Event()
    with live([empty, bgr(1), empty, lambda: hold.wait(5) and None]) as source:
        assert next(iter(source)).index == 0
        while source.skipped < 2:
            time.sleep(0.001)
        hold.set()


def test_frames_that_are_no_picture_end_the_source() -> None:
    with pytest.raises(CameraError, match="test cannot be read: pixels must have shape"):
        live([np.zeros((4, 4, 2), np.uint8)])


def test_closing_ends_an_iteration_in_another_thread() -> None:
    release = threading.Event()
    source = live([bgr(1), lambda: release.wait(5) and None])
    timer = threading.Timer(0.05, source.close)
    timer.start()
    assert len(list(source)) == 1
    release.set()
    timer.join()


@pytest.mark.parametrize(
    "options",
    [
        {"open_timeout_s": 0.0},
        {"read_timeout_s": float("nan")},
        {"read_timeout_s": float("inf")},
        {"max_retries": -1},
        {"retry_delay_s": -1.0},
    ],
    ids=str,
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        SourceOptions(**options)


class CameraHandler(http.server.BaseHTTPRequestHandler):
    """An IP camera: /live is endless, /cut ends after a few frames, the rest is not there."""

    def do_GET(self) -> None:
        if not self.path.startswith(("/live", "/cut")):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=f")
        self.end_headers()
        body = cv2.imencode(".jpg", picture(BLUE, 64, 48)[..., ::-1])[1].tobytes()
        head = f"--f\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        with suppress(OSError):
            for number in itertools.count():
                if number > 30 and self.path.startswith("/cut"):
                    return
                self.wfile.write(head + body + b"\r\n")
                time.sleep(0.005)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def ip_camera() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), CameraHandler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_an_ip_camera_is_read_without_naming_its_password(
    ip_camera: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with open_source(f"http://admin:secret@{ip_camera}/live?token=secret") as source:
        frames: list[Any] = []
        for frame in source:
            frames.append(frame)
            if len(frames) == 3:
                break
        assert source.name == f"http://{ip_camera}/live"
    assert all(frame.size == Size(64, 48) for frame in frames)
    np.testing.assert_allclose(frames[0].pixels[24, 32], BLUE, atol=5)
    assert frames[0].index < frames[1].index < frames[2].index
    assert frames[0].timestamp_s < frames[2].timestamp_s <= time.monotonic()
    with pytest.raises(CameraError, match="cannot be opened") as caught:
        open_source(f"http://admin:secret@{ip_camera}/nothing?token=secret")
    assert "secret" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_an_ip_camera_that_goes_away_is_an_error(ip_camera: str) -> None:
    options = SourceOptions(max_retries=0)
    source = open_source(f"http://{ip_camera}/cut", options=options)
    with source, pytest.raises(CameraError, match="stopped giving frames"):
        list(source)
