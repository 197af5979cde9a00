"""A relay at a GPIO pin, held by a process of its own: see gpio_pin.py.

The pin falls when the app is killed, hangs or loses its memory, since its holder then lets go. When
the holder itself dies or hangs, nobody may trust the kernel with the pin: that of a Raspberry Pi
keeps a freed output as it was, unless ``dtparam=strict_gpiod`` is set. So the app starts another
one at once, which drives the pin off before anything else, and raises an alarm. What software
cannot promise is the relay: use one that falls by itself after a few seconds.
"""

from __future__ import annotations

import contextlib
import math
import subprocess
import sys
import threading
from collections.abc import Callable

from examples.door_unlock.gpio_pin import now_s
from examples.door_unlock.locks import LockError

__all__ = ["PinBolt"]

# The interpreter is told where modules are, as its parent knows it.
_START = (
    "import sys; count = int(sys.argv[1]); sys.path[:] = sys.argv[2 : 2 + count]; "
    "from examples.door_unlock.gpio_pin import main; sys.exit(main(sys.argv[2 + count :]))"
)
# A small board takes seconds to load gpiozero; a holder that has it answers in milliseconds.
_START_TIMEOUT_S, _OPEN_TIMEOUT_S = 10.0, 1.0
# Beyond the end of its time, until the holder that did not say so is killed.
_GRACE_S = 0.5
_LOOK_S = 0.1
_LEAST_DELAY_S, _MOST_DELAY_S = 0.1, 5.0


class _Holder:
    """One process that holds the pin, as its parent sees it. ``heard`` is called for its words."""

    def __init__(self, arguments: list[str], heard: Callable[[_Holder, str], None]) -> None:
        command = [sys.executable, "-c", _START, str(len(sys.path)), *sys.path, *arguments]
        # In a session of its own: Ctrl-C at the terminal is for the app, which ends it in order.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        self._heard = heard
        self._listener = threading.Thread(target=self._listen, name="door pin", daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def send(self, line: str) -> None:
        """Send an order; nothing happens where the process is gone: its end is heard."""
        stdin = self._process.stdin
        with contextlib.suppress(OSError, ValueError):
            if stdin is not None:
                stdin.write(line + "\n")
                stdin.flush()

    def end(self, within_s: float) -> bool:
        """End the input; return whether the process let go of the pin and ended by itself."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            code = self._process.wait(timeout=within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        self._listener.join(1.0)
        return code == 0

    def kill(self) -> None:
        self._process.kill()
        # A process that hangs inside the kernel goes when the kernel lets it.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_GRACE_S)
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._listener.join(1.0)

    def _listen(self) -> None:
        stdout = self._process.stdout
        if stdout is not None:
            with stdout:
                for line in stdout:
                    self._heard(self, line.strip())
        self._heard(self, "gone")


class PinBolt:
    """A bolt at a GPIO pin. Usable from several threads."""

    def __init__(
        self,
        pin: int,
        *,
        active_low: bool = False,
        on_fault: Callable[[str], object] | None = None,
    ) -> None:
        """Start the process that holds the pin.

        ``on_fault`` gets a sentence whenever that process had to be replaced; it is called in a
        thread of the bolt.

        Raises:
            LockError: The pin cannot be had.
        """
        self.name = f"relay at GPIO {pin}"
        self._arguments = ["--pin", str(pin), *(["--active-low"] if active_low else [])]
        self._on_fault = on_fault
        self._changed, self._closing = threading.Condition(), threading.Lock()
        self._last, self._due_s = "", math.inf
        self._is_locked = self._is_closed = False
        self.problem = ""
        with self._changed:
            self._holder = _Holder(self._arguments, self._hear)
        if not self._hears("ready", _START_TIMEOUT_S):
            self._holder.kill()
            raise LockError(
                f"{self.name} did not say 'ready'; see its message above, and check the pin's "
                "number and the rights of this user (group gpio)"
            )
        self._guard = threading.Thread(target=self._watch, name="door pin guard", daemon=True)
        self._guard.start()

    @property
    def pid(self) -> int:
        """The number of the process that holds the pin."""
        return self._holder.pid

    @property
    def is_locked(self) -> bool:
        """Whether the pin is known to be off: its holder said so, and lives."""
        with self._changed:
            return self._is_locked and not self.problem

    def release(self, seconds: float) -> None:
        with self._changed:
            if self._is_closed or self._last == "gone" or self.problem:
                raise LockError(f"{self.name}: {self.problem or 'the process has ended'}")
            self._is_locked, self._last = False, ""
            self._due_s = now_s() + seconds + _GRACE_S
            holder = self._holder
        holder.send(f"open {seconds:.3f}")
        if not self._hears("open", _OPEN_TIMEOUT_S):
            self._overdue()
            raise LockError(f"{self.name} did not say 'open'")

    def engage(self) -> None:
        """Order the pin off; :attr:`is_locked` tells when it is. Its guard sees to that."""
        with self._changed:
            if not self._is_locked:
                self._due_s = min(self._due_s, now_s() + _GRACE_S)
            holder = self._holder
        holder.send("close")

    def close(self) -> None:
        # Whoever comes second waits for the first: the pin is off when this returns.
        with self._closing:
            if self._is_closed:
                return
            with self._changed:
                self._is_closed = True
                self._changed.notify_all()
            self._guard.join()
            is_off = self._holder.end(_GRACE_S + 1.0) or self._drive_off()
            with self._changed:
                self._is_locked = is_off
                self.problem = "" if is_off else "the pin could not be driven off"
        if not is_off:
            self._fault(self.problem)

    def _hears(self, word: str, within_s: float) -> bool:
        with self._changed:
            self._changed.wait_for(
                lambda: self._last in (word, "gone") or self._is_closed, within_s
            )
            return self._last == word

    def _hear(self, holder: _Holder, word: str) -> None:
        with self._changed:
            # What one that was replaced still says is about nothing.
            if holder is not self._holder:
                return
            self._last = word
            self._is_locked = word in ("ready", "closed")
            if self._is_locked:
                self._due_s = math.inf
            self._changed.notify_all()

    def _overdue(self) -> None:
        with self._changed:
            self._due_s = -math.inf
            self._changed.notify_all()

    def _watch(self) -> None:
        """Replace a holder that died, or is not done in time: it leaves its pin as it was."""
        while True:
            with self._changed:
                if self._is_closed:
                    return
                died, late = self._last == "gone", now_s() > self._due_s
                if not (died or late):
                    self._changed.wait(_LOOK_S)
                    continue
                self._is_locked = False
                self.problem = f"the process that holds the pin {'died' if died else 'hung'}"
            self._holder.kill()
            self._replace()

    def _replace(self) -> None:
        """Start holders until one drives the pin off."""
        why, delay_s, is_told = self.problem, _LEAST_DELAY_S, False
        while True:
            with self._changed:
                if self._is_closed:
                    return
                self._last, self._due_s = "", math.inf
                self._holder = _Holder(self._arguments, self._hear)
            if not is_told:
                # After the start: whoever hears it must not keep the pin waiting.
                self._fault(why)
                is_told = True
            if self._hears("ready", _START_TIMEOUT_S):
                with self._changed:
                    self.problem = ""
                return
            self._holder.kill()
            with self._changed:
                self.problem = f"{why}, and no other can drive the pin off"
                self._changed.wait_for(lambda: self._is_closed, delay_s)
            delay_s = min(2 * delay_s, _MOST_DELAY_S)

    def _drive_off(self) -> bool:
        """Return whether a process that does nothing else drove the pin off."""
        last = _Holder([*self._arguments, "--pins-off"], lambda _holder, _word: None)
        return last.end(_START_TIMEOUT_S)

    def _fault(self, text: str) -> None:
        if self._on_fault is not None:
            with contextlib.suppress(Exception):
                self._on_fault(f"{self.name}: {text}")
