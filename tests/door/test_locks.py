"""Locks open for a lease alone, and close by themselves whatever happens."""

from __future__ import annotations

import inspect
import threading
import time

import pytest

from edgeface.access import LeaseVerifier, uptime_s
from edgeface.errors import LeaseError
from edgeface.testing import ManualClock
from examples.door_unlock.locks import LeasedLock, LockError, SimulatedBolt
from tests.door.doors import BoltOnPaper, token, verifier


def made(bolt: BoltOnPaper | SimulatedBolt) -> LeasedLock:
    return LeasedLock(verifier(), bolt)


def wait_until_locked(lock: LeasedLock, limit_s: float = 10.0) -> None:
    until = time.monotonic() + limit_s
    while lock.is_open:
        assert time.monotonic() < until, "it stayed open"
        time.sleep(0.01)


def test_a_lease_opens_and_the_time_closes() -> None:
    bolt = BoltOnPaper()
    lock = made(bolt)
    lock.unlock(token(lock.challenge(), life_s=0.1))
    assert bolt.released == [0.1]
    wait_until_locked(lock)
    assert bolt.engaged >= 1
    lock.close()


@pytest.mark.parametrize("kind", ["nothing", "junk", "replay", "foreign key", "other door", "demo"])
def test_nothing_but_a_fresh_lease_of_this_door_opens(kind: str) -> None:
    bolt = BoltOnPaper()
    lock = made(bolt)
    nonce = lock.challenge()
    good = token(nonce, life_s=0.05)
    bad = {
        "nothing": "",
        "junk": good[:-4] + "AAAA",
        "replay": good,
        "foreign key": token(nonce, key=bytes(32)),
        "other door": token(nonce, door="another"),
        "demo": token(nonce, demonstration=True),
    }[kind]
    if kind == "replay":
        lock.unlock(good)
        wait_until_locked(lock)
    before = len(bolt.released)
    with pytest.raises(LeaseError):
        lock.unlock(bad)
    assert len(bolt.released) == before
    assert not lock.is_open
    lock.close()


def test_a_bolt_that_fails_leaves_the_door_locked() -> None:
    bolt = BoltOnPaper(fails=True)
    lock = made(bolt)
    with pytest.raises(LockError, match="the relay burnt"):
        lock.unlock(token(lock.challenge()))
    assert not lock.is_open
    assert bolt.engaged >= 1
    lock.close()


def test_closing_locks_at_once_and_nothing_opens_any_more() -> None:
    bolt = BoltOnPaper()
    lock = made(bolt)
    lock.unlock(token(lock.challenge(), life_s=5.0))
    lock.close()
    assert not lock.is_open
    assert bolt.closed
    with pytest.raises(LockError, match="shut down"):
        lock.unlock(token(lock.challenge()))
    lock.close()


def test_a_second_lease_renews_the_time_and_adds_nothing_to_it() -> None:
    bolt = BoltOnPaper()
    lock = made(bolt)
    lock.unlock(token(lock.challenge(), life_s=5.0))
    lock.unlock(token(lock.challenge(), life_s=0.05))
    wait_until_locked(lock, limit_s=3.0)
    lock.close()


def test_a_lock_that_slept_while_open_locks_when_it_wakes() -> None:
    """The clock went on for eight hours, and no wait of this process did."""
    bolt, clock = BoltOnPaper(), ManualClock(100.0)
    lock = LeasedLock(verifier(), bolt, clock=clock)
    lock.unlock(token(lock.challenge(), life_s=5.0))
    clock.advance(8 * 3600.0)
    wait_until_locked(lock, limit_s=3.0)
    assert bolt.is_locked
    lock.close()


def test_locks_count_on_a_clock_that_goes_on_in_sleep() -> None:
    for kind in (LeasedLock, LeaseVerifier):
        assert inspect.signature(kind).parameters["clock"].default is uptime_s


def test_a_bolt_of_which_nobody_knows_counts_as_open() -> None:
    told: list[bool] = []
    bolt = BoltOnPaper()
    lock = LeasedLock(verifier(), bolt, on_change=told.append)
    bolt.is_locked = False
    until = time.monotonic() + 10.0
    while told != [True]:
        assert time.monotonic() < until, "it was not told"
        time.sleep(0.01)
    assert lock.is_open
    lock.lock()
    assert (lock.is_open, told) == (False, [True, False])
    lock.close()


def test_changes_are_told() -> None:
    told: list[bool] = []
    locked = threading.Event()

    def tell(is_open: bool) -> None:
        told.append(is_open)
        if not is_open:
            locked.set()

    lock = LeasedLock(verifier(), BoltOnPaper(), on_change=tell)
    lock.unlock(token(lock.challenge(), life_s=0.05))
    assert locked.wait(10.0)
    assert told == [True, False]
    lock.close()


def test_the_simulated_bolt_says_what_it_does() -> None:
    lines: list[str] = []
    lock = made(SimulatedBolt(lines.append))
    lock.unlock(token(lock.challenge(), life_s=0.05))
    wait_until_locked(lock)
    lock.close()
    assert lines == ["[lock] OPEN for 0.1 s", "[lock] locked"]
