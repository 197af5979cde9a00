"""Addresses, pipelines and devices: what is accepted, and what is never shown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from edgeface.camera import SourceOptions, open_source
from edgeface.camera.captures import CaptureSpec, _no_webcam
from edgeface.camera.devices import device_now, path_of_device, refuse_virtual
from edgeface.camera.opening import live_spec, stream_name
from edgeface.camera.pipelines import checked_pipeline, csi_pipeline, pipeline_name
from edgeface.camera.reader import redact
from edgeface.errors import CameraError, InvalidInputError, MissingDependencyError
from edgeface.types import Size


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


@pytest.mark.parametrize(
    ("source", "name", "opener"),
    [
        (0, "webcam 0", "captures:open_webcam"),
        ("3", "webcam 3", "captures:open_webcam"),
        ("rtsp://me:pw@host/live", "rtsp://host/live", "captures:open_stream"),
        ("csi:1", "csi 1", "gstreamer:open_csi"),
        ("v4l2src device=/dev/video0 ! videoconvert", "gstreamer v4l2src ! videoconvert",
         "gstreamer:open_pipeline"),
        ("rtspsrc location=rtsp://me:pw@h/x user-pw=pw ! decodebin ! appsink",
         "gstreamer rtspsrc ! decodebin", "gstreamer:open_pipeline"),
        ("test:", "test source", "pattern:open_pattern"),
        ("test:320x240@12.5", "test source", "pattern:open_pattern"),
    ],
)  # fmt: skip
def test_a_live_source_is_told_by_how_it_is_written(
    source: int | str, name: str, opener: str
) -> None:
    found = live_spec(source, SourceOptions())
    assert found is not None
    assert (found[0], found[1].opener) == (name, f"edgeface.camera.{opener}")
    assert "pw" not in repr(found)


@pytest.mark.parametrize("source", ["clip.mp4", "here ! there", "/dev/null", "a\x00b"])
def test_a_path_is_no_live_source(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here ! there").mkdir()
    assert live_spec(source, SourceOptions()) is None


@pytest.mark.parametrize("source", ["test:64x64", "test:x", "test:640x480@", "test:1e9x1"])
def test_a_malformed_test_source_is_refused(source: str) -> None:
    with pytest.raises(CameraError, match="test"):
        live_spec(source, SourceOptions())


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("videotestsrc", "videotestsrc"),
        ("videotestsrc ! appsink", "videotestsrc"),
        ("videotestsrc!appsink name=x drop=true", "videotestsrc"),
        ("nvarguscamerasrc sensor-id=0 ! video/x-raw(memory:NVMM), width=(int)1280, "
         "framerate=30/1 ! nvvidconv ! video/x-raw,format=BGRx ! appsink",
         "nvarguscamerasrc sensor-id=0 ! video/x-raw(memory:NVMM), width=(int)1280, "
         "framerate=30/1 ! nvvidconv ! video/x-raw,format=BGRx"),
        ("udpsrc port=5000 ! application/x-rtp,media=video ! rtph264depay ! avdec_h264",
         "udpsrc port=5000 ! application/x-rtp,media=video ! rtph264depay ! avdec_h264"),
        ('rtspsrc location="rtsp://h/a!b" latency=0 ! decodebin',
         'rtspsrc location="rtsp://h/a!b" latency=0 ! decodebin'),
    ],
)  # fmt: skip
def test_a_chain_of_elements_is_a_pipeline(text: str, wanted: str) -> None:
    assert checked_pipeline(text) == wanted
    assert checked_pipeline(wanted) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "", "!", "videotestsrc !", "videotestsrc ! ! queue", "appsink",
        "videotestsrc ! filesink location=/etc/passwd",
        "videotestsrc ! tee name=t ! queue", "videotestsrc name=a a. ! queue",
        "videotestsrc appsink filesrc location=secret ! filesink location=b",
        "videotestsrc ! video/x-raw filesink location=b",
        "videotestsrc ! video/x-raw,width=1 filesink ! queue",
        "videotestsrc ! multifilesink", "videotestsrc ! splitmuxsink ! queue",
        "videotestsrc ! ( queue ! queue )", "bin. ! queue", "videotestsrc\n! queue",
        "videotestsrc pattern='ball ! queue", "video/x-raw,width=3 ! queue",
        "videotestsrc " + "a=b " * 900, "\x00 ! queue", "videotestsrc ! queue secret",
    ],
)  # fmt: skip
def test_anything_else_is_no_pipeline_and_is_not_quoted(text: str) -> None:
    with pytest.raises(CameraError) as caught:
        checked_pipeline(text)
    assert "secret" not in str(caught.value)
    assert "passwd" not in str(caught.value)


def test_the_name_of_a_pipeline_holds_no_property() -> None:
    pipeline = checked_pipeline("rtspsrc location=rtsp://u:pw@h/x ! image/jpeg,width=3 ! jpegdec")
    assert pipeline_name(pipeline) == "gstreamer rtspsrc ! jpegdec"


@pytest.mark.parametrize("size", [None, Size(1280, 720)])
def test_the_pipelines_of_csi_cameras_pass_the_check(size: Size | None) -> None:
    for element in ("nvarguscamerasrc", "libcamerasrc"):
        pipeline = csi_pipeline(element, 0, size)
        assert checked_pipeline(pipeline) == pipeline
        assert ("width=1280,height=720" in pipeline) is (size is not None)
    assert "sensor-id=2" in csi_pipeline("nvarguscamerasrc", 2, size)
    with pytest.raises(CameraError, match="first CSI camera"):
        csi_pipeline("libcamerasrc", 1, size)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"address": "rtsp://me:hunter2@h/x?token=hunter3"}, "cannot open rtsp://me:hunter2@h/x"),
        ({"address": "http://me:hunter2@h/x"}, "401 for http://me:hunter2@h/x: wrong hunter2"),
        ({"address": "rtsp://me:hunter%402@h/x"}, "bad password hunter@2 of me"),
        ({"address": "http://h/x?key=hunter2"}, "GET /x?key=hunter2 failed"),
        ({"pipeline": "rtspsrc location=rtsp://me:hunter2@h/x"}, "hunter2 refused"),
        ({"pipeline": 'rtspsrc location="rtsp://h/x" user-id=me user-pw="hunter2"'}, "hunter2 bad"),
    ],
)
def test_what_a_library_says_is_cleared_of_credentials(
    arguments: dict[str, Any], text: str
) -> None:
    assert "hunter" not in redact(text, arguments)
    assert redact("no answer", arguments) == "no answer"


def test_the_arguments_of_a_capture_are_not_shown() -> None:
    assert "pw" not in repr(CaptureSpec("a:b", {"address": "rtsp://me:pw@host"}))


@pytest.mark.parametrize(
    "options",
    [
        {"open_timeout_s": 0.0},
        {"read_timeout_s": float("nan")},
        {"read_timeout_s": float("inf")},
        {"max_retries": -1},
        {"retry_delay_s": -1.0},
        {"max_retry_delay_s": float("nan")},
        {"max_pixels": 0},
        {"max_pixels": 1 << 40},
        {"transport": "http"},
    ],
    ids=str,
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        SourceOptions(**options)


@pytest.fixture
def plugs(tmp_path: Path) -> Path:
    """Two cameras of /dev, and a folder of links that stand for their plugs."""
    (tmp_path / "by-path").mkdir()
    for number in (0, 12):
        (tmp_path / f"video{number}").touch()
    (tmp_path / "by-path" / "usb-1").symlink_to(tmp_path / "video12")
    (tmp_path / "by-path" / "usb-2").symlink_to(tmp_path / "video0")
    return tmp_path / "by-path"


def test_a_camera_is_found_again_by_its_plug_when_its_number_changed(plugs: Path) -> None:
    plug = path_of_device(0, plugs)
    assert plug == str(plugs / "usb-2")
    assert device_now(0, plug) == 0
    (plugs / "usb-2").unlink()
    with pytest.raises(CameraError, match="not plugged in"):
        device_now(0, plug)
    (plugs / "usb-2").symlink_to(plugs.parent / "video12")
    assert device_now(0, plug) == 12
    assert path_of_device(7, plugs) is None
    assert path_of_device(0, plugs / "nothing") is None
    assert device_now(3, None) == 3


def test_a_camera_that_a_program_makes_is_refused(tmp_path: Path) -> None:
    real = tmp_path / "sys" / "devices" / "pci0000:00" / "usb1" / "video4linux" / "video0"
    made = tmp_path / "sys" / "devices" / "virtual" / "video4linux" / "video1"
    devices = tmp_path / "class"
    devices.mkdir()
    for folder, name in ((real, "USB Camera"), (made, "OBS Virtual Camera\n")):
        folder.mkdir(parents=True)
        (folder / "name").write_text(name)
        (devices / folder.name).symlink_to(folder)
    refuse_virtual(0, devices)
    refuse_virtual(5, devices)
    with pytest.raises(CameraError, match=r"'OBS Virtual Camera'.*allow_virtual"):
        refuse_virtual(1, devices)


@pytest.mark.skipif(sys.platform != "linux", reason="webcams are files on Linux only")
def test_why_a_webcam_cannot_be_opened_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "video3").touch()
    assert "does not exist (devices found: video3)" in _no_webcam(0, tmp_path)
    assert "in use by another program" in _no_webcam(3, tmp_path)
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "group video" in _no_webcam(3, tmp_path)


def test_a_camera_without_opencv_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    for source in (0, "rtsp://host/live"):
        with pytest.raises(MissingDependencyError, match="opencv"):
            open_source(source)
