"""The relay falls when its time is over, when the app dies, and when its process hangs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeface.errors import LeaseError
from examples.door_unlock.gpio_lock import PinBolt
from examples.door_unlock.locks import LeasedLock, LockError
from tests.door.doors import token, verifier

pytest.importorskip("gpiozero")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes and signals of POSIX")


@pytest.fixture(autouse=True)
def _mock_pins(monkeypatch: pytest.MonkeyPatch, repository: Path) -> None:
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "mock")
    monkeypatch.setenv("PYTHONPATH", str(repository))


@pytest.fixture
def bolt() -> Iterator[PinBolt]:
    made = PinBolt(17)
    yield made
    made.close()


class Pin:
    """The process that holds the pin, spoken to directly: what it says is what the relay does."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-m", "examples.door_unlock.gpio_lock", "--pin", "17", *options]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self.line() == "ready"

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def end(self) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        code = self.process.wait(10.0)
        self.process.stdout.close()
        return code


def test_the_pin_falls_when_the_time_is_over() -> None:
    pin = Pin()
    pin.say("open 0.1")
    assert [pin.line(), pin.line()] == ["open", "closed"]
    assert pin.end() == 0


def test_an_order_that_is_too_long_or_strange_opens_nothing() -> None:
    pin = Pin("--active-low")
    for order in ("open 6", "open nan", "open inf", "open -1", "open 0", "open", "OPEN 1", "\xff"):
        pin.say(order)
        pin.say("close")
    pin.say("open 0.05")
    # The first thing that it says is about the last order.
    assert [pin.line(), pin.line()] == ["open", "closed"]
    assert pin.end() == 0


def test_an_order_without_an_end_is_not_kept_for_ever() -> None:
    pin = Pin()
    pin.say("x" * 2000)
    assert pin.process.wait(10.0) == 0
    assert pin.end() == 0


def test_the_lock_opens_and_closes_a_pin(bolt: PinBolt) -> None:
    told: list[bool] = []
    lock = LeasedLock(verifier(), bolt, on_change=told.append)
    lock.unlock(token(lock.challenge(), life_s=0.2))
    until = time.monotonic() + 10.0
    while told != [True, False]:
        assert time.monotonic() < until, told
        time.sleep(0.01)
    with pytest.raises(LeaseError):
        lock.unlock("edgeface-lease-1.e30.AA")


def test_a_process_that_hangs_with_its_pin_is_killed(bolt: PinBolt) -> None:
    bolt.release(0.2)
    os.kill(bolt.pid, signal.SIGSTOP)
    until = time.monotonic() + 10.0
    while Path(f"/proc/{bolt.pid}").exists() and bolt.is_alive:
        assert time.monotonic() < until, "it still holds the pin"
        time.sleep(0.02)
    with pytest.raises(LockError, match="has ended"):
        bolt.release(0.2)


_APP = """
import sys, time
from examples.door_unlock.gpio_lock import PinBolt
bolt = PinBolt(17)
bolt.release(4.0)
print(bolt.pid, flush=True)
time.sleep(60)
"""


def test_the_pin_falls_when_the_app_is_killed() -> None:
    app = subprocess.Popen([sys.executable, "-c", _APP], stdout=subprocess.PIPE, text=True)
    assert app.stdout is not None
    holder = int(app.stdout.readline())
    app.kill()
    app.wait()
    started, limit_s = time.monotonic(), 3.0
    while _runs(holder):
        assert time.monotonic() - started < limit_s, "the pin outlived its app"
        time.sleep(0.02)
    app.stdout.close()


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_without_rights_to_the_pin_the_lock_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "no-such-factory")
    with pytest.raises(LockError, match="check the pin's number"):
        PinBolt(17)
