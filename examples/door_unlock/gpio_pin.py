"""The process that holds the pin of a relay: it opens for seconds, and lets go by itself.

It knows two words, ``open SECONDS`` and ``close``, counts the seconds itself on a clock that runs
on while the machine sleeps, and lets go when its input ends. It loads nothing but gpiozero: when
one of these dies, the next must be there soon, since the kernel may keep the pin as it was.

``python -m examples.door_unlock.gpio_pin --pin 17`` holds the pin; with ``--pins-off`` it drives
the pin off and ends, for the ``ExecStopPost`` of a systemd unit.
"""

from __future__ import annotations

import argparse
import math
import os
import select
import signal
import sys
import tempfile
import time
from types import FrameType
from typing import Any

__all__ = ["LONGEST_S", "main"]

LONGEST_S = 5.0
"""No order opens for longer: that of the leases, which would take half a second to import."""

# While the relay is on, the clock is looked at this often: a wait stands still in suspend.
_LOOK_S = 0.1


class _EndedError(Exception):
    """The process was told to end."""


def main(arguments: list[str] | None = None) -> int:
    """Hold the pin until the input ends; return the exit code."""
    parser = argparse.ArgumentParser(description="Holds the pin of a door's relay.")
    parser.add_argument("--pin", type=int, required=True, help="BCM number of the pin")
    parser.add_argument("--active-low", action="store_true", help="the relay opens on low")
    parser.add_argument("--pins-off", action="store_true", help="drive the pin off, and end")
    given = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _end)
    relay = _relay(given.pin, active_low=given.active_low)
    try:
        if not given.pins_off:
            _say("ready")
            _serve(relay)
    except _EndedError:
        pass
    finally:
        relay.off()
        relay.close()
    return 0


def _relay(pin: int, *, active_low: bool) -> Any:
    # lgpio writes a pipe into the working directory otherwise: gpiozero, issue 1106.
    os.environ.setdefault("LG_WD", tempfile.gettempdir())
    try:
        from gpiozero import DigitalOutputDevice
    except ImportError as exc:
        raise SystemExit(f"gpiozero is missing ({exc}): pip install 'edgeface[gpio]'") from exc
    # Off before anything else: not the state that the pin happens to have.
    return DigitalOutputDevice(pin, active_high=not active_low, initial_value=False)


def now_s() -> float:
    """Return seconds on a clock that no one sets, and that counts the time asleep where it can."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


def _serve(relay: Any) -> None:
    """Follow the lines of stdin; every way out of here leaves the relay off."""
    until_s, rest = math.inf, b""
    while True:
        left_s = until_s - now_s()
        if left_s <= 0.0:
            relay.off()
            until_s = math.inf
            _say("closed")
            continue
        ready, _, _ = select.select(
            [0], [], [], None if left_s == math.inf else min(left_s, _LOOK_S)
        )
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
        relay.off()
        _say("closed")
        return math.inf
    if len(words) == 2 and words[0] == "open" and (seconds := _seconds(words[1])) > 0.0:
        relay.on()
        _say("open")
        return now_s() + seconds
    return until_s


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0.0 < value <= LONGEST_S else 0.0


def _say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def _end(_number: int, _frame: FrameType | None) -> None:
    raise _EndedError


if __name__ == "__main__":
    sys.exit(main())
