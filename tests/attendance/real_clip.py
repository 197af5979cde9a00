"""A real person for tests: a clip of somebody who nods, and an office that knows them."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from edgeface.assets import DEFAULT_ASSETS, AssetState, asset_state
from edgeface.camera.base import load_opencv
from edgeface.gallery import Consent
from examples.attendance.interface import Settings
from examples.attendance.opening import OfficeOptions, open_office, set_up

NAME = "Zoë Quxwöthington"


def real_clip(test_data: Path) -> Path:
    """Return the clip, or skip where something that a real run needs is not at hand."""
    for package in ("cv2", "mediapipe", "onnxruntime", "cryptography"):
        pytest.importorskip(package)
    for name in DEFAULT_ASSETS[1:]:
        if asset_state(name).state is AssetState.MISSING:
            pytest.skip("the detector's model files are not at hand: edgeface assets fetch")
    return test_data / "data" / "video" / "sathya-pramodh__slownod.mp4"


def enrol_from_clip(folder: Path, clip: Path) -> str:
    """Enrol the person of the clip, by the steps that the page takes; return their id."""
    cv2 = load_opencv()

    set_up(folder, Settings(zone_name="Europe/Berlin"))
    with open_office(OfficeOptions(folder=folder, threads=1)) as office:
        person = office.add_person(NAME, author="admin")
        session = office.start_enrolment()
        assert office.enrolment(session.id) is session
        video = cv2.VideoCapture(str(clip))
        for _ in range(8):
            _, pixels = video.read()
            progress = session.look(cv2.imencode(".jpg", pixels)[1].tobytes())
            assert progress.advice
            assert 0 <= progress.taken <= progress.wanted == 3
        now = datetime.now(timezone.utc).isoformat()
        stored = session.finish(person.id, Consent("page", now, recorded_by="admin"))
        assert stored >= 1
        assert office.person(person.id).has_face
    return person.id
