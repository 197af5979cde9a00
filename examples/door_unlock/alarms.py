"""Tells alarms to those who must hear them, whatever lock the door has: a program, a broker.

Nobody at the door sees or hears anything of it. A name is never told.
"""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from edgeface.access import AccessEvent, AccessEventKind
from edgeface.errors import InvalidInputError

__all__ = ["LOCK", "AlarmChannel", "AlarmCommand", "Alarms"]

LOCK = "lock"
"""The kind of an alarm about the lock itself; the others are those of ``AccessEventKind``."""

_RUN_TIMEOUT_S = 30.0
_TRIES, _DELAY_S = 3, 5.0
_CLOSE_S = 5.0


class AlarmChannel(Protocol):
    """One way to somebody away from the door. Never raises, and never waits."""

    def tell(self, kind: str, *, is_alarm: bool) -> None:
        """Pass on that something of ``kind`` happened."""
        ...

    def close(self) -> None:
        """Pass on what is left, for a moment, and end."""
        ...


class Alarms:
    """Every channel of a door. Usable from several threads."""

    def __init__(self, channels: Sequence[AlarmChannel] = ()) -> None:
        self._channels = tuple(channels)

    @property
    def is_heard(self) -> bool:
        """Whether there is anybody to hear an alarm."""
        return bool(self._channels)

    def hear(self, event: AccessEvent) -> None:
        """Take an event of the controller, at once and in its thread."""
        self.tell(event.kind.value, is_alarm=event.is_alarm)

    def lock_fault(self, _text: str) -> None:
        """Take that the lock does not work as it should."""
        self.tell(LOCK, is_alarm=True)

    def tell(self, kind: str, *, is_alarm: bool) -> None:
        for channel in self._channels:
            with contextlib.suppress(Exception):
                channel.tell(kind, is_alarm=is_alarm)

    def close(self) -> None:
        for channel in self._channels:
            with contextlib.suppress(Exception):
                channel.close()


class AlarmCommand:
    """Runs a program for each alarm, with its kind as the only argument, and without a shell.

    ``started`` is told too, so that a program that does not work is noticed at the start. It gets
    none of this process's environment but PATH, HOME and LANG, and half a minute; what fails is
    tried again twice. What comes again and again meanwhile is told once more.
    """

    def __init__(
        self,
        program: Path,
        *,
        warn: Callable[[str], object] = sys.stderr.write,
        timeout_s: float = _RUN_TIMEOUT_S,
        delay_s: float = _DELAY_S,
    ) -> None:
        """Check ``program``.

        Raises:
            InvalidInputError: It is no program, or others may change it.
        """
        self._program = _checked(program)
        self._warn, self._timeout_s, self._delay_s = warn, timeout_s, delay_s
        # Kinds that are being told, and whether one happened again meanwhile.
        self._again: dict[str, bool] = {}
        self._changed = threading.Condition()

    def tell(self, kind: str, *, is_alarm: bool) -> None:
        if not is_alarm and kind != AccessEventKind.STARTED.value:
            return
        with self._changed:
            is_running = kind in self._again
            self._again[kind] = is_running
        if not is_running:
            # One thread for each kind: none waits for a program that hangs for another.
            threading.Thread(target=self._run, args=(kind,), name="alarm", daemon=True).start()

    def close(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._again, _CLOSE_S)

    def _run(self, kind: str) -> None:
        while True:
            self._tell_now(kind)
            with self._changed:
                if not self._again[kind]:
                    del self._again[kind]
                    self._changed.notify_all()
                    return
                self._again[kind] = False

    def _tell_now(self, kind: str) -> None:
        problem = ""
        for number in range(_TRIES):
            if number:
                time.sleep(self._delay_s)
            problem = self._called(kind)
            if not problem:
                return
        # Without the kind: this line may be read at the door.
        self._warn(f"door: {self._program} could not be told of an event: {problem}\n")

    def _called(self, kind: str) -> str:
        """Return why the program could not be told of ``kind``; empty where it was."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        try:
            done = subprocess.run(
                [str(self._program), kind],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=kept,
                cwd="/",
                check=False,
                timeout=self._timeout_s,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            return f"it did not end within {self._timeout_s:g} s"
        except OSError as exc:
            return str(exc.strerror)
        return "" if done.returncode == 0 else f"it ended with {done.returncode}"


def _checked(program: Path) -> Path:
    path = program.absolute()
    try:
        facts = path.stat()
    except OSError as exc:
        raise InvalidInputError(f"the alarm program {path} cannot be had: {exc.strerror}") from exc
    if not stat.S_ISREG(facts.st_mode) or not os.access(path, os.X_OK):
        raise InvalidInputError(
            f"the alarm program {path} is no program; give a file that can be run (chmod +x), "
            "with its interpreter in its first line"
        )
    if os.name == "posix" and (facts.st_mode & 0o022 or facts.st_uid not in (0, os.getuid())):
        raise InvalidInputError(
            f"the alarm program {path} can be changed by others; run: chmod go-w {path}"
        )
    return path
