"""A relay at a GPIO pin, held by a process of its own.

The pin belongs to a child that knows two words, ``open SECONDS`` and ``close``, counts the seconds
itself and lets go when its input ends. So the pin falls when the app is killed, hangs or loses its
memory; and when the child itself hangs, the app kills it, and the kernel frees the line. What
software cannot promise is the relay: use one that falls by itself after a few seconds.

Run as a program, this is the child: ``python -m examples.door_unlock.gpio_lock --pin 17``.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import select
import signal
import subprocess
import sys
import threading
import time
from types import FrameType
from typing import Any

from edgeface.access.lease import MAX_LEASE_S
from edgeface.errors import MissingDependencyError
from examples.door_unlock.locks import LockError

__all__ = ["PinBolt", "main"]

_ANSWER_TIMEOUT_S = 5.0
# Beyond the end of its time, until the child that did not say so is killed.
_GRACE_S = 0.5


class PinBolt:
    """The app's side of the child that holds the pin."""

    def __init__(self, pin: int, *, active_low: bool = False) -> None:
        self.name = f"relay at GPIO {pin}"
        command = [sys.executable, "-m", "examples.door_unlock.gpio_lock", "--pin", str(pin)]
        self._child = subprocess.Popen(
            [*command, *(["--active-low"] if active_low else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._heard = threading.Condition()
        self._last, self._due_s = "", math.inf
        self._listener = threading.Thread(target=self._listen, name="door pin", daemon=True)
        self._listener.start()
        threading.Thread(target=self._guard, name="door pin guard", daemon=True).start()
        self._wait_for("ready")

    @property
    def pid(self) -> int:
        """The number of the process that holds the pin."""
        return self._child.pid

    @property
    def is_alive(self) -> bool:
        """Whether that process runs."""
        return self._child.poll() is None

    def release(self, seconds: float) -> None:
        with self._heard:
            self._due_s = time.monotonic() + seconds + _GRACE_S
        self._send(f"open {seconds:.3f}")
        self._wait_for("open")

    def engage(self) -> None:
        try:
            self._send("close")
        except LockError:
            # The child is gone, and its line with it.
            self._kill()

    def close(self) -> None:
        stdin = self._child.stdin
        if stdin is not None and not stdin.closed:
            stdin.close()
        try:
            self._child.wait(timeout=_GRACE_S + 1.0)
        except subprocess.TimeoutExpired:
            self._kill()
        self._listener.join(1.0)

    def _send(self, line: str) -> None:
        stdin = self._child.stdin
        try:
            if stdin is None or stdin.closed or self._child.poll() is not None:
                raise LockError(f"{self.name}: the process that holds the pin has ended")
            stdin.write(line + "\n")
            stdin.flush()
        except OSError as exc:
            raise LockError(f"{self.name}: {exc}") from exc

    def _wait_for(self, word: str) -> None:
        with self._heard:
            if self._heard.wait_for(lambda: self._last in (word, "gone"), _ANSWER_TIMEOUT_S) and (
                self._last == word
            ):
                return
        self._kill()
        raise LockError(
            f"{self.name} did not say {word!r}; see its message above, and check the pin's number "
            "and the rights of this user (group gpio)"
        )

    def _listen(self) -> None:
        stdout = self._child.stdout
        for line in stdout or ():
            with self._heard:
                self._last = line.strip()
                if self._last == "closed":
                    self._due_s = math.inf
                self._heard.notify_all()
        if stdout is not None:
            stdout.close()
        with self._heard:
            self._last = "gone"
            self._heard.notify_all()

    def _guard(self) -> None:
        """Kill a child that is not done in time: a stopped process holds its pin for ever."""
        while self._child.poll() is None:
            with self._heard:
                late = time.monotonic() > self._due_s
            if late:
                self._kill()
                return
            time.sleep(0.1)

    def _kill(self) -> None:
        self._child.kill()
        self._child.wait()
        if self._child.stdin is not None:
            with contextlib.suppress(OSError):
                self._child.stdin.close()


class _EndedError(Exception):
    """The child was told to end."""


def main(arguments: list[str] | None = None) -> int:
    """Hold the pin until the input ends; return the exit code."""
    parser = argparse.ArgumentParser(description="Holds the pin of a door's relay.")
    parser.add_argument("--pin", type=int, required=True, help="BCM number of the pin")
    parser.add_argument("--active-low", action="store_true", help="the relay opens on low")
    given = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _end)
    relay = _relay(given.pin, active_low=given.active_low)
    try:
        _say("ready")
        _serve(relay)
    except _EndedError:
        pass
    finally:
        relay.off()
        relay.close()
    return 0


def _relay(pin: int, *, active_low: bool) -> Any:
    try:
        from gpiozero import DigitalOutputDevice
    except ImportError as exc:
        raise MissingDependencyError("gpiozero", extra="gpio") from exc
    # Off before anything else: not the state that the pin happens to have.
    return DigitalOutputDevice(pin, active_high=not active_low, initial_value=False)


def _serve(relay: Any) -> None:
    """Follow the lines of stdin; every way out of here leaves the relay off."""
    until_s, rest = math.inf, b""
    while True:
        left_s = until_s - time.monotonic()
        if left_s <= 0.0:
            relay.off()
            until_s = math.inf
            _say("closed")
            continue
        ready, _, _ = select.select([0], [], [], None if left_s == math.inf else left_s)
        if not ready:
            continue
        chunk = os.read(0, 256)
        if not chunk or len(rest) > 256:
            return
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            until_s = _obey(relay, line.decode("ascii", "replace").split(), until_s)


def _obey(relay: Any, words: list[str], until_s: float) -> float:
    """Do what one line says; return until when the relay stays on."""
    if words == ["close"]:
        was_on = bool(relay.value)
        relay.off()
        if was_on:
            _say("closed")
        return math.inf
    if len(words) == 2 and words[0] == "open" and (seconds := _seconds(words[1])) > 0.0:
        relay.on()
        _say("open")
        return time.monotonic() + seconds
    return until_s


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0.0 < value <= MAX_LEASE_S else 0.0


def _say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def _end(_number: int, _frame: FrameType | None) -> None:
    raise _EndedError


if __name__ == "__main__":
    sys.exit(main())
