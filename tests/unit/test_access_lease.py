"""Leases: one door, once, within seconds, and nothing else."""

from __future__ import annotations

import base64
import json
import random
from dataclasses import replace

import pytest

from edgeface.access import MAX_LEASE_S, Lease, LeaseVerifier, new_nonce, sign_lease
from edgeface.errors import InvalidInputError, LeaseError
from edgeface.testing import ManualClock

KEY, OTHER_KEY = b"k" * 32, b"o" * 32


class Lock:
    def __init__(self) -> None:
        self.clock = ManualClock(100.0)
        self.verifier = LeaseVerifier("front", KEY, clock=self.clock, boot="b")

    def lease(self, **changes: object) -> Lease:
        lease = Lease(
            door="front",
            nonce=self.verifier.challenge(),
            issued_s=self.clock.now_s,
            life_s=2.0,
            boot="b",
        )
        return replace(lease, **changes)  # type: ignore[arg-type]

    def token(self, **changes: object) -> str:
        return sign_lease(self.lease(**changes), KEY).token


@pytest.fixture
def lock() -> Lock:
    return Lock()


def test_a_lease_opens_its_door_once(lock: Lock) -> None:
    token = lock.token()
    lease = lock.verifier.verify(token)
    assert (lease.door, lease.life_s, lease.demonstration) == ("front", 2.0, False)
    with pytest.raises(LeaseError, match="used before"):
        lock.verifier.verify(token)


def test_a_lease_holds_to_its_end_and_not_longer(lock: Lock) -> None:
    token, late = lock.token(), lock.token()
    lock.clock.advance(2.0)
    lock.verifier.verify(token)
    lock.clock.advance(0.001)
    with pytest.raises(LeaseError, match="too old"):
        lock.verifier.verify(late)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"door": "back"}, "another door"),
        ({"nonce": new_nonce()}, "not given by this lock"),
        ({"issued_s": 100.001}, "future"),
        ({"issued_s": 99.9}, "older than its nonce"),
        ({"issued_s": 97.0}, "too old"),
        ({"demonstration": True}, "demonstration"),
    ],
)
def test_a_lease_that_is_signed_and_yet_wrong_is_refused(
    lock: Lock, changes: dict[str, object], message: str
) -> None:
    token = lock.token(**changes)
    with pytest.raises(LeaseError, match=message):
        lock.verifier.verify(token)


def test_a_lease_signed_with_another_key_is_refused_and_its_nonce_stays(lock: Lock) -> None:
    lease = lock.lease()
    with pytest.raises(LeaseError, match="not signed"):
        lock.verifier.verify(sign_lease(lease, OTHER_KEY).token)
    lock.verifier.verify(sign_lease(lease, KEY).token)


def test_a_lease_from_another_machine_holds_as_long_as_its_nonce(lock: Lock) -> None:
    far = {"boot": "other", "issued_s": 9e6}
    lock.verifier.verify(lock.token(**far))
    late = lock.token(**far)
    lock.clock.advance(MAX_LEASE_S + 0.001)
    with pytest.raises(LeaseError, match="too old"):
        lock.verifier.verify(late)


def test_a_lock_that_starts_again_accepts_nothing_from_before(lock: Lock) -> None:
    token = lock.token()
    fresh = LeaseVerifier("front", KEY, clock=lock.clock, boot="b")
    with pytest.raises(LeaseError, match="not given by this lock"):
        fresh.verify(token)


def test_nonces_are_forgotten_when_too_many_or_too_old(lock: Lock) -> None:
    first = lock.token()
    for _ in range(16):
        lock.verifier.challenge()
    with pytest.raises(LeaseError, match="not given"):
        lock.verifier.verify(first)
    assert len(lock.verifier._open) <= 16


@pytest.mark.parametrize("life_s", [0.0, -1.0, 5.001, float("nan"), float("inf")])
def test_a_lease_that_would_hold_too_long_is_neither_signed_nor_accepted(
    lock: Lock, life_s: float
) -> None:
    with pytest.raises(InvalidInputError):
        lock.token(life_s=life_s)


def test_a_lease_signed_for_longer_by_somebody_else_is_refused(lock: Lock) -> None:
    from edgeface.access.lease import _mac

    content = json.loads(base64.urlsafe_b64decode(lock.token().split(".")[1] + "=="))
    for change in ({"life_s": 60.0}, {"life_s": True}, {"more": 1}, {"door": 3}):
        body = json.dumps({**content, **change}, sort_keys=True).encode()
        parts = [
            base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (body, _mac(KEY, body))
        ]
        with pytest.raises(LeaseError):
            lock.verifier.verify(".".join(["edgeface-lease-1", *parts]))


@pytest.mark.parametrize("nonce", ["", "x" * 32, "0" * 31, "0" * 33, "A" * 32, None, 3])
def test_a_nonce_of_another_form_is_not_signed(lock: Lock, nonce: object) -> None:
    with pytest.raises(InvalidInputError):
        sign_lease(lock.lease(nonce=nonce), KEY)


@pytest.mark.parametrize(
    "text", ["", "x", "a.b.c", "edgeface-lease-1..", "é.é.é", "." * 9999, None]
)
def test_what_is_no_lease_is_refused(lock: Lock, text: str) -> None:
    with pytest.raises(LeaseError):
        lock.verifier.verify(text)


def test_a_clock_that_gives_no_number_accepts_nothing(lock: Lock) -> None:
    token = lock.token()
    lock.clock.now_s = float("nan")
    with pytest.raises(LeaseError):
        lock.verifier.verify(token)


def test_the_token_shows_nowhere_unasked(lock: Lock) -> None:
    lease = sign_lease(lock.lease(), KEY)
    assert lease.token not in repr(lease)


def test_300_changed_tokens_are_refused(lock: Lock) -> None:
    rng = random.Random(4)
    for _ in range(300):
        token = lock.token()
        k = rng.randrange(len(token))
        bad = token[:k] + chr(rng.randrange(33, 127)) + token[k + rng.randrange(2) :]
        if bad != token:
            with pytest.raises(LeaseError):
                lock.verifier.verify(bad)
