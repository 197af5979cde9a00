"""The door with the real recogniser, on a clip of one person and on a photo of another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from edgeface import Recognizer, RecognizerOptions
from edgeface.access import LeaseVerifier, recognizer_facts
from edgeface.camera import open_source, read_image
from edgeface.default_model import default_bundle_path
from edgeface.errors import AssetError
from edgeface.pipeline import StreamOptions
from edgeface.testing import FakeSource
from edgeface.types import Frame
from examples.door_unlock.app import Door
from examples.door_unlock.locks import LeasedLock
from tests.door.doors import DOOR, PIN, BoltOnPaper, TestDoor

pytest.importorskip("cryptography")
pytest.importorskip("mediapipe")
pytestmark = pytest.mark.integration

CLIP = "data/video/sathya-pramodh__slownod.mp4"
STRANGER = "data/photo/ageitgey__obama.jpg"


@pytest.fixture(scope="module")
def clip(test_data: Path) -> list[Frame]:
    if not (test_data / CLIP).is_file():
        pytest.skip(f"no {CLIP} in the test data")
    with open_source(test_data / CLIP) as source:
        return list(source)


@pytest.fixture(scope="module")
def recognizer(clip: list[Frame]) -> Iterator[Recognizer]:
    options = RecognizerOptions(threads=1, stream=StreamOptions.door())
    try:
        opened = Recognizer.open(default_bundle_path(), options=options)
    except AssetError as exc:
        pytest.skip(str(exc))
    with opened:
        opened.enrol("alice", clip[::20][:6])
        yield opened


class RealDoor(TestDoor):
    """A test door whose frames go through the recogniser."""

    __test__ = False

    def watch(self, recognizer: Recognizer, pictures: Sequence[Frame], *, code: str) -> list[float]:
        """Show ``pictures``, ask with button and code all the while; return what was opened."""
        bolt = BoltOnPaper()
        verifier = LeaseVerifier(DOOR, self.keys.lease, demonstration=True, boot="lock")
        lock = LeasedLock(verifier, bolt)
        door = Door(self.controller, lock, say=lambda _text: None)
        # From here on the facts are the recogniser's own.
        self.controller._facts = recognizer_facts(recognizer)
        stream = recognizer.stream(FakeSource([]))
        for number, picture in enumerate(pictures):
            self.clock.advance(0.1)
            frame = Frame(picture.pixels, self.clock(), number)
            self.controller.observe(frame, stream.process(frame).observations)
            door.press()
            if number == len(pictures) - 2:
                door.present(code)
            door.turn()
        lock.close()
        return bolt.released


def test_the_enrolled_person_opens_the_door(
    tmp_path: Path, recognizer: Recognizer, clip: list[Frame]
) -> None:
    door = RealDoor(tmp_path / "door")
    assert door.watch(recognizer, clip[:12], code=PIN) == [door.policy.lease_s]
    door.controller.close()


def test_the_enrolled_person_with_a_wrong_code_does_not(
    tmp_path: Path, recognizer: Recognizer, clip: list[Frame]
) -> None:
    door = RealDoor(tmp_path / "door")
    assert door.watch(recognizer, clip[:12], code="000111") == []
    assert door.controller.status().failures >= 1
    door.controller.close()


def test_somebody_else_with_the_right_code_does_not(
    tmp_path: Path, recognizer: Recognizer, test_data: Path
) -> None:
    if not (test_data / STRANGER).is_file():
        pytest.skip(f"no {STRANGER} in the test data")
    photo = read_image(test_data / STRANGER)
    door = RealDoor(tmp_path / "door")
    assert door.watch(recognizer, [photo] * 12, code=PIN) == []
    assert door.controller.explain().subject is None
    door.controller.close()


def test_two_people_before_the_camera_do_not(
    tmp_path: Path, recognizer: Recognizer, clip: list[Frame]
) -> None:
    """Both halves of the picture show the enrolled person: still one too many."""
    doubled = [Frame(np.hstack([f.pixels, f.pixels])) for f in clip[:12]]
    door = RealDoor(tmp_path / "door")
    assert door.watch(recognizer, doubled, code=PIN) == []
    unmet = {condition.what for condition in door.controller.explain().unmet}
    assert "one face" in unmet
    door.controller.close()
