"""The loop of the door, its watchdog and its setup: what opens, what is said, what is not."""

from __future__ import annotations

import functools
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeface.access import (
    AccessController,
    AccessEvent,
    AccessEventKind,
    AccessKeys,
    AccessPolicy,
    FactorStore,
    LeaseVerifier,
    ScryptCost,
    verify_audit,
)
from edgeface.errors import AccessStateError, InvalidInputError, LeaseError
from edgeface.testing import FakeSource
from edgeface.types import Frame, Observation
from examples.door_unlock import setup_door
from examples.door_unlock.app import Door
from examples.door_unlock.locks import LeasedLock, LockError
from examples.door_unlock.watchdog import Watchdog
from tests.door.doors import (
    DOOR,
    DURESS_PIN,
    PIN,
    POLICY,
    BoltOnPaper,
    TestDoor,
    facts,
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
        self.events: list[AccessEvent] = []
        self.door = Door(
            self.controller, self.lock, say=self.lines.append, on_event=self.events.append
        )

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
    assert any(not satisfied for *_, satisfied in snapshot.conditions)


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


# ---------------------------------------------------------------------------- watchdog


def _heard(manager: socket.socket) -> bytes:
    try:
        return manager.recv(64)
    except TimeoutError:
        return b""


def test_the_watchdog_speaks_while_the_door_works_and_is_silent_when_it_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(tmp_path / "notify")
    alive = [True]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(10.0)
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        watchdog = Watchdog(lambda: alive[0], address)
        watchdog.start()
        assert manager.recv(64) == b"READY=1"
        assert manager.recv(64) == b"WATCHDOG=1"
        alive[0] = False
        manager.settimeout(0.5)
        heard = [b"WATCHDOG=1"]
        while heard[-1]:  # one may be on its way
            heard.append(_heard(manager))
        assert len(heard) <= 3
        manager.settimeout(10.0)
        watchdog.stop()
        assert manager.recv(64) == b"STOPPING=1"


def test_without_a_service_manager_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    watchdog = Watchdog(lambda: True)
    watchdog.start()
    watchdog.stop()
    Watchdog(lambda: True, "/nowhere/notify").notify("READY=1")


# ---------------------------------------------------------------------------- setup


def test_a_new_door_is_made_once_and_a_lost_state_is_no_new_door(tmp_path: Path) -> None:
    state = tmp_path / "door"
    setup_door.init(state, POLICY)
    keys = AccessKeys.open(state)
    AccessController.open(POLICY, state, keys, facts).close()
    with pytest.raises(AccessStateError):
        setup_door.init(state, POLICY)
    (state / "state.sealed").unlink()
    with pytest.raises(AccessStateError):
        AccessController.open(POLICY, state, keys, facts)
    assert verify_audit(state / "audit.log", keys).count > 0


def test_a_pin_is_asked_for_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Stretching PINs for real takes seconds.
    quick = functools.partial(FactorStore, cost=ScryptCost(log2=1, block=1, lanes=1))
    monkeypatch.setattr(setup_door, "FactorStore", quick)
    state = tmp_path / "door"
    setup_door.init(state, POLICY)

    def answering(*answers: str) -> object:
        given = iter(answers)
        return lambda _text: next(given)

    with pytest.raises(InvalidInputError, match="not repeated"):
        setup_door.set_pin(state, "alice", answering(PIN, "271829"))  # type: ignore[arg-type]

    def no_terminal(_text: str) -> str:
        raise EOFError

    with pytest.raises(InvalidInputError, match="at a terminal"):
        setup_door.set_pin(state, "alice", no_terminal)
    line = setup_door.set_pin(
        state,
        "alice",
        answering(PIN, PIN, DURESS_PIN),  # type: ignore[arg-type]
    )
    assert PIN not in line
    assert FactorStore(state, AccessKeys.open(state)).subjects() == ("alice",)
    pytest.importorskip("pyotp")
    assert setup_door.add_totp(state, "alice").startswith("otpauth://totp/")


def test_the_key_of_a_far_lock_is_the_doors_and_private(tmp_path: Path) -> None:
    state, file = tmp_path / "door", tmp_path / "lease.key"
    setup_door.init(state, POLICY)
    setup_door.export_lease_key(state, file)
    assert setup_door.read_lease_key(file) == AccessKeys.open(state).lease
    with pytest.raises(InvalidInputError, match="cannot be written"):
        setup_door.export_lease_key(state, file)
    file.chmod(0o644)
    with pytest.raises(InvalidInputError, match="open to others"):
        setup_door.read_lease_key(file)


@pytest.mark.parametrize("name", ["policy.toml", "demo-policy.toml"])
def test_the_policies_that_come_with_the_example_are_valid(repository: Path, name: str) -> None:
    policy = AccessPolicy.from_toml(repository / "examples" / "door_unlock" / name)
    assert policy.demonstration == name.startswith("demo")
    strict = policy.require_pad and policy.factors.second_factor == "required"
    assert strict != policy.demonstration


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


# ---------------------------------------------------------------------------- the whole program


def program(*arguments: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "examples.door_unlock", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | more,
    )


@pytest.mark.integration
@pytest.mark.parametrize(
    "ending", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)]
)
def test_the_program_starts_with_a_camera_and_ends_on_a_signal(
    tmp_path: Path, repository: Path, ending: signal.Signals
) -> None:
    pytest.importorskip("mediapipe")
    policy = repository / "examples" / "door_unlock" / "demo-policy.toml"
    state = tmp_path / "door"
    setup_door.init(state, AccessPolicy.from_toml(policy))
    options = {
        "--source": "test:",
        "--policy": str(policy),
        "--state": str(state),
        "--gallery": str(tmp_path / "people.db"),
        "--threads": "1",
    }
    arguments = [text for pair in options.items() for text in pair]
    more = {
        "PYTHONPATH": str(repository),
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "1000000",
    }
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(more["NOTIFY_SOCKET"])
    manager.settimeout(20.0)
    with manager, program(*arguments, "--no-panel", **more) as app:
        assert app.stdout is not None
        too_late = threading.Timer(90.0, app.kill)
        too_late.start()
        said = ""
        while line := app.stdout.readline():
            said += line
            if "camera: usable True" in line:
                break
        too_late.cancel()
        if "camera: usable True" not in said:
            if "edgeface assets fetch" in said:
                pytest.skip("the model files of detection are not at hand")
            pytest.fail(said)
        assert _heard(manager) == b"READY=1"
        assert _heard(manager) == b"WATCHDOG=1"
        # Stopped, it says nothing, and systemd would end it; going on, it speaks again.
        app.send_signal(signal.SIGSTOP)
        manager.settimeout(1.5)
        while _heard(manager):
            pass
        app.send_signal(signal.SIGCONT)
        manager.settimeout(20.0)
        assert _heard(manager) == b"WATCHDOG=1"
        app.send_signal(ending)
        assert app.wait(20.0) == (0 if ending is signal.SIGTERM else -signal.SIGKILL)
        rest = app.stdout.read()
        assert ("the door is locked" in rest) == (ending is signal.SIGTERM)
    # Whatever ended it, the log is whole and the door can be opened again.
    keys = AccessKeys.open(state)
    assert verify_audit(state / "audit.log", keys).problem == ""
    AccessController.open(replace(POLICY), state, keys, facts).close()


def test_the_short_app_is_short_and_is_the_one_that_is_shown(repository: Path) -> None:
    path = repository / "examples" / "door_unlock" / "app_in_60_lines.py"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 60


def test_a_mistake_is_one_line_and_exit_code_two(tmp_path: Path, repository: Path) -> None:
    with program("--state", str(tmp_path / "no"), PYTHONPATH=str(repository)) as app:
        assert app.stdout is not None
        assert (
            app.stdout.read() == "door: a door needs its rules: give --policy FILE (policy.toml)\n"
        )
        assert app.wait(20.0) == 2
