"""Sources of frames from files, and what is no source at all."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeface.camera import (
    AnnotatedVideoWriter,
    FrameSource,
    SourceOptions,
    open_source,
)
from edgeface.camera.files import VideoFileSource
from edgeface.camera.video_header import is_video
from edgeface.errors import CameraError, InvalidInputError
from edgeface.types import ImageArray, Size

cv2 = pytest.importorskip("cv2")

RED, BLUE = (255, 0, 0), (0, 0, 255)


def picture(colour: tuple[int, int, int], width_px: int = 32, height_px: int = 16) -> ImageArray:
    return np.full((height_px, width_px, 3), colour, np.uint8)


def save(path: Path, rgb: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), rgb[..., ::-1] if rgb.ndim == 3 else rgb)
    return path


def save_video(path: Path, count: int, *, width_px: int = 64, height_px: int = 48) -> Path:
    with AnnotatedVideoWriter(path, 10.0) as writer:
        for index in range(count):
            writer.write(np.full((height_px, width_px, 3), (20 * index, 0, 200), np.uint8))
    return path


def test_one_picture_is_a_source_of_one_frame(tmp_path: Path) -> None:
    with open_source(save(tmp_path / "a.png", picture(RED))) as source:
        assert (source.name, source.frame_count, source.is_live) == ("a.png", 1, False)
        assert source.fps is None
        [frame] = source
        assert tuple(frame.pixels[0, 0]) == RED
        assert list(source) == []


def test_a_folder_gives_its_pictures_by_name(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "c.txt"):
        save(tmp_path / f"{name}.png", picture(RED)).rename(tmp_path / name)
    (tmp_path / "notes.jpg").write_text("not a picture")
    (tmp_path / "deeper").mkdir()
    with open_source(tmp_path) as source:
        assert (source.frame_count, source.skipped, source.is_live) == (3, 1, False)
        got = [(frame.source, frame.index, frame.timestamp_s) for frame in source]
    assert got == [("a.jpg", 0, 0.0), ("b.png", 1, 1.0), ("c.txt", 2, 2.0)]


def test_a_damaged_picture_in_a_folder_is_skipped_and_counted(tmp_path: Path) -> None:
    whole = save(tmp_path / "a.png", picture(RED)).read_bytes()
    (tmp_path / "b.png").write_bytes(whole[:-5])
    save(tmp_path / "c.png", picture(BLUE))
    source = open_source(tmp_path)
    assert [frame.index for frame in source] == [0, 1]
    assert source.skipped == 1


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(CameraError, match="1 files, none of them PNG or JPEG"):
        open_source(tmp_path)


def test_a_video_gives_its_frames_in_time(tmp_path: Path) -> None:
    path = save_video(tmp_path / "clip.mp4", 6)
    with open_source(str(path)) as source:
        assert (source.name, source.frame_count, source.is_live) == ("clip.mp4", 6, False)
        assert source.fps == pytest.approx(10.0)
        frames = list(source)
    assert [frame.index for frame in frames] == list(range(6))
    assert [frame.timestamp_s for frame in frames] == pytest.approx(np.arange(6) / 10)
    np.testing.assert_allclose(frames[5].pixels[24, 32], (100, 0, 200), atol=12)


def test_a_closed_video_ends(tmp_path: Path) -> None:
    source = open_source(save_video(tmp_path / "clip.mp4", 6))
    seen = 0
    for _ in source:
        seen += 1
        source.close()
    source.close()
    assert seen == 1
    assert list(source) == []


def test_a_video_in_real_time_drops_what_is_not_fetched_in_time(tmp_path: Path) -> None:
    path = save_video(tmp_path / "clip.mp4", 10)
    now_s = 100.0

    with VideoFileSource(path, real_time=True, clock=lambda: now_s) as source:
        assert source.is_live
        seen = []
        for frame in source:
            seen.append(frame.index)
            # Each frame takes as long as 2.7 of them last.
            now_s += 0.27
    assert seen == [0, 2, 5, 8]


def test_a_video_in_real_time_comes_at_its_own_speed(tmp_path: Path) -> None:
    path = save_video(tmp_path / "clip.mp4", 4)
    started_s = time.monotonic()
    with open_source(path, options=SourceOptions(real_time=True)) as source:
        assert next(iter(source)).index == 0
        assert list(source)[-1].index == 3
    assert time.monotonic() - started_s >= 0.25


def test_a_video_in_real_time_ends_when_it_is_closed(tmp_path: Path) -> None:
    writer_fps = 0.1
    path = tmp_path / "slow.mp4"
    with AnnotatedVideoWriter(path, writer_fps) as writer:
        for value in range(3):
            writer.write(np.full((48, 64, 3), 50 * value, np.uint8))
    source = VideoFileSource(path, real_time=True)
    timer = threading.Timer(0.1, source.close)
    timer.start()
    assert len(list(source)) == 1
    timer.join()


def save_avi(path: Path, count: int) -> bytes:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (64, 48))
    for index in range(count):
        writer.write(np.random.default_rng(index).integers(0, 256, (48, 64, 3), np.uint8))
    writer.release()
    return path.read_bytes()


def test_a_video_that_was_cut_short_ends_with_what_can_be_read(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "clip.avi"
    content = save_avi(path, 20)
    path.write_bytes(content[: len(content) // 2])
    assert 5 <= len(list(open_source(path))) <= 12
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5])
def test_a_video_without_a_readable_frame_is_an_error(
    tmp_path: Path, share: float, capfd: pytest.CaptureFixture[str]
) -> None:
    path = save_video(tmp_path / "clip.mp4", 20)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CameraError, match=r"clip\.mp4"):
        list(open_source(path))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
        "ffconcat version 1.0\nfile /etc/passwd\n",
        "<?xml version='1.0'?><MPD/>",
    ],
    ids=["m3u8", "sdp", "concat", "dash"],
)
def test_a_file_that_leads_elsewhere_is_not_followed(tmp_path: Path, content: str) -> None:
    path = tmp_path / "clip.mp4"
    path.write_text(content)
    with pytest.raises(CameraError, match="neither a picture"):
        open_source(path)


@pytest.mark.parametrize(
    ("head", "wanted"),
    [
        (b"", False),
        (b"\x00\x00\x00\x20ftypisom", True),
        (b"\x00\x00\x00\x20ftypheic", False),
        (b"\x00\x00\x00\x20ftypavif", False),
        (b"\x1a\x45\xdf\xa3", True),
        (b"RIFF\x00\x00\x00\x00AVI LIST", True),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", False),
        (b"G" + bytes(187) + b"G" + bytes(187), True),
        (b"G" * 3, False),
        (b"GIF89a" + bytes(300), False),
    ],
)
def test_containers_are_told_by_their_first_bytes(head: bytes, wanted: bool) -> None:
    assert is_video(head) is wanted


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("nothing/here.mp4", CameraError, "no such file, folder or device"),
        ("", CameraError, "no picture in"),
        ("a\x00b", CameraError, "cannot be opened|no source at"),
        ("/dev/null", CameraError, "neither a file"),
        (-1, CameraError, r"0\.\.99"),
        ("700", CameraError, r"0\.\.99"),
        (True, InvalidInputError, "got bool"),
        (1.0, InvalidInputError, "got float"),
        (None, InvalidInputError, "got NoneType"),
        ("ftp://host/a.mp4", CameraError, "choose one of rtsp"),
        ("file:///etc/passwd", CameraError, "choose one of rtsp"),
        ("concat://a|b", CameraError, "choose one of rtsp"),
        ("rtsp://", CameraError, "malformed"),
        ("rtsp://u:secret@/x", CameraError, "malformed"),
        ("rtsp://host:99999/x", CameraError, "malformed"),
        ("http://host/a b", CameraError, "malformed"),
        ("rtsp://u:se#cret@host/x", CameraError, "malformed"),
        ("rtsp://u:12/secret@host/x", CameraError, "malformed"),
    ],
)
def test_a_source_that_cannot_be_is_refused(
    source: Any, error: type[Exception], message: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message) as caught:
        open_source(source)
    assert "secret" not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_a_webcam_that_is_not_there_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CameraError, match=r"webcam 97 cannot be opened.*devices found"):
        open_source("97")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("ageitgey__short_hamilton_clip.mp4", Size(640, 360)),
        ("HyperInspire__810_1684206192.mp4", Size(320, 568)),
    ],
)
def test_a_real_clip_is_read_to_its_end(test_data: Path, name: str, size: Size) -> None:
    path = test_data / "data" / "video" / name
    if not path.is_file():
        pytest.skip(f"no clip {name} in the test data")
    source: FrameSource
    with open_source(path) as source:
        stamps = [frame.timestamp_s for frame in source if frame.size == size]
        assert source.frame_count == len(stamps)
        assert source.skipped == 0
    assert stamps == sorted(set(stamps))
    assert source.fps is not None
    assert stamps[-1] == pytest.approx(len(stamps) / source.fps, rel=0.02)
