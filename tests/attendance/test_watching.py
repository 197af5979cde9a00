"""The real recogniser in the office: who is counted, and who is not."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeface.camera.base import load_opencv
from edgeface.errors import EnrolmentError
from edgeface.gallery import Consent
from examples.attendance.broadcast import Queue
from examples.attendance.cameras import open_cameras
from examples.attendance.errors import AttendanceError
from examples.attendance.interface import ChangeKind, LiveFrame, Settings
from examples.attendance.office import LocalOffice
from examples.attendance.opening import OfficeOptions, camera_options, open_office, set_up
from tests.attendance.clip_camera import ClipCamera, serving
from tests.attendance.real_clip import enrol_from_clip, real_clip

pytestmark = pytest.mark.integration

CONSENT = Consent("page", "2026-01-05T08:00:00+00:00", recorded_by="admin")
WAIT_S = 120.0


@pytest.fixture(scope="module")
def clip(test_data: Path) -> Path:
    return real_clip(test_data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, clip: Path) -> Iterator[Path]:
    """Give an office in which the person of the clip is enrolled; tests leave them so."""
    made = tmp_path_factory.mktemp("office")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEFACE_INSECURE_KEY_FILE", "1")
        patch.setenv("XDG_CONFIG_HOME", str(made / "config"))
        patch.setenv("XDG_STATE_HOME", str(made / "state"))
        enrol_from_clip(made / "data", clip)
        yield made / "data"


@pytest.fixture(autouse=True)
def _same_keys(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the keys where the office of this module has them."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder.parent / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(folder.parent / "state"))


@pytest.fixture(scope="module")
def pad_bundle(tmp_path_factory: pytest.TempPathFactory, test_data: Path) -> Path:
    pytest.importorskip("onnx")
    from edgeface.cli import main

    checkpoint = test_data / "models" / "antispoof" / "2.7_80x80_MiniFASNetV2.pth"
    if not checkpoint.is_file():
        pytest.skip(f"no anti-spoofing checkpoint at {checkpoint}")
    target = tmp_path_factory.mktemp("pad") / "pad.edgeface"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["edgeface", "export", str(checkpoint), "-o", str(target)])
        with suppress(SystemExit):
            main()
    assert target.is_dir()
    return target


def watch(office: LocalOffice, source: Path) -> list[str]:
    """Watch a recording to its end; return the kinds of events."""
    with office.subscribe() as queue:
        office.start(open_cameras([f"door={source}"], camera_options()))
        assert office.watcher is not None
        assert office.watcher.wait(WAIT_S)
        assert office.watcher.failure is None
        kinds = []
        while (event := queue.get(0.2)) is not None:
            if event.kind is not ChangeKind.CAMERA:
                kinds.append(event.kind.value)
    return kinds


def photo_held_still(clip: Path, target: Path) -> Path:
    """Write a recording of a photo of the person: one frame of the clip, again and again."""
    cv2 = load_opencv()

    _, pixels = cv2.VideoCapture(str(clip)).read()
    size = (pixels.shape[1], pixels.shape[0])
    writer = cv2.VideoWriter(str(target), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, size)
    for _ in range(75):
        writer.write(pixels)
    writer.release()
    return target


def test_nobody_is_counted_from_a_photo_where_pad_is_on(
    folder: Path, clip: Path, pad_bundle: Path, tmp_path: Path
) -> None:
    photo = photo_held_still(clip, tmp_path / "photo.mp4")
    with open_office(OfficeOptions(folder=folder, threads=1, pad=(pad_bundle,))) as office:
        assert watch(office, photo) == []
    # The same recording names the person where PAD is off: it is PAD that refuses.
    with open_office(OfficeOptions(folder=folder, threads=1)) as office:
        assert watch(office, photo) == ["arrived", "departed"]


def test_who_is_not_enrolled_is_a_count_and_no_face(tmp_path: Path, clip: Path) -> None:
    set_up(tmp_path / "data", Settings())
    with open_office(OfficeOptions(folder=tmp_path / "data", threads=1)) as office:
        assert watch(office, clip) == ["unknown"]
        assert office.day(office.today()).unknown_visitors == 1


def test_somebody_is_forgotten_while_the_cameras_are_watched(folder: Path) -> None:
    with open_office(OfficeOptions(folder=folder, threads=1)) as office:
        office.start(open_cameras(["door=test:320x240@5"], camera_options()))
        (known,) = office.people()
        templates = office.faces.gallery.templates(known.id)
        person = office.add_person("Quxwö Thington", author="admin")
        office.faces.gallery.add(person.id, templates)
        receipt = office.forget_person(person.id, author="admin")
        assert receipt.gallery_receipt is not None
        assert receipt.gallery_receipt["proof"]
        assert "gallery.db" in receipt.searched
        assert office.watcher is not None
        assert not office.watcher.has_ended


def test_an_inactive_person_is_not_counted(folder: Path, clip: Path) -> None:
    with open_office(OfficeOptions(folder=folder, threads=1)) as office:
        (person,) = office.people()
        office.change_person(
            person.id, name=person.name, first_name="", is_active=False, author="admin"
        )
        kinds = watch(office, clip)
        office.change_person(
            person.id, name=person.name, first_name="", is_active=True, author="admin"
        )
    assert "arrived" not in kinds


def test_the_live_picture_is_made_only_while_somebody_looks(folder: Path, clip: Path) -> None:
    with open_office(OfficeOptions(folder=folder, threads=1)) as office:
        office.start(open_cameras([f"door={clip}"], camera_options()))
        assert office.watcher is not None
        first = office.live_frame("door", timeout_s=WAIT_S)
        assert isinstance(first, LiveFrame)
        assert first.jpeg.startswith(b"\xff\xd8")
        second = office.live_frame("door", after=first.number, timeout_s=WAIT_S)
        assert second is None or second.number > first.number
        with pytest.raises(AttendanceError):
            office.live_frame("window")
        health = office.health()
        assert health.figures["frames_searched_total"] >= 1
        assert [camera.name for camera in health.cameras] == ["door"]
    assert not list(folder.rglob("*.jpg"))


def test_enrolment_refuses_what_is_no_picture_and_who_has_another_number(
    folder: Path, clip: Path
) -> None:
    cv2 = load_opencv()

    with open_office(OfficeOptions(folder=folder, threads=1)) as office:
        (known,) = office.people()
        other = office.add_person("Somebody Else", author="admin")
        session = office.start_enrolment()
        for content in (b"", b"no picture", b"\xff\xd8\xff\xe0 cut off", b"x" * (9 << 20)):
            with pytest.raises(AttendanceError):
                session.look(content)
        nobody = cv2.imencode(".png", np.full((480, 640, 3), 90, np.uint8))[1].tobytes()
        assert session.look(nobody).taken == 0
        with pytest.raises(AttendanceError, match="no picture shows"):
            session.finish(other.id, CONSENT)
        _, pixels = cv2.VideoCapture(str(clip)).read()
        session.look(cv2.imencode(".jpg", pixels)[1].tobytes())
        with pytest.raises(EnrolmentError, match="already enrolled as number 1") as caught:
            session.finish(other.id, CONSENT)
        assert known.id not in str(caught.value)
        session.close()
        with pytest.raises(AttendanceError, match="over"):
            office.enrolment(session.id)
        running = [office.start_enrolment() for _ in range(4)]
        with pytest.raises(AttendanceError, match="4 enrolments"):
            office.start_enrolment()
        assert len({one.id for one in running}) == 4
        office.forget_person(other.id, author="admin")


@pytest.mark.slow
def test_a_camera_that_is_unplugged_for_longer_than_the_absence_ends_no_visit(
    folder: Path, clip: Path
) -> None:
    camera = ClipCamera(clip)
    with open_office(OfficeOptions(folder=folder, threads=1)) as office, serving(camera) as address:
        settings = office.settings()
        office.change_settings(replace(settings, absence_s=4.0), author="admin")
        with office.subscribe() as queue:
            office.start(open_cameras([f"door={address}"], camera_options()))
            assert next_kind(queue) == "arrived"
            camera.is_plugged = False
            wait_for(lambda: not office.cameras()[0].is_usable)
            assert office.health().problems == ("no camera gives a usable picture",)
            time.sleep(8.0)
            camera.is_plugged = True
            wait_for(lambda: office.cameras()[0].is_usable)
            assert next_kind(queue, timeout_s=8.0) is None
            assert len(office.present()) == 1
            assert office.cameras()[0].reconnects == 1
            camera.shows_person = False
            assert next_kind(queue) == "departed"
        office.change_settings(settings, author="admin")


def next_kind(queue: Queue, timeout_s: float = WAIT_S) -> str | None:
    """Return the kind of the next event of a person, None when none came in time."""
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        event = queue.get(0.5)
        if event is not None and event.kind in (ChangeKind.ARRIVED, ChangeKind.DEPARTED):
            return str(event.kind.value)
    return None


def wait_for(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.1)
