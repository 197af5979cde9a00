"""Locks that open for a lease alone, and close by themselves.

A lock gives a nonce, gets a lease for it and opens for as long as the lease holds: never longer
than five seconds, and never without another one. Nothing keeps a lock open: where the program
ends, hangs or loses its network, the time runs out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from edgeface.access import Lease, LeaseVerifier, uptime_s
from edgeface.access.lease import MAX_LEASE_S
from edgeface.errors import EdgefaceError

__all__ = ["Bolt", "LeasedLock", "Lock", "LockError", "SimulatedBolt"]

# How often the clock and the bolt are looked at.
_LOOK_S = 0.1


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
            LeaseError: The lock refused the lease; it did not open.
            LockError: The lock did not answer, or failed; nobody knows whether it opened.
        """
        ...

    @property
    def is_open(self) -> bool:
        """Whether it is open now; true as well where nobody knows."""
        ...

    @property
    def problem(self) -> str:
        """What is wrong with it now; empty if nothing."""
        ...

    def close(self) -> None:
        """Lock, and free what was held; may be called twice."""
        ...


class Bolt(Protocol):
    """What moves: a relay, or a line on a terminal. ``problem`` is empty, or what is wrong."""

    name: str
    problem: str

    def release(self, seconds: float) -> None:
        """Let the door be opened for ``seconds``; the bolt may end it earlier, never later."""
        ...

    def engage(self) -> None:
        """Order the bolt to lock; may be called at any time, from any thread."""
        ...

    @property
    def is_locked(self) -> bool:
        """Whether the bolt is known to lock the door."""
        ...

    def close(self) -> None:
        """Lock the door for good and free what was held; may be called twice."""
        ...


class SimulatedBolt:
    """A bolt that says what it does."""

    name = "simulated lock"
    problem = ""

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

    @property
    def is_locked(self) -> bool:
        return not self.is_released

    def close(self) -> None:
        self.engage()


class LeasedLock:
    """A lock at this machine: verifies leases, and engages its bolt when the time is over.

    Usable from several threads. A thread of its own watches the time, on a clock that counts the
    time asleep, so that a program that hangs elsewhere still locks. ``on_change`` is told True when
    the lock opened, and False once the bolt is known to lock.
    """

    def __init__(
        self,
        verifier: LeaseVerifier,
        bolt: Bolt,
        *,
        clock: Callable[[], float] = uptime_s,
        on_change: Callable[[bool], object] | None = None,
    ) -> None:
        self.name = bolt.name
        self._verifier, self._bolt, self._clock = verifier, bolt, clock
        self._on_change = on_change
        self._changed = threading.Condition()
        self._telling = threading.Lock()
        self._told_open = False
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
        self._tell(opened=True)

    @property
    def is_open(self) -> bool:
        return self._until_s is not None or not self._bolt.is_locked

    @property
    def problem(self) -> str:
        return self._bolt.problem

    def is_answering(self, within_s: float) -> bool:
        """Return whether the lock's own thread runs, and nothing hangs in the bolt."""
        if not self._thread.is_alive() or not self._changed.acquire(timeout=within_s):
            return False
        self._changed.release()
        return True

    def lock(self) -> None:
        """Lock at once."""
        with self._changed:
            self._until_s = None
            self._bolt.engage()
            self._changed.notify_all()
        self._tell()

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self.lock()
        self._bolt.close()
        self._tell()

    def verify(self, token: str) -> Lease:
        """Return the lease without opening; it is used up."""
        return self._verifier.verify(token)

    def _watch(self) -> None:
        try:
            while self._wait():
                self._tell()
        finally:
            self._bolt.engage()

    def _wait(self) -> bool:
        """Wait for a moment and lock where the time is over; return False when shut down."""
        with self._changed:
            if self._is_closed:
                return False
            if self._until_s is not None:
                left_s = self._until_s - self._clock()
                # Said so that NaN locks.
                if not left_s > 0.0:
                    self._until_s = None
                    self._bolt.engage()
                    return True
                # Never for all of it: the wait stands still while the machine sleeps.
                self._changed.wait(min(left_s, _LOOK_S))
                return True
            self._changed.wait(_LOOK_S)
            return True

    def _tell(self, *, opened: bool = False) -> None:
        """Tell when it changed whether it is open; ``opened``: it was, however short."""
        with self._telling:
            for is_open in (True, self.is_open) if opened else (self.is_open,):
                if is_open != self._told_open:
                    self._told_open = is_open
                    if self._on_change is not None:
                        self._on_change(is_open)
