"""The PIN pad: the way in for those whose face is not enrolled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from edgeface.errors import MissingDependencyError
from examples.attendance.book import Book
from examples.attendance.checks import clean_pin
from examples.attendance.people import People
from examples.attendance.values import PinAction, PinAnswer, PinOutcome

__all__ = ["PinGuard", "PinPad", "Pins"]

_FREE_TRIES = 3
_LONGEST_WAIT_S = 300.0
_MOST_REMEMBERED = 10_000
_LONGEST_PIN = 64


class PinPad:
    """Takes numbers and PINs, and tells the book."""

    def __init__(self, book: Book, people: People, guard: PinGuard | None = None) -> None:
        self._book = book
        self._people = people
        self._guard = guard or PinGuard()
        self._pins: Pins | None = None

    def set(self, person_id: str, pin: str | None) -> None:
        """Set a person's PIN, or take it away with None."""
        # Refused before anything is hashed, which takes its time.
        clean = None if pin is None else clean_pin(pin)
        pin_hash = None if clean is None else self._hashes().hash(clean)
        self._people.set_pin_hash(person_id, pin_hash)

    def enter(self, number: str, pin: str, action: PinAction, client: str) -> PinAnswer:
        """Record an arrival or departure; ``client`` names who is slowed down when wrong."""
        keys = (f"client {client}", f"number {number.lstrip('0')[:9]}")
        # Counted before it is checked: many entries at the same time are no way round the wait.
        wait_s = self._guard.attempt(*keys)
        if wait_s > 0:
            return PinAnswer(PinOutcome.WAIT, wait_s=wait_s)
        person_id, pin_hash = self._people.of_number(number) or ("", None)
        if not self._hashes().fits(pin_hash, pin[:_LONGEST_PIN]):
            return PinAnswer(PinOutcome.WRONG)
        self._guard.was_right(*keys)
        is_done = self._book.sign(person_id, action)
        return PinAnswer(PinOutcome.DONE if is_done else PinOutcome.ALREADY, person_id)

    def _hashes(self) -> Pins:
        self._pins = self._pins or Pins()
        return self._pins


class PinGuard:
    """Slows down who guesses: after three wrong entries each further one doubles the wait."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # By key: attempts since the last right one, and when the next is taken.
        self._tried: dict[str, tuple[int, float]] = {}

    def attempt(self, *keys: str) -> float:
        """Return 0 and count an attempt for each of ``keys``, or how long they have to wait."""
        with self._lock:
            now_s = self._clock()
            wait_s = max(self._tried.get(key, (0, now_s))[1] for key in keys) - now_s
            if wait_s > 0:
                return wait_s
            for key in keys:
                count = self._tried.get(key, (0, 0.0))[0] + 1
                extra = count - _FREE_TRIES
                pause_s = min(_LONGEST_WAIT_S, 2.0 ** min(extra, 60)) if extra >= 0 else 0.0
                self._tried[key] = (count, now_s + pause_s)
            if len(self._tried) > _MOST_REMEMBERED:
                self._tried = {k: v for k, v in self._tried.items() if v[1] > now_s}
        return 0.0

    def was_right(self, *keys: str) -> None:
        """Forget the attempts of ``keys``: the last one was right."""
        with self._lock:
            for key in keys:
                self._tried.pop(key, None)


class Pins:
    """Hashes and verifies PINs with Argon2id, one at a time: each takes memory on purpose."""

    def __init__(self) -> None:
        try:
            from argon2 import PasswordHasher
        except ImportError as exc:
            raise MissingDependencyError("argon2-cffi", extra="web") from exc
        self._hasher = PasswordHasher()
        self._lock = threading.Lock()
        # Verified for a number that nobody has, so that the answer takes as long.
        self._nobody = self._hasher.hash("no PIN is this text")

    def hash(self, pin: str) -> str:
        """Return the salted hash of a PIN."""
        with self._lock:
            return self._hasher.hash(pin)

    def fits(self, pin_hash: str | None, pin: str) -> bool:
        """Return whether ``pin`` has that hash; False, after as long a time, for no hash."""
        from argon2.exceptions import VerificationError

        with self._lock:
            try:
                self._hasher.verify(pin_hash or self._nobody, pin)
            except VerificationError:
                return False
        return pin_hash is not None
