"""The loop of the door, its watchdog and its setup: what opens, what is said, what is not."""

from __future__ import annotations

import functools
import io
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeface.access import (
    AccessEventKind,
    LeaseVerifier,
    ScryptCost,
    edit_factors,
)
from edgeface.errors import InvalidInputError, LeaseError
from edgeface.testing import FakeSource
from edgeface.types import Frame, Observation
from examples.door_unlock.__main__ import _read_keys as read_keys
from examples.door_unlock.app import Door
from examples.door_unlock.exits import ExitPin
from examples.door_unlock.locks import LeasedLock, LockError
from tests.door.doors import (
    DOOR,
    DURESS_PIN,
    PIN,
    POLICY,
    BoltOnPaper,
    TestDoor,
    seen,
    token,
)

pytest.importorskip("cryptography")


class Rig(TestDoor):
    """A test door with the example's loop and a lock on paper."""

    __test__ = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.bolt = BoltOnPaper()
        verifier = LeaseVerifier(DOOR, self.keys.lease, demonstration=True, boot="lock")
        self.lock = LeasedLock(verifier, self.bolt)
        self.lines: list[object] = []
        self.door = Door(self.controller, self.lock, say=self.lines.append)

    def ask(self, code: str = PIN) -> None:
        """Do all that a person does, and turn the loop once."""
        self.look()
        self.door.press()
        self.door.present(code)
        self.look(1)
        self.door.turn()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "door")
    yield made
    made.lock.close()
    made.controller.close()


def kinds(rig: Rig) -> list[str]:
    return [event.kind.value for event in rig.events]


def test_a_face_a_code_and_the_button_open_the_door_once(rig: Rig) -> None:
    rig.ask()
    assert rig.bolt.released == [POLICY.lease_s]
    assert "opened" in kinds(rig)
    rig.look()
    rig.door.turn()
    assert len(rig.bolt.released) == 1


@pytest.mark.parametrize("missing", ["face", "code", "button", "right code"])
def test_without_one_of_them_it_stays_closed(rig: Rig, missing: str) -> None:
    rig.look(0 if missing == "face" else 7)
    if missing != "button":
        rig.door.press()
    if missing != "code":
        rig.door.present("000111" if missing == "right code" else PIN)
    rig.look(0 if missing == "face" else 1)
    rig.door.turn()
    assert rig.bolt.released == []
    snapshot = rig.door.snapshot()
    assert not snapshot.is_open
    assert snapshot.conditions == ()


def test_a_lock_that_fails_is_said_and_the_lease_is_gone(rig: Rig) -> None:
    rig.bolt.fails = True
    rig.ask()
    assert any("the lock refused" in str(line) for line in rig.lines)
    rig.bolt.fails = False
    rig.look()
    rig.door.turn()
    assert rig.bolt.released == []


def test_a_lock_that_does_not_answer_is_a_fault_until_it_does(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent() -> str:
        raise LockError("the lock does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(rig.lock, "challenge", silent)
        rig.ask()
    assert rig.bolt.released == []
    assert "fault" in kinds(rig)
    rig.clock.advance(60.0)
    rig.ask()
    assert rig.bolt.released == [POLICY.lease_s]


def test_neither_terminal_nor_panel_name_a_person_or_a_score(rig: Rig) -> None:
    rig.ask("000111")
    rig.ask()
    told = " ".join(map(str, [*rig.lines, rig.door.snapshot()]))
    assert "alice" not in told
    assert "0.9" not in told.replace("0.90 s", "")


def test_a_duress_pin_opens_like_any_other_and_only_the_alarm_hears_of_it(rig: Rig) -> None:
    rig.ask(DURESS_PIN)
    assert rig.bolt.released == [POLICY.lease_s]
    assert AccessEventKind.DURESS in [event.kind for event in rig.events]
    shown = " ".join(map(str, [*rig.lines, rig.door.snapshot()]))
    assert "duress" not in shown


def test_a_duress_pin_is_told_in_a_wait_and_before_the_loop_turns(rig: Rig) -> None:
    rig.look()
    rig.door.press()
    rig.door.present(DURESS_PIN)
    assert AccessEventKind.DURESS in [event.kind for event in rig.events]


@pytest.mark.parametrize("seen_in", [0, 2, 4, 5, 7])
def test_what_may_show_at_the_door_does_not_tell_how_near_a_face_is(
    tmp_path: Path, seen_in: int
) -> None:
    """The same for a stranger as for somebody who is named in every frame."""
    rig = Rig(tmp_path / "door")
    rig.door.turn()
    before = rig.door.snapshot()
    for number in range(7):
        rig.look(1, "alice" if number < seen_in else "stranger")
        rig.door.turn()
    after = rig.door.snapshot()
    assert after.entries == before.entries
    assert after.conditions == before.conditions == ()
    rig.lock.close()
    rig.controller.close()


def test_a_lease_that_the_lock_refused_lets_the_person_try_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "door", policy=replace(POLICY, anti_passback="hard"))
    real = LeasedLock(LeaseVerifier(DOOR, rig.keys.lease, boot="lock"), rig.bolt)
    # It refuses demonstrations.
    rig.door = Door(rig.controller, real, say=rig.lines.append)
    rig.ask()
    assert rig.bolt.released == []
    rig.door = Door(rig.controller, rig.lock, say=rig.lines.append)
    rig.clock.advance(30.0)
    rig.ask()
    assert rig.bolt.released == [POLICY.lease_s]
    for lock in (real, rig.lock):
        lock.close()
    rig.controller.close()


@pytest.mark.parametrize("who", ["alice", None])
def test_who_came_in_comes_in_again_once_they_left(tmp_path: Path, who: str | None) -> None:
    rig = Rig(tmp_path / "door", policy=replace(POLICY, anti_passback="hard"))
    rig.ask()
    rig.clock.advance(30.0)
    rig.ask()
    assert len(rig.bolt.released) == 1
    rig.door.left(who)
    rig.clock.advance(30.0)
    rig.ask()
    assert len(rig.bolt.released) == 2
    rig.lock.close()
    rig.controller.close()


def test_a_lock_that_is_broken_is_said(rig: Rig) -> None:
    rig.bolt.problem = "the process that holds the pin died"
    rig.door.turn()
    assert any("the lock: the process" in str(line) for line in rig.lines)
    assert rig.door.snapshot().problem == rig.bolt.problem
    rig.bolt.problem = ""
    rig.door.turn()
    assert "in order again" in str(rig.lines[-1])


def test_a_hung_loop_is_not_called_running(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "door")
    rig.door = Door(rig.controller, rig.lock, clock=rig.clock, say=rig.lines.append)
    running = [rig.door.is_running]
    changes: list[Callable[[], object]] = [
        functools.partial(rig.clock.advance, 10.0),
        rig.door.turn,
        rig.door.stop,
    ]
    for change in changes:
        change()
        running.append(rig.door.is_running)
    assert running == [True, False, True, False]
    rig.controller.close()


class _Stream:
    def __init__(self, observations: Sequence[Observation], fails_at: int | None) -> None:
        self._observations, self._fails_at, self._count = observations, fails_at, 0

    def process(self, _frame: Frame) -> _Stream:
        self._count += 1
        if self._count == self._fails_at:
            raise RuntimeError("the engine broke")
        return self

    @property
    def observations(self) -> Sequence[Observation]:
        return self._observations


class _Recognizer:
    """Sees the same in every frame; fails at one."""

    def __init__(self, *observations: Observation, fails_at: int | None = None) -> None:
        self._made = _Stream(observations, fails_at)

    def stream(self, _source: object) -> _Stream:
        return self._made


def run(rig: Rig, recognizer: _Recognizer, frames: int) -> None:
    source = FakeSource([np.zeros((48, 64, 3), np.uint8)] * frames)
    rig.door.run(recognizer, source)  # type: ignore[arg-type]


def test_the_loop_feeds_every_frame_and_locks_at_the_end(rig: Rig) -> None:
    run(rig, _Recognizer(seen()), 3)
    assert rig.bolt.closed
    assert rig.controller.explain().subject == "alice"
    with pytest.raises(LockError, match="shut down"):
        rig.lock.unlock(token(rig.lock.challenge(), key=rig.keys.lease, demonstration=True))


def test_an_engine_that_breaks_ends_the_loop_with_the_door_locked(rig: Rig) -> None:
    with pytest.raises(RuntimeError, match="the engine broke"):
        run(rig, _Recognizer(seen(), fails_at=2), 5)
    assert rig.bolt.closed


# ---------------------------------------------------------------------------- exits


def test_the_terminal_is_button_pad_and_exit(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left: list[str | None] = []
    monkeypatch.setattr(rig.door, "left", lambda subject=None: left.append(subject))
    rig.look()
    monkeypatch.setattr("sys.stdin", io.StringIO(f"\n{PIN}\nleft Ada Lovelace\nleft\nclock\n"))
    read_keys(rig.door)
    assert left == ["Ada Lovelace", None]
    said = capsys.readouterr().out
    assert "button pressed" in said
    assert "code accepted" in said
    assert "for right" in said
    rig.look(1)
    rig.door.turn()
    assert rig.bolt.released == [POLICY.lease_s]


def test_the_terminal_tells_why_the_door_stays_closed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rig.look()
    monkeypatch.setattr("sys.stdin", io.StringIO("why\n"))
    read_keys(rig.door)
    said = capsys.readouterr().out
    assert "not yet: second factor: none" in said
    assert "not yet: intent: " in said
    assert "frames" not in said


def test_an_exit_contact_says_that_nobody_is_inside() -> None:
    gpiozero = pytest.importorskip("gpiozero")
    mock = pytest.importorskip("gpiozero.pins.mock")
    before, gpiozero.Device.pin_factory = gpiozero.Device.pin_factory, mock.MockFactory()
    try:
        closed = threading.Event()
        contact = ExitPin(27, closed.set)
        gpiozero.Device.pin_factory.pin(27).drive_low()
        assert closed.wait(5.0)
        contact.close()
        contact.close()
    finally:
        gpiozero.Device.pin_factory = before


def test_an_exit_contact_without_rights_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    gpiozero = pytest.importorskip("gpiozero")

    def refused(*_: object, **__: object) -> object:
        raise gpiozero.GPIOZeroError("no rights")

    monkeypatch.setattr(gpiozero, "Button", refused)
    with pytest.raises(InvalidInputError, match="group gpio"):
        ExitPin(27, lambda: None)


def test_a_demonstration_opens_no_lock_of_a_real_door(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "door")
    real = LeasedLock(LeaseVerifier(DOOR, rig.keys.lease, boot="lock"), BoltOnPaper())
    rig.look()
    rig.controller.press()
    assert rig.controller.present_factor(PIN).accepted
    answer = rig.controller.decide(real.challenge)
    assert answer.lease is not None
    with pytest.raises(LeaseError, match="demonstration"):
        real.unlock(answer.lease.token)
    for lock in (real, rig.lock):
        lock.close()
    rig.controller.close()


def test_a_pin_that_was_removed_while_the_door_runs_opens_no_more(rig: Rig) -> None:
    keys = rig.keys
    with edit_factors(rig.folder, keys, cost=ScryptCost(log2=1, block=1, lanes=1)) as store:
        store.remove("alice")
    rig.ask()
    assert rig.bolt.released == []
    with edit_factors(rig.folder, keys, cost=ScryptCost(log2=1, block=1, lanes=1)) as store:
        store.set_pin("alice", "558812")
    rig.clock.advance(60.0)
    rig.ask("558812")
    assert rig.bolt.released == [POLICY.lease_s]
