"""Each stage that `edgeface doctor` runs, run for real in its own process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeface.default_model import default_bundle_path
from edgeface.doctor.child import run_probe
from edgeface.doctor.findings import CheckState, worst
from edgeface.doctor.probes import synthetic_picture

pytestmark = pytest.mark.integration
cv2 = pytest.importorskip("cv2")


def test_the_synthetic_picture_is_a_picture_with_something_in_its_middle() -> None:
    picture = synthetic_picture()
    assert (picture.shape, picture.dtype) == ((480, 640, 3), np.dtype(np.uint8))
    assert np.ptp(picture[:100]) == 0
    assert np.std(picture[160:320, 240:400]) > 20


def test_the_detector_finds_the_face_that_ships() -> None:
    pytest.importorskip("mediapipe")
    (found,) = run_probe("detector", {}, timeout_s=120.0)
    if found.state is CheckState.SKIPPED:
        pytest.skip(found.got)
    assert found.state is CheckState.OK, found
    assert "found the face" in found.got


@pytest.mark.slow
def test_an_absent_asset_is_a_sentence_and_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mediapipe")
    monkeypatch.setenv("EDGEFACE_CACHE", str(tmp_path))
    for name in ("EDGEFACE_ASSETS", "EDGEFACE_TEST_DATA"):
        monkeypatch.delenv(name, raising=False)
    (found,) = run_probe("detector", {}, timeout_s=120.0)
    assert found.state is CheckState.SKIPPED
    assert "edgeface assets fetch" in found.got


def test_the_engine_that_really_runs_is_named() -> None:
    ort = pytest.importorskip("onnxruntime")
    findings = run_probe("engines", {"bundle": str(default_bundle_path())}, timeout_s=300.0)
    chosen = findings[0]
    assert (chosen.what, chosen.state) == ("recognition", CheckState.OK)
    engine = f"onnxruntime {ort.__version__} CPU"
    assert any(engine in one.got for one in findings), findings
    assert all("ms a face" in one.got for one in findings if one.state is CheckState.OK)


@pytest.mark.slow
def test_the_packages_say_what_they_are() -> None:
    findings = run_probe("imports", {}, timeout_s=120.0)
    assert [one.name for one in findings] == ["opencv", "mediapipe", "onnxruntime"]
    assert f"OpenCV {cv2.__version__}" in findings[0].got


@pytest.mark.parametrize(
    ("source", "state", "said"),
    [
        ("test:640x480@25", CheckState.OK, "live, 640x480"),
        pytest.param("test:320x240@25", CheckState.WARNING, "320x240", marks=pytest.mark.slow),
        ("/nowhere/clip.mp4", CheckState.FAULT, "no source at"),
        ("ftp://camera/x", CheckState.FAULT, "unknown kind of address"),
    ],
)
def test_a_source_is_watched_for_a_moment(source: str, state: CheckState, said: str) -> None:
    findings = run_probe("camera", {"source": source}, timeout_s=90.0)
    assert worst(findings) is state, findings
    assert any(said in one.got for one in findings), findings


def test_a_picture_is_a_source_too(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    cv2.imwrite(str(path), synthetic_picture()[..., ::-1])
    (found,) = run_probe("camera", {"source": str(path)}, timeout_s=90.0)
    assert found.state is CheckState.OK
    assert "1 frames read" in found.got
