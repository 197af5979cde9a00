"""Live sources: a process that reads, the newest frame, and no waiting for ever."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from edgeface.camera import (
    CameraEvent,
    CameraEventKind,
    CameraGroup,
    CameraState,
    LiveSource,
    MonitorOptions,
    SourceOptions,
    open_source,
)
from edgeface.camera.pattern import draw_pattern, pattern_number
from edgeface.errors import CameraError, InvalidInputError
from edgeface.testing import CameraFault, FaultyCamera
from edgeface.types import Frame, Size
from tests.faults.camera_servers import free_port, mjpeg_camera, rtsp_camera

pytest.importorskip("cv2")

_LIMIT_S = 30.0


def until(happened: Callable[[], bool]) -> None:
    started_s = time.monotonic()
    while not happened():
        assert time.monotonic() - started_s < _LIMIT_S, "it never happened"
        time.sleep(0.005)


def readers() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if "edgeface.camera.reader" in " ".join(child.cmdline())
    ]


@pytest.fixture(autouse=True)
def _nothing_is_left() -> object:
    yield
    assert readers() == []
    names = {thread.name for thread in threading.enumerate()}
    assert not names & {"edgeface-camera", "edgeface-reader"}


def test_the_test_source_gives_numbered_pictures_in_their_time() -> None:
    started_s = time.monotonic()
    with open_source("test:320x240@50") as source:
        assert isinstance(source, LiveSource)
        assert (source.name, source.fps, source.is_live) == ("test source", 50.0, True)
        assert source.frame_count is None
        frames = list(itertools.islice(source, 20))
    numbers = [pattern_number(frame.pixels) for frame in frames]
    assert numbers == [frame.index for frame in frames] == sorted(set(numbers))
    for frame in frames[::7]:
        np.testing.assert_array_equal(frame.pixels, draw_pattern(frame.index, Size(320, 240)))
    stamps = [frame.timestamp_s for frame in frames]
    assert stamps == sorted(stamps)
    assert started_s < stamps[0] <= stamps[-1] <= time.monotonic()
    steps = np.diff(stamps) / np.diff(numbers)
    assert np.median(steps) == pytest.approx(0.02, abs=0.005)


def test_the_newest_frame_wins_and_the_rest_is_counted() -> None:
    with FaultyCamera(fps=100.0) as camera, camera.open() as source:
        first = next(iter(source))
        until(lambda: source.health().frames > first.index + 30)
        second = next(iter(source))
        health = source.health()
        assert second.index >= first.index + 30
        assert health.age_s is not None
        assert health.drops >= second.index - 2
        assert health.state is CameraState.LIVE


def test_an_old_frame_is_not_handed_out() -> None:
    options = SourceOptions(read_timeout_s=5.0, monitor=MonitorOptions(max_age_s=0.2))
    with FaultyCamera() as camera, camera.open(options) as source:
        next(iter(source))
        camera.fault = CameraFault.BLOCK
        until(lambda: (source.health().age_s or 0.0) > 0.4)
        assert source.read(0.1) is None
        camera.fault = CameraFault.NONE
        frame = next(iter(source))
        assert time.monotonic() - frame.timestamp_s < 1.0


def test_read_returns_in_its_time_whatever_the_camera_does() -> None:
    with FaultyCamera() as camera, camera.open() as source:
        next(iter(source))
        camera.fault = CameraFault.BLOCK
        for _ in range(4):
            started_s = time.monotonic()
            source.read(0.3)
            assert time.monotonic() - started_s < 5.0
        until(lambda: source.health().state is CameraState.LOST)


def test_a_camera_that_cannot_be_opened_is_an_error_at_once() -> None:
    with FaultyCamera() as camera:
        camera.fault = CameraFault.FAIL
        with pytest.raises(CameraError, match=r"cannot be read: .*no more frames"):
            camera.open()


def test_an_opening_that_hangs_does_not_hang_us() -> None:
    with FaultyCamera() as camera:
        camera.fault = CameraFault.BLOCK
        with pytest.raises(CameraError, match=r"gave no frame for 0\.3 s"):
            camera.open(SourceOptions(open_timeout_s=0.3))


def test_a_camera_that_need_not_be_there_yet_is_waited_for() -> None:
    with FaultyCamera() as camera:
        camera.fault = CameraFault.FAIL
        with camera.open(SourceOptions(must_open=False)) as source:
            until(lambda: source.health().error is not None)
            assert source.health().state is CameraState.OPENING
            assert source.read(0.0) is None
            camera.fault = CameraFault.NONE
            assert source.read(_LIMIT_S) is not None
            assert source.take_events()[0].kind is CameraEventKind.OPENED


def test_a_camera_is_given_up_after_its_retries_and_says_so_to_who_reads() -> None:
    options = SourceOptions(max_retries=2, retry_delay_s=0.01)
    events: list[CameraEvent] = []
    with FaultyCamera() as camera, camera.open(options, on_event=events.append) as source:
        next(iter(source))
        camera.fault = CameraFault.FAIL
        with pytest.raises(CameraError, match="no more frames"):
            list(source)
        assert source.health().state is CameraState.FAILED
        assert source.is_closed
        with pytest.raises(CameraError, match="no more frames"):
            source.read(1.0)
    kinds = [event.kind for event in events]
    assert kinds == [CameraEventKind.OPENED, CameraEventKind.LOST, CameraEventKind.FAILED]
    assert source.take_events() == tuple(events)


def test_a_listener_that_raises_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    def listener(event: CameraEvent) -> None:
        raise RuntimeError(event.kind.value)

    with FaultyCamera() as camera, camera.open(on_event=listener) as source:
        assert next(iter(source)).size == Size(320, 240)
    assert "on_event raised" in caplog.text


def test_a_listener_may_ask_and_may_close() -> None:
    asked: list[CameraState] = []

    def listener(event: CameraEvent) -> None:
        asked.append(source.health().state)
        if event.kind is CameraEventKind.LOST:
            source.close()

    with FaultyCamera() as camera:
        source = camera.open(SourceOptions(must_open=False), on_event=listener)
        assert source.read(_LIMIT_S) is not None
        camera.fault = CameraFault.FAIL
        assert list(source) is not None
        until(lambda: source.is_closed)
    assert asked[:2] == [CameraState.LIVE, CameraState.LOST]


def test_closing_ends_an_iteration_in_another_thread_and_is_quick_when_a_read_hangs() -> None:
    with FaultyCamera() as camera:
        source = camera.open()
        frames: list[Frame] = []
        thread = threading.Thread(target=lambda: frames.extend(source))
        thread.start()
        until(lambda: bool(frames))
        camera.fault = CameraFault.BLOCK
        started_s = time.monotonic()
        source.close()
        source.close()
        thread.join(_LIMIT_S)
        assert not thread.is_alive()
        assert time.monotonic() - started_s < 5.0
        assert source.health().state is CameraState.CLOSED
        assert source.read() is None


def test_the_size_before_a_restart_is_remembered() -> None:
    with FaultyCamera() as camera, camera.open() as source:
        next(iter(source))
        camera.fault = CameraFault.DIE
        until(lambda: source.health().state is CameraState.LOST)
        camera.fault = CameraFault.RESIZE
        until(lambda: source.health().state is CameraState.LIVE)
        details = [event.detail for event in source.take_events()]
        assert "from 320x240 to 160x120" in details


def test_a_group_gives_the_frames_of_every_camera_and_waits_for_none() -> None:
    with FaultyCamera(fps=20.0) as left, FaultyCamera(fps=60.0) as right:
        sources = [left.open(name="left"), right.open(name="right")]
        with CameraGroup(sources) as group:
            names = [frame.source for frame in itertools.islice(group, 40)]
            assert names.count("left") >= 5
            assert names.count("right") >= 5
            left.fault = CameraFault.BLOCK
            until(lambda: group.health()[0].state is CameraState.LOST)
            assert {frame.source for frame in itertools.islice(group, 5)} == {"right"}
            assert CameraEventKind.LOST in [event.kind for event in group.take_events()]
            timer = threading.Timer(0.2, group.close)
            timer.start()
            list(group)
            timer.join()
        assert all(health.state is CameraState.CLOSED for health in group.health())


def test_a_group_of_nothing_or_of_twins_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        CameraGroup([])


_PARENT = """
import sys, time
from edgeface.camera import open_source
from edgeface.testing import CameraFault, FaultyCamera
camera = FaultyCamera()
source = camera.open()
next(iter(source))
if sys.argv[1] == "blocked":
    camera.fault = CameraFault.BLOCK
    time.sleep(0.2)
print(source._process.pid, flush=True)
if sys.argv[1] == "exits":
    sys.exit(3)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="kill -9 and /proc are looked at")
@pytest.mark.parametrize("how", ["killed", "blocked", "stopped reader", "exits"])
def test_nothing_is_left_when_the_parent_ends(how: str, repository: Path) -> None:
    """Without a main guard, and without closing: a reader ends with its parent all the same."""
    shared = set(os.listdir("/dev/shm")) if Path("/dev/shm").is_dir() else set()  # noqa: PTH208
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, how.split()[0]],
        stdout=subprocess.PIPE, cwd=repository, text=True,
    )  # fmt: skip
    assert parent.stdout is not None
    reader = psutil.Process(int(parent.stdout.readline()))
    assert "hunter2" not in " ".join(reader.cmdline())
    if how == "stopped reader":
        reader.send_signal(signal.SIGSTOP)
    if how != "exits":
        parent.kill()
    assert parent.wait(_LIMIT_S) == (3 if how == "exits" else -signal.SIGKILL)
    parent.stdout.close()
    until(lambda: not reader.is_running() or reader.status() == psutil.STATUS_ZOMBIE)
    if Path("/dev/shm").is_dir():
        assert set(os.listdir("/dev/shm")) <= shared  # noqa: PTH208


@pytest.mark.skipif(sys.platform != "linux", reason="needs Ctrl-C of a process group")
def test_ctrl_c_is_for_the_parent_alone() -> None:
    with FaultyCamera() as camera, camera.open() as source:
        [reader] = readers()
        next(iter(source))
        assert os.getpgid(reader.pid) != os.getpgid(0)
        reader.send_signal(signal.SIGINT)
        time.sleep(0.2)
        assert source.read(_LIMIT_S) is not None
        assert source.health().reconnects == 0


# ---------------------------------------------------------------------------- real cameras


def test_an_ip_camera_is_read_without_naming_its_password(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with mjpeg_camera(64 * 4, 48 * 4) as camera:
        host = camera.address.removeprefix("http://")
        address = f"http://admin:hunter2@{host}?token=hunter2"
        with open_source(address) as source:
            assert isinstance(source, LiveSource)
            assert source.name == camera.address
            [reader] = readers()
            seen = [*reader.cmdline(), *reader.environ().values()]
            assert "hunter2" not in " ".join(seen)
            frames = list(itertools.islice(source, 3))
            camera.kill()
            until(lambda: source.health().state is CameraState.LOST)
            texts = [event.detail for event in source.take_events()]
    assert all(frame.size == Size(256, 192) for frame in frames)
    numbers = [pattern_number(frame.pixels) for frame in frames]
    assert numbers == sorted(set(numbers))
    with pytest.raises(CameraError, match="cannot be opened: no answer") as caught:
        open_source(address)
    assert "hunter2" not in f"{caught.value!r} {texts} {caplog.text} {source!r}"
    assert capfd.readouterr() == ("", "")


def test_an_rtsp_camera_with_a_password_is_read(caplog: pytest.LogCaptureFixture) -> None:
    with rtsp_camera(320, 240, account="admin:hunter2") as camera:
        with open_source(camera.address) as source:
            assert isinstance(source, LiveSource)
            assert source.fps == 25.0
            frames = list(itertools.islice(source, 30))
            health = source.health()
        wrong = camera.address.replace("hunter2", "hunter3")
        with pytest.raises(CameraError, match="access refused") as caught:
            open_source(wrong)
    assert "hunter" not in f"{caught.value!r} {source.name} {caplog.text}"
    assert frames[0].size == Size(320, 240)
    assert health.is_usable
    # The server's blue ground and orange ball: colours in the right order.
    middle = np.median(frames[-1].pixels.reshape(-1, 3), axis=0)
    assert middle[2] > middle[1] > middle[0]
    stamps = np.array([frame.timestamp_s for frame in frames])
    assert np.median(np.diff(stamps) / np.diff([frame.index for frame in frames])) == pytest.approx(
        0.04, abs=0.01
    )


def test_a_web_server_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    """A playlist names a file of this machine."""
    (tmp_path / "live").write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n")
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        time.sleep(1.0)
        with pytest.raises(CameraError, match="cannot be opened"):
            open_source(f"http://127.0.0.1:{port}/live")
    finally:
        server.kill()
        server.wait()


GOOD_PIPELINE = (
    "videotestsrc is-live=true pattern=ball foreground-color=0xffe0a040 "
    "background-color=0xff2060a0 ! video/x-raw,width=322,height=240,framerate=25/1 ! appsink"
)


@pytest.fixture
def _gstreamer() -> None:
    import ctypes

    try:
        ctypes.CDLL("libgstapp-1.0.so.0")
    except OSError:
        pytest.skip("GStreamer is not installed")


@pytest.mark.usefixtures("_gstreamer")
def test_a_gstreamer_pipeline_is_read_without_opencv_having_gstreamer() -> None:
    with open_source(GOOD_PIPELINE) as source:
        assert isinstance(source, LiveSource)
        assert source.name == "gstreamer videotestsrc"
        frames = list(itertools.islice(source, 20))
        assert source.fps == 25.0
        assert source.health().is_usable
    # 322 * 3 is no multiple of four: rows have a filling that is taken away.
    assert frames[0].size == Size(322, 240)
    assert tuple(np.median(frames[-1].pixels.reshape(-1, 3), axis=0)) == (0x20, 0x60, 0xA0)
    assert [frame.index for frame in frames] == sorted({frame.index for frame in frames})


@pytest.mark.usefixtures("_gstreamer")
@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ("nosuchelement ! videoconvert", "cannot be opened: no element"),
        ("filesrc location=/nothing/here ! decodebin", "Resource not found|cannot be opened"),
        ("videotestsrc num-buffers=3 ! videoconvert", "it ended"),
    ],
)
def test_a_pipeline_that_gives_no_frames_is_an_error(pipeline: str, message: str) -> None:
    options = SourceOptions(max_retries=0)
    with (
        pytest.raises(CameraError, match=message),
        open_source(pipeline, options=options) as source,
    ):
        list(source)


def test_a_csi_camera_that_is_not_there_says_what_is_missing() -> None:
    with pytest.raises(CameraError, match=r"csi 0|GStreamer"):
        open_source("csi:0", options=SourceOptions(open_timeout_s=5.0))
