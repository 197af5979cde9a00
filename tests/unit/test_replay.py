"""A run that was recorded without pictures can be judged again."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest

from edgeface.decision import DecisionOptions
from edgeface.errors import InvalidInputError, RunRecordError
from edgeface.pipeline import ReplayOptions, RunHead, RunRecorder, read_run, replay
from edgeface.pipeline.run_key import make_run_key, read_run_key
from edgeface.quality import QualityGateOptions
from edgeface.types import Frame, Outcome, QualityMeasure, RejectionReason
from tests.unit.test_streams import Place, Rig, scene, standing

pytest.importorskip("cv2")


def record(rig: Rig, path: Path, *, names: bool = False) -> Path:
    head = RunHead.of("m" * 64, rig.recognizer.operating_point, rig.recognizer.decision_options)
    results, _ = rig.run()
    with RunRecorder(path, head, names=names) as recorder:
        for result in results:
            recorder.write(result)
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    script = [[(1, 20.0), (7, 320.0)]] * 80
    return record(Rig(tmp_path, script), tmp_path / "run.jsonl")


def outcomes(path: Path, options: ReplayOptions | None = None) -> list[Outcome | None]:
    tracks = replay(*read_run(path), options or ReplayOptions())
    return [None if track.replayed is None else track.replayed.outcome for track in tracks]


def test_under_the_same_settings_every_track_ends_as_it_did(run: Path) -> None:
    tracks = replay(*read_run(run), ReplayOptions())
    assert sorted(track.replayed.outcome for track in tracks if track.replayed) == [
        Outcome.KNOWN,
        Outcome.UNKNOWN,
    ]
    assert not any(track.is_changed for track in tracks)
    assert all(track.compared == track.looks for track in tracks)


def test_no_name_is_in_the_file_unless_asked_for(run: Path, tmp_path: Path) -> None:
    text = run.read_text(encoding="utf-8")
    assert "ann" not in text
    assert "person-1" in text
    named = record(Rig(tmp_path / "b", standing(1, 20)), tmp_path / "named.jsonl", names=True)
    assert '"ann"' in named.read_text(encoding="utf-8")
    assert stat.S_IMODE(run.stat().st_mode) == 0o600


def test_looks_that_added_nothing_are_not_written(run: Path) -> None:
    # Three seconds at 25 frames: each face is looked at three times, and then once a second.
    _, looks = read_run(run)
    assert len(list(looks)) == 2 * 6


def test_a_threshold_that_is_no_similarity_is_refused(run: Path) -> None:
    with pytest.raises(InvalidInputError):
        outcomes(run, ReplayOptions(threshold=1.01))


def test_a_lower_threshold_names_a_stranger(run: Path) -> None:
    options = ReplayOptions(threshold=-1.0, decision=DecisionOptions(margin=0.0))
    assert set(outcomes(run, options)) == {Outcome.KNOWN}


def test_more_frames_name_later(run: Path) -> None:
    rule = DecisionOptions(min_frames=5, switch_frames=5)
    soon, late = (
        min(t.first_named_s for t in replay(*read_run(run), options) if t.first_named_s is not None)
        for options in (ReplayOptions(), ReplayOptions(decision=rule))
    )
    assert soon < late


def test_stricter_gates_reject_what_was_compared(run: Path) -> None:
    options = ReplayOptions(quality=QualityGateOptions(min_eye_distance_px=500.0))
    (first, *_) = replay(*read_run(run), options)
    assert first.compared == 0
    assert first.replayed is not None
    assert first.replayed.reasons == (RejectionReason.TOO_SMALL,)


def test_what_is_read_is_what_was_seen(run: Path) -> None:
    head, looks = read_run(run)
    assert head.threshold == 0.6
    first = next(looks)
    assert (first.time_s, first.frame, first.stream) == (0.0, 0, 0)
    assert first.quality[QualityMeasure.DETECTION_SCORE] == pytest.approx(0.9)
    assert first.result.candidates[0].subject == "person-1"


def test_a_file_that_is_there_is_not_written_over(run: Path) -> None:
    head, _ = read_run(run)
    before = run.read_bytes()
    with pytest.raises(RunRecordError, match="name a new file"):
        RunRecorder(run, head)
    assert run.read_bytes() == before


def test_a_run_that_was_cut_off_ends_where_it_was_cut(run: Path) -> None:
    whole = run.read_bytes()
    run.write_bytes(whole[:-20])
    _, looks = read_run(run)
    assert len(list(looks)) == 11


@pytest.mark.parametrize(
    "head",
    [
        "",
        "[]\n",
        "{}\n",
        "nonsense\n",
        '{"format": "edgeface-run", "version": 2}\n',
        '{"format": "edgeface-run", "version": 1}\n',
        "[" * 5000 + "\n",
        "\x00\n",
    ],
)
def test_what_is_no_run_is_refused(tmp_path: Path, head: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(head, encoding="utf-8")
    with pytest.raises(RunRecordError):
        read_run(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("t", "soon"),
        ("t", None),
        ("track", [1]),
        ("result", {}),
        ("result", 5),
        ("quality", {"charm": 1.0}),
        ("quality", [1]),
        ("quality_score", True),
    ],
)
def test_a_line_that_is_no_look_is_refused(run: Path, key: str, value: object) -> None:
    lines = run.read_text(encoding="utf-8").splitlines()
    look = json.loads(lines[3]) | {key: value}
    lines[3] = json.dumps(look)
    run.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(RunRecordError, match="line 4"):
        replay(*read_run(run), ReplayOptions())


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunRecordError):
        read_run(tmp_path / "none.jsonl")


def sealed_run(tmp_path: Path, script: list[list[Place]]) -> tuple[Rig, Path, bytes]:
    pytest.importorskip("cryptography")
    rig, key = Rig(tmp_path, script), make_run_key(tmp_path / "run.key")
    point, rule = rig.recognizer.operating_point, rig.recognizer.decision_options
    head = RunHead.of(rig.recognizer.gallery.model_id, point, rule)
    results, _ = rig.run()
    with RunRecorder(tmp_path / "sealed.jsonl", head, templates_key=key) as recorder:
        for result in results:
            recorder.write(result)
    return rig, tmp_path / "sealed.jsonl", key


def test_templates_are_searched_again_in_a_gallery_of_later(tmp_path: Path) -> None:
    rig, run, key = sealed_run(tmp_path, standing(7, 60))
    # The photo of person 7 comes after the run in which nobody knew them.
    rig.recognizer.enrol("zoe", [Frame(scene((7, 20)), 0.0, 7, "photo")])
    options = ReplayOptions(gallery=rig.recognizer.gallery)
    (track,) = replay(*read_run(run, templates_key=key), options)
    assert track.recorded is not None
    assert track.recorded.outcome is Outcome.UNKNOWN
    assert track.replayed is not None
    assert track.replayed.subject == "zoe"
    assert track.is_changed


def test_numbers_of_a_run_and_names_of_a_gallery_are_no_difference(tmp_path: Path) -> None:
    rig, run, key = sealed_run(tmp_path, standing(1, 60))
    options = ReplayOptions(gallery=rig.recognizer.gallery)
    (track,) = replay(*read_run(run, templates_key=key), options)
    assert track.replayed is not None
    assert track.replayed.subject == "ann"
    assert not track.is_changed


def test_templates_are_not_in_the_file_as_they_are(tmp_path: Path) -> None:
    _, run, key = sealed_run(tmp_path, standing(1, 20))
    _, looks = read_run(run, templates_key=key)
    templates = [look.template for look in looks if look.template is not None]
    assert templates
    content = run.read_bytes()
    for template in templates:
        plain = template.vector.astype("<f4").tobytes()
        assert plain not in content
        assert base64.b64encode(plain)[:40] not in content


def test_without_a_key_there_are_no_templates(run: Path, tmp_path: Path) -> None:
    _, looks = read_run(run, templates_key=bytes(32))
    assert {look.template for look in looks} == {None}
    _, sealed, _ = sealed_run(tmp_path / "b", standing(1, 20))
    _, looks = read_run(sealed)
    assert {look.template for look in looks} == {None}


def test_another_key_and_templates_that_were_moved_are_refused(tmp_path: Path) -> None:
    _, run, key = sealed_run(tmp_path, standing(1, 60))
    with pytest.raises(RunRecordError, match="line 2"):
        list(read_run(run, templates_key=bytes(32))[1])
    head, *lines = run.read_text(encoding="utf-8").splitlines()
    looks = [json.loads(line) for line in lines]
    looks[0]["template"], looks[1]["template"] = looks[1]["template"], looks[0]["template"]
    run.write_text("\n".join([head, *map(json.dumps, looks)]) + "\n", encoding="utf-8")
    with pytest.raises(RunRecordError, match="line 2"):
        list(read_run(run, templates_key=key)[1])


def test_a_key_is_for_its_owner_alone_and_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "run.key"
    key = make_run_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_run_key(path) == key
    with pytest.raises(RunRecordError, match="name a new file"):
        make_run_key(path)
    path.chmod(0o644)
    with pytest.raises(RunRecordError, match="chmod 600"):
        read_run_key(path)


@pytest.mark.parametrize("content", ["", "00", "zz" * 32, "00" * 33, "\x00"])
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.key"
    path.write_text(content, encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(RunRecordError):
        read_run_key(path)
