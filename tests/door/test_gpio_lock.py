"""The relay falls when its time is over, when the app dies, and when its holder dies or hangs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeface.access import uptime_s
from edgeface.access.lease import MAX_LEASE_S
from edgeface.errors import LeaseError
from examples.door_unlock import gpio_pin
from examples.door_unlock.gpio_lock import PinBolt
from examples.door_unlock.locks import LeasedLock, LockError
from tests.door.doors import token, verifier

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes and signals of POSIX")

# A pin that keeps its level when its process dies, as kernels of Raspberry Pi OS do without
# dtparam=strict_gpiod. While the file BUSY is there, nobody gets the pin.
_FAKE = """
import os, pathlib, sys
LEVEL = pathlib.Path(os.environ["FAKE_PIN"])
class DigitalOutputDevice:
    def __init__(self, pin, active_high=True, initial_value=False):
        if LEVEL.with_name("busy").exists():
            sys.exit("GPIO busy")
        self._on = int(active_high)
        self._set(initial_value)
    def _set(self, value):
        self.value = int(value)
        new = LEVEL.with_suffix(".new")
        new.write_text(str(self._on if value else 1 - self._on))
        new.replace(LEVEL)
    def on(self):
        self._set(True)
    def off(self):
        self._set(False)
    def close(self):
        pass
"""


@pytest.fixture
def level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path) -> Path:
    """The file that says what the pin is, "0" or "1"."""
    package = tmp_path / "fake" / "gpiozero"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(_FAKE)
    path = tmp_path / "level"
    monkeypatch.setenv("FAKE_PIN", str(path))
    monkeypatch.setenv("PYTHONPATH", f"{package.parent}{os.pathsep}{repository}")
    monkeypatch.syspath_prepend(str(repository))
    monkeypatch.syspath_prepend(str(package.parent))
    return path


def wait_for(holds: Callable[[], bool], what: str, limit_s: float = 15.0) -> None:
    until = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.01)


class Pin:
    """The process that holds the pin, spoken to directly: what it says is what the relay does."""

    def __init__(self, *options: str) -> None:
        program = ["-m", "examples.door_unlock.gpio_pin", "--pin", "17", *options]
        self.process = subprocess.Popen(
            [sys.executable, *(options if "-c" in options else program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
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


def test_no_order_of_the_holder_is_longer_than_a_lease() -> None:
    assert gpio_pin.LONGEST_S == MAX_LEASE_S


def test_the_pin_falls_when_the_time_is_over(level: Path) -> None:
    pin = Pin()
    pin.say("open 0.3")
    assert pin.line() == "open"
    assert level.read_text() == "1"
    assert pin.line() == "closed"
    assert level.read_text() == "0"
    assert pin.end() == 0


def test_an_order_that_is_too_long_or_strange_opens_nothing(level: Path) -> None:
    pin = Pin("--active-low")
    orders = ("open 6", "open nan", "open inf", "open -1", "open 0", "open", "OPEN 1", "\xff")
    for order in orders:
        pin.say(order)
        pin.say("close")
    assert [pin.line() for _ in orders] == ["closed"] * len(orders)
    assert level.read_text() == "1"
    pin.say("open 0.2")
    assert pin.line() == "open"
    assert level.read_text() == "0"
    assert pin.line() == "closed"
    assert pin.end() == 0


@pytest.mark.usefixtures("level")
def test_an_order_without_an_end_is_not_kept_for_ever() -> None:
    pin = Pin()
    pin.say("x" * 2000)
    assert pin.process.wait(10.0) == 0
    assert pin.end() == 0


# The clock of a machine that sleeps for eight hours half a second after the start.
_SLEEPER = """
import sys, time
from examples.door_unlock import gpio_pin
began_s = time.monotonic()
def now_s():
    awake_s = time.monotonic() - began_s
    return awake_s + (8 * 3600.0 if awake_s > 0.5 else 0.0)
gpio_pin.now_s = now_s
sys.exit(gpio_pin.main(["--pin", "17"]))
"""


def test_a_pin_that_slept_while_open_falls_when_the_machine_wakes(level: Path) -> None:
    pin = Pin("-c", _SLEEPER)
    pin.say("open 5")
    assert pin.line() == "open"
    started = time.monotonic()
    assert pin.line() == "closed"
    assert time.monotonic() - started < 4.0, "it counted from when it woke"
    assert level.read_text() == "0"
    assert pin.end() == 0
    if hasattr(time, "CLOCK_BOOTTIME"):
        assert gpio_pin.now_s() == pytest.approx(uptime_s(), abs=1.0)


def test_the_lock_opens_and_closes_a_pin(level: Path) -> None:
    told: list[bool] = []
    bolt = PinBolt(17)
    lock = LeasedLock(verifier(), bolt, on_change=told.append)
    lock.unlock(token(lock.challenge(), life_s=0.3))
    assert (level.read_text(), lock.is_open, bolt.is_locked) == ("1", True, False)
    wait_for(lambda: told == [True, False], "it was not told")
    assert (level.read_text(), lock.is_open, bolt.is_locked) == ("0", False, True)
    with pytest.raises(LeaseError):
        lock.unlock("edgeface-lease-1.e30.AA")
    lock.close()
    assert not lock.is_open


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_holder_that_dies_or_hangs_while_open_is_replaced_and_the_pin_driven_off(
    level: Path, how: signal.Signals
) -> None:
    faults: list[str] = []
    bolt = PinBolt(17, on_fault=faults.append)
    lock = LeasedLock(verifier(), bolt)
    lock.unlock(token(lock.challenge(), life_s=0.5))
    first = bolt.pid
    os.kill(first, how)
    wait_for(lambda: not lock.is_open, "nobody knows that it is locked")
    assert level.read_text() == "0", "said to be locked, with the relay on"
    assert bolt.pid != first
    wait_for(lambda: bool(faults), "no alarm")
    assert ("died" if how is signal.SIGKILL else "hung") in faults[0]
    # And it goes on.
    lock.unlock(token(lock.challenge(), life_s=0.2))
    assert level.read_text() == "1"
    wait_for(lambda: not lock.is_open, "it stayed open")
    assert level.read_text() == "0"
    lock.close()


def test_while_no_holder_can_be_had_the_lock_says_that_nobody_knows(level: Path) -> None:
    faults: list[str] = []
    told: list[bool] = []
    bolt = PinBolt(17, on_fault=faults.append)
    lock = LeasedLock(verifier(), bolt, on_change=told.append)
    lock.unlock(token(lock.challenge(), life_s=0.2))
    busy = level.with_name("busy")
    busy.touch()
    os.kill(bolt.pid, signal.SIGKILL)
    wait_for(lambda: "no other" in lock.problem, "nothing is said")
    assert level.read_text() == "1"
    assert lock.is_open
    assert told == [True], "said to be locked, with the relay on"
    with pytest.raises(LockError, match="no other can drive the pin off"):
        lock.unlock(token(lock.challenge(), life_s=0.2))
    busy.unlink()
    wait_for(lambda: not lock.is_open, "it was not tried again")
    assert (level.read_text(), lock.problem) == ("0", "")
    wait_for(lambda: told == [True, False], "it was not told")
    assert len(faults) == 1
    lock.close()


def test_closing_drives_the_pin_off_whatever_became_of_its_holder(level: Path) -> None:
    bolt = PinBolt(17)
    bolt.release(5.0)
    os.kill(bolt.pid, signal.SIGSTOP)
    bolt.close()
    assert level.read_text() == "0"
    assert bolt.is_locked
    bolt.close()


def test_pins_can_be_driven_off_after_everything_was_killed(level: Path, repository: Path) -> None:
    """What ExecStopPost of the unit runs; it needs neither app nor holder."""
    level.write_text("1")
    unit = (repository / "examples" / "door_unlock" / "edgeface-door.service").read_text()
    line = next(one for one in unit.splitlines() if one.startswith("ExecStopPost="))
    words = line.split()[1:]
    assert words[:3] == ["-m", "examples.door_unlock.gpio_pin", "--pins-off"]
    subprocess.run([sys.executable, *words], check=True, cwd=repository, timeout=20.0)
    assert level.read_text() == "0"


_APP = """
import sys, time
from examples.door_unlock.gpio_lock import PinBolt
bolt = PinBolt(17)
bolt.release(4.0)
print(bolt.pid, flush=True)
time.sleep(60)
"""


def test_the_pin_falls_when_the_app_is_killed(level: Path) -> None:
    app = subprocess.Popen([sys.executable, "-c", _APP], stdout=subprocess.PIPE, text=True)
    assert app.stdout is not None
    holder = int(app.stdout.readline())
    assert level.read_text() == "1"
    app.kill()
    app.wait()
    wait_for(lambda: not _runs(holder), "the holder outlived its app", 3.0)
    assert level.read_text() == "0"
    app.stdout.close()


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.fixture
def real_gpiozero(monkeypatch: pytest.MonkeyPatch, repository: Path) -> None:
    pytest.importorskip("gpiozero")
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "mock")
    monkeypatch.syspath_prepend(str(repository))


@pytest.fixture
def bolt(real_gpiozero: None) -> Iterator[PinBolt]:
    made = PinBolt(17)
    yield made
    made.close()


def test_gpiozero_itself_opens_and_closes(bolt: PinBolt) -> None:
    locked = [bolt.is_locked]
    bolt.release(0.2)
    locked.append(bolt.is_locked)
    assert locked == [True, False]
    wait_for(lambda: bolt.is_locked, "it stayed open")


@pytest.mark.usefixtures("real_gpiozero")
def test_without_rights_to_the_pin_the_lock_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "no-such-factory")
    with pytest.raises(LockError, match="check the pin's number"):
        PinBolt(17)
