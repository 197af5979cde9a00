"""The files of a door in somebody's hands: put back, taken away, moved, made something else."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edgeface.access import (
    AccessEventKind,
    AccessKeys,
    AccessPolicy,
    DoorClocks,
    read_guarded,
    read_records,
    verify_audit,
)
from edgeface.access.door_check import check_door_log
from edgeface.access.memory import DoorMemory
from edgeface.backends.sealed_file import Refusal, read_sealed, user_key
from edgeface.cli import app
from edgeface.errors import AccessPolicyError, AccessStateError, BackendError, EdgefaceError
from tests.access_cases import ATTACK, POLICY, Door, seen

K = AccessEventKind
LOG = ("audit.log", "audit.log.head")
posix = pytest.mark.skipif(os.name != "posix", reason="pipes and open files are POSIX")


@pytest.fixture
def door(quick_folder: Path) -> Door:
    return Door(quick_folder / "door", replace(POLICY, anti_passback="off"))


def copies(door: Door, names: tuple[str, ...]) -> dict[str, bytes]:
    return {name: (door.folder / name).read_bytes() for name in names}


def put_back(door: Door, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (door.folder / name).write_bytes(content)


def remove_anchors(door: Door) -> None:
    for path in (door.folder / "anchors").iterdir():
        path.unlink()


def watch_log(door: Door) -> dict[int, dict[str, bytes]]:
    """Return copies of log and head by the number of records, as somebody takes them."""
    taken: dict[int, dict[str, bytes]] = {}
    log = door.controller._memory._log
    real = log.append

    def append(*given: Any, **named: Any) -> Any:
        head = real(*given, **named)
        taken[head.count] = copies(door, LOG)
        return head

    log.append = append  # type: ignore[method-assign]
    return taken


def told_at_start(door: Door) -> list[dict[str, Any]]:
    events = door.controller.take_events()
    assert all(event.is_alarm for event in events if event.kind is K.UNPROVEN)
    return [dict(event.detail) for event in events if event.kind is K.UNPROVEN]


# ---------------------------------------------------------------------------- put back


def test_no_record_can_be_cut_from_the_log_unnoticed(door: Door) -> None:
    taken = watch_log(door)
    assert door.try_to_open()
    door.advance(5.0)
    assert door.try_to_open(seen("Bob", track_id=7), pin="905516")
    door.look(seen(track_id=8, pad=ATTACK), frames=1)
    door.controller.close()
    newest, state = max(taken), (door.folder / "state.sealed").read_bytes()
    anchors = copies(door, tuple(f"anchors/{p.name}" for p in (door.folder / "anchors").iterdir()))
    for count in sorted(taken):
        put_back(door, {**taken[count], **anchors, "state.sealed": state})
        if count < newest:
            with pytest.raises(EdgefaceError, match="kept elsewhere"):
                door.restart()
        remove_anchors(door)
        if count < newest - 1:
            with pytest.raises(AccessStateError, match="audit log is an older copy"):
                door.restart()
    # The newest record may be missing after a power cut, too: the door starts, and says so.
    put_back(door, {**taken[newest - 1], "state.sealed": state})
    remove_anchors(door)
    door.restart()
    assert told_at_start(door) == [{"records": 1, "anchor": "gone"}]
    *_, last, started = read_records(door.folder / "audit.log", door.keys)
    assert (last["kind"], last["x_records"], last["x_anchor"]) == ("unproven", 1, "gone")
    assert started["kind"] == "started"
    door.restart()
    assert told_at_start(door) == []


def test_an_anchor_that_is_gone_is_told_at_the_start(door: Door) -> None:
    door.fail()
    old = copies(door, (*LOG, "state.sealed"))
    door.fail()
    door.controller.close()
    put_back(door, old)
    with pytest.raises(EdgefaceError, match="kept elsewhere"):
        door.restart()
    remove_anchors(door)
    door.restart()
    assert told_at_start(door) == [{"anchor": "gone"}]
    assert door.try_to_open()


def test_a_door_that_never_had_an_anchor_misses_none(tmp_path: Path) -> None:
    folder = tmp_path / "door"
    folder.mkdir(mode=0o700)
    (folder / "anchors").write_text("a file where the folder belongs")
    door = Door(folder, replace(POLICY, anti_passback="off"))
    assert door.try_to_open()
    door.restart()
    assert told_at_start(door) == []


def test_the_anchor_is_written_when_the_log_grew_and_not_at_every_frame(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    door.look(frames=1)
    (anchor,) = (door.folder / "anchors").iterdir()
    before = anchor.stat()
    for _ in range(50):
        door.look(frames=1)
        door.controller.decide(door.verifier.challenge)
    assert (anchor.stat().st_ino, anchor.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    door.fail()
    assert str(door.controller._memory.head) in anchor.read_text()


# ---------------------------------------------------------------------------- while it runs


@posix
@pytest.mark.parametrize("how", ["renamed", "removed", "replaced", "linked", "longer", "shorter"])
def test_a_log_that_is_taken_away_under_a_running_door_closes_it(door: Door, how: str) -> None:
    path = door.folder / "audit.log"
    content = path.read_bytes()
    if how in {"renamed", "linked"}:
        path.rename(door.folder / "audit.log.1")
    if how == "linked":
        path.symlink_to(door.folder / "audit.log.1")
    if how in {"removed", "replaced"}:
        path.unlink()
    if how == "replaced":
        path.write_bytes(content)
    if how == "longer":
        path.write_bytes(content + b"x")
    if how == "shorter":
        os.truncate(path, len(content) - 1)
    assert not door.try_to_open()
    assert "not written any more" in door.controller._memory.problem
    assert not door.try_to_open(), "nor later"


@posix
def test_a_door_whose_lock_file_was_removed_gives_way_to_its_second_controller(door: Door) -> None:
    (door.folder / "lock").unlink()
    second = door._open(create=False)
    assert not door.try_to_open()
    assert "file lock was removed" in door.controller._memory.problem
    before = (door.folder / "state.sealed").read_bytes()
    door.controller.present_factor("000000", "Ada")
    assert (door.folder / "state.sealed").read_bytes() == before, "it writes nothing any more"
    door.controller, first = second, door.controller
    assert door.try_to_open()
    first.close()
    second.close()


# ---------------------------------------------------------------------------- pipes and links


def ends(call: Callable[[], object]) -> Exception | None:
    """Return what ``call`` raised; it must not wait for anybody."""
    raised: list[Exception | None] = []

    def run() -> None:
        try:
            call()
        except Exception as exc:  # noqa: BLE001 - handed to the caller
            raised.append(exc)
        else:
            raised.append(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20.0)
    assert not thread.is_alive(), "it waits for a writer"
    return raised[0]


@posix
@pytest.mark.parametrize("name", ["state.sealed", "audit.log", "audit.log.head", "factors.sealed"])
def test_a_pipe_in_the_place_of_a_file_holds_up_no_start(door: Door, name: str) -> None:
    door.controller.close()
    (door.folder / name).unlink()
    os.mkfifo(door.folder / name, 0o600)
    assert isinstance(ends(door.restart), EdgefaceError)


@posix
def test_a_pipe_in_the_place_of_a_lock_an_anchor_or_a_key_holds_up_no_start(door: Door) -> None:
    door.controller.close()
    (anchor,) = (door.folder / "anchors").iterdir()
    for path in (anchor, door.folder / "lock"):
        path.unlink()
        os.mkfifo(path, 0o600)
    ends(door.restart)  # how it ends, is not the same on every system
    os.mkfifo(door.folder / "key.json", 0o600)
    assert isinstance(ends(lambda: AccessKeys.open(door.folder)), AccessStateError)
    os.mkfifo(door.folder / "key", 0o600)
    assert isinstance(ends(lambda: user_key(door.folder)), BackendError)
    assert isinstance(read_sealed(door.folder / "key", b"k" * 32), Refusal)


@posix
def test_files_that_make_the_rules_are_read_if_nobody_else_can_write_them(tmp_path: Path) -> None:
    path = tmp_path / "signer.pem"
    path.write_bytes(b"a key")
    for mode in (0o600, 0o644, 0o400):
        path.chmod(mode)
        assert read_guarded(path) == b"a key"
    path.chmod(0o620)
    with pytest.raises(AccessPolicyError, match=r"signer\.pem can be written by others"):
        read_guarded(path, "key")
    path.chmod(0o600)
    (tmp_path / "link").symlink_to(path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("link", "pipe", "missing"):
        with pytest.raises(AccessPolicyError, match="cannot be read"):
            read_guarded(tmp_path / name)
    with pytest.raises(AccessPolicyError, match="cannot be read"):
        AccessPolicy.from_toml(tmp_path)


# ---------------------------------------------------------------------------- edgeface audit


def check(door: Door) -> tuple[str, tuple[str, ...]]:
    report, notes = check_door_log(
        door.folder / "audit.log", door.keys, anchor_folder=door.folder / "anchors"
    )
    return report.problem, notes


def test_a_check_of_the_log_looks_at_state_and_anchor_too(door: Door) -> None:
    taken = watch_log(door)
    assert check(door) == ("", ()), "while the door runs"
    door.fail()
    door.fail()
    door.controller.close()
    assert check(door) == ("", ())
    newest, state = max(taken), (door.folder / "state.sealed").read_bytes()
    put_back(door, taken[newest - 1])
    assert "kept elsewhere" in check(door)[0]
    remove_anchors(door)
    problem, notes = check(door)
    assert problem == ""
    assert [note.split(" at ")[0] for note in notes] == [
        "no anchor",
        "the state knows of an anchor: look whether somebody removed it",
        "1 records of the last write are missing",
    ]
    put_back(door, taken[newest - 2])
    assert "older copy" in check(door)[0]
    put_back(door, taken[newest])
    (door.folder / "state.sealed").write_bytes(state[:-1])
    assert "not believed" in check(door)[0]
    (door.folder / "state.sealed").unlink()
    assert check(door)[1][-1] == "no state beside the log"


def test_the_command_says_what_it_could_not_compare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    folder = tmp_path / "door"
    folder.mkdir(mode=0o700)
    keys = AccessKeys.create(folder)
    log = folder / "audit.log"
    with DoorMemory(folder, keys, DoorClocks(), create=True) as memory:
        memory.note("camera", {"usable": True})
    done = CliRunner().invoke(app, ["audit", "verify", str(log)])
    assert done.exit_code == 0, done.output
    assert "note:" not in done.output
    done = CliRunner().invoke(
        app, ["audit", "verify", str(log), "--anchors", str(tmp_path / "elsewhere")]
    )
    assert done.exit_code == 0
    assert "no anchor" in done.output
    assert verify_audit(log, keys).problem == ""
