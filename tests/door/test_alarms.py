"""Alarms reach a program with every lock, without a name, and nothing hides them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeface.access import AccessEvent, AccessEventKind, LeaseVerifier
from edgeface.errors import InvalidInputError
from examples.door_unlock.__main__ import main as door_main
from examples.door_unlock.__main__ import parser
from examples.door_unlock.alarms import LOCK, AlarmCommand, Alarms
from examples.door_unlock.app import Door
from examples.door_unlock.locks import LeasedLock, SimulatedBolt
from tests.door.doors import DOOR, DURESS_PIN, TestDoor

pytest.importorskip("cryptography")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="programs of POSIX")


def program(folder: Path, body: str) -> Path:
    file = folder / "alarm"
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o700)
    return file


def noting(folder: Path) -> Path:
    """A program that writes its arguments and environment into the file ``told``."""
    return program(folder, f'echo "$#:$*:$SECRET" >> "{folder}/told"')


def told(folder: Path) -> list[str]:
    file = folder / "told"
    return file.read_text().splitlines() if file.exists() else []


def wait_for(holds: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + 15.0
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.01)


def event(kind: AccessEventKind) -> AccessEvent:
    return AccessEvent(kind, 1.0, "alice", {"what": "alice; rm -rf /"})


def test_a_program_is_told_the_kind_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "the passphrase of a gallery")
    alarms = Alarms([AlarmCommand(noting(tmp_path))])
    for kind in (AccessEventKind.ATTACK, AccessEventKind.DENIED, AccessEventKind.STARTED):
        alarms.hear(event(kind))
    alarms.lock_fault("relay at GPIO 17: the process that holds the pin died")
    alarms.close()
    assert sorted(told(tmp_path)) == ["1:attack:", f"1:{LOCK}:", "1:started:"]


def test_a_duress_pin_reaches_the_program_with_a_simulated_lock_too(tmp_path: Path) -> None:
    rig = TestDoor(tmp_path / "door")
    alarms = Alarms([AlarmCommand(noting(tmp_path))])
    rig.controller._journal._on_event = alarms.hear  # as ControllerOptions(on_event=…)
    verifier = LeaseVerifier(DOOR, rig.keys.lease, demonstration=True, boot="lock")
    lines: list[object] = []
    lock = LeasedLock(verifier, SimulatedBolt(lines.append))
    door = Door(rig.controller, lock, say=lines.append)
    rig.look()
    door.press()
    assert door.present(DURESS_PIN).accepted
    wait_for(lambda: "1:duress:" in told(tmp_path), "the program was not told")
    rig.look(1)
    door.turn()
    assert "duress" not in " ".join(map(str, [*lines, door.snapshot()]))
    lock.close()
    rig.controller.close()


def test_a_program_that_hangs_for_one_kind_holds_up_no_other(tmp_path: Path) -> None:
    hanging = program(
        tmp_path, f'[ "$1" = attack ] && exec sleep 20\necho "$1" >> "{tmp_path}/told"'
    )
    alarms = Alarms([AlarmCommand(hanging, timeout_s=20.0)])
    alarms.hear(event(AccessEventKind.ATTACK))
    alarms.hear(event(AccessEventKind.DURESS))
    wait_for(lambda: told(tmp_path) == ["duress"], "it waited")


def test_what_happens_again_and_again_is_told_once_more(tmp_path: Path) -> None:
    slow = program(tmp_path, f'echo "$1" >> "{tmp_path}/told"; sleep 0.3')
    channel = AlarmCommand(slow)
    for _ in range(1000):
        channel.tell("attack", is_alarm=True)
    channel.close()
    assert told(tmp_path) == ["attack", "attack"]


def test_a_program_that_fails_is_tried_again_and_said_without_the_kind(tmp_path: Path) -> None:
    failing = program(tmp_path, f'echo "$1" >> "{tmp_path}/told"; exit 3')
    said: list[str] = []
    channel = AlarmCommand(failing, warn=said.append, delay_s=0.01)
    channel.tell("duress", is_alarm=True)
    channel.close()
    assert told(tmp_path) == ["duress"] * 3
    assert "it ended with 3" in said[0]
    assert "duress" not in said[0]


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [(0o600, "no program"), (0o777, "changed by others"), (None, "cannot be had")],
)
def test_what_is_no_program_of_our_own_is_refused(
    tmp_path: Path, mode: int | None, wanted: str
) -> None:
    file = program(tmp_path, "true")
    if mode is None:
        file.unlink()
    else:
        file.chmod(mode)
    with pytest.raises(InvalidInputError, match=wanted):
        AlarmCommand(file)


def test_a_channel_that_breaks_breaks_nothing_else(tmp_path: Path) -> None:
    class Broken:
        def tell(self, kind: str, *, is_alarm: bool) -> None:
            raise OSError(kind)

        def close(self) -> None:
            raise OSError

    alarms = Alarms([Broken(), AlarmCommand(noting(tmp_path))])
    alarms.hear(event(AccessEventKind.FAULT))
    alarms.close()
    assert told(tmp_path) == ["1:fault:"]


@pytest.mark.parametrize("option", ["--alarm-command", "--mqtt-host"])
def test_a_pin_for_help_is_offered_where_the_door_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    heard: list[bool] = []

    def set_pin(_state: Path, _subject: str, *, alarm_is_heard: bool) -> str:
        heard.append(alarm_is_heard)
        return "a line"

    monkeypatch.setattr("examples.door_unlock.setup_door.set_pin", set_pin)
    assert door_main(["--set-pin", "alice"]) == 0
    assert door_main(["--set-pin", "alice", option, "x"]) == 0
    assert heard == [False, True]


def test_the_unit_names_an_alarm_program(repository: Path) -> None:
    unit = (repository / "examples/door_unlock/edgeface-door.service").read_text()
    start = unit.split("ExecStart=")[1].split("\n# ")[0].replace("\\\n", " ").split()
    given = parser().parse_args(start[start.index("examples.door_unlock") + 1 :])
    assert given.alarm_command == Path("/etc/edgeface/alarm")
    assert sys.platform == "win32" or given.pin == 17
