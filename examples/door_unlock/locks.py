"""Locks that open for a lease alone, and close by themselves.

A lock gives a nonce, gets a lease for it and opens for as long as the lease holds: never longer
than five seconds, and never without another one. Nothing keeps a lock open: where the program
ends, hangs or loses its network, the time runs out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from edgeface.access.lease import MAX_LEASE_S, Lease, LeaseVerifier
from edgeface.errors import EdgefaceError

__all__ = ["Bolt", "LeasedLock", "Lock", "LockError", "SimulatedBolt"]


class LockError(EdgefaceError):
    """The lock did not do what it was told, or did not answer; the door counts as closed."""


class Lock(Protocol):
    """What the door app needs of a lock, near or far. ``name`` is for people."""

    name: str

    def challenge(self) -> str:
        """Return a nonce for the next lease.

        Raises:
            LockError: The lock does not answer.
        """
        ...

    def unlock(self, token: str) -> None:
        """Open for as long as the lease ``token`` holds.

        Raises:
            LeaseError: The lock refused the lease.
            LockError: The lock did not answer, or failed.
        """
        ...

    @property
    def is_open(self) -> bool:
        """Whether it is open now, as far as is known."""
        ...

    def close(self) -> None:
        """Lock, and free what was held; may be called twice."""
        ...


class Bolt(Protocol):
    """What moves: a relay, or a line on a terminal."""

    name: str

    def release(self, seconds: float) -> None:
        """Let the door be opened for ``seconds``; the bolt may end it earlier, never later."""
        ...

    def engage(self) -> None:
        """Lock the door; may be called at any time, from any thread."""
        ...

    def close(self) -> None:
        """Lock the door for good and free what was held."""
        ...


class SimulatedBolt:
    """A bolt that says what it does."""

    name = "simulated lock"

    def __init__(self, say: Callable[[str], object] = print) -> None:
        self._say = say
        self.is_released = False

    def release(self, seconds: float) -> None:
        self.is_released = True
        self._say(f"[lock] OPEN for {seconds:.1f} s")

    def engage(self) -> None:
        if self.is_released:
            self.is_released = False
            self._say("[lock] locked")

    def close(self) -> None:
        self.engage()


class LeasedLock:
    """A lock at this machine: verifies leases, and engages its bolt when the time is over.

    Usable from several threads. A thread of its own watches the time, so that a program that hangs
    elsewhere still locks.
    """

    def __init__(
        self,
        verifier: LeaseVerifier,
        bolt: Bolt,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[bool], object] | None = None,
    ) -> None:
        self.name = bolt.name
        self._verifier, self._bolt, self._clock = verifier, bolt, clock
        self._on_change = on_change
        self._changed = threading.Condition()
        self._until_s: float | None = None
        self._is_closed = False
        self._thread = threading.Thread(target=self._watch, name="door lock", daemon=True)
        self._thread.start()

    def challenge(self) -> str:
        return self._verifier.challenge()

    def unlock(self, token: str) -> None:
        lease = self._verifier.verify(token)
        with self._changed:
            if self._is_closed or not self._thread.is_alive():
                raise LockError("the lock is shut down; nothing would lock the door again")
            seconds = min(lease.life_s, MAX_LEASE_S)
            self._until_s = self._clock() + seconds
            try:
                self._bolt.release(seconds)
            except Exception as exc:
                self._until_s = None
                self._bolt.engage()
                raise LockError(f"{self.name} failed to open: {exc}") from exc
            self._changed.notify_all()
        self._tell(is_open=True)

    @property
    def is_open(self) -> bool:
        with self._changed:
            return self._until_s is not None

    def lock(self) -> None:
        """Lock at once."""
        with self._changed:
            was_open, self._until_s = self._until_s is not None, None
            self._bolt.engage()
            self._changed.notify_all()
        if was_open:
            self._tell(is_open=False)

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self.lock()
        self._bolt.close()

    def verify(self, token: str) -> Lease:
        """Return the lease without opening; it is used up."""
        return self._verifier.verify(token)

    def _watch(self) -> None:
        try:
            while not self._wait_for_the_end():
                self.lock()
        finally:
            self._bolt.engage()

    def _wait_for_the_end(self) -> bool:
        """Return False when the time of a lease is over, True when the lock is shut down."""
        with self._changed:
            while not self._is_closed:
                if self._until_s is None:
                    self._changed.wait()
                    continue
                left_s = self._until_s - self._clock()
                # Said so that NaN locks.
                if not left_s > 0.0:
                    return False
                self._changed.wait(min(left_s, MAX_LEASE_S))
            return True

    def _tell(self, *, is_open: bool) -> None:
        if self._on_change is not None:
            self._on_change(is_open)
