"""Times that go astray at a door: machines that sleep, disks that hang, clocks that are set."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeface.access import (
    AccessEventKind,
    DoorClocks,
    Lease,
    LeaseVerifier,
    read_records,
    sign_lease,
    uptime_s,
)
from edgeface.errors import LeaseError
from edgeface.types import Frame
from tests.access_cases import PIN, POLICY, Door, seen

K = AccessEventKind
HOURS_8 = 8 * 3600.0


@pytest.fixture
def door(quick_folder: Path) -> Door:
    return Door(quick_folder / "door", replace(POLICY, anti_passback="off"))


def make_ready(door: Door) -> None:
    door.controller.press()
    door.look()
    assert door.controller.present_factor(PIN).accepted


def unmet(door: Door) -> set[str]:
    return {condition.what for condition in door.controller.explain().unmet}


# ---------------------------------------------------------------------------- sleep


def test_nothing_from_before_the_machine_slept_counts(door: Door) -> None:
    make_ready(door)
    assert door.controller.explain().is_open
    door.sleep(HOURS_8)
    assert not door.controller.decide(door.verifier.challenge).is_open
    assert {"frames", "second factor", "intent"} <= unmet(door)
    assert door.try_to_open()


@pytest.mark.parametrize("first", ["observe", "press", "present_factor", "decide", "explain"])
def test_whatever_is_called_first_after_sleep_keeps_nothing_of_before(
    door: Door, first: str
) -> None:
    make_ready(door)
    door.sleep(0.5)
    given: dict[str, tuple[Any, ...]] = {
        "observe": (None, (), door.health),
        "present_factor": (PIN, "Ada"),
        "decide": (door.verifier.challenge,),
    }
    getattr(door.controller, first)(*given.get(first, ()))
    assert "frames" in unmet(door)
    door.look()
    after = {"press": {"intent"}, "present_factor": {"second factor"}}.get(first, set())
    assert unmet(door) == {"intent", "second factor"} - after


def test_a_frame_that_was_taken_before_sleep_and_comes_after_it_is_not_used(door: Door) -> None:
    door.look()
    late = Frame(np.zeros((48, 64, 3), np.uint8), door.clock.now_s)
    door.sleep(HOURS_8)
    for _ in range(3):
        door.controller.observe(late, (seen(),), door.health)
    door.look(frames=5)
    door.controller.press()
    door.controller.present_factor(PIN)
    assert unmet(door) == {"unused"}


def test_a_lease_and_a_nonce_do_not_outlast_sleep(door: Door) -> None:
    make_ready(door)
    answer = door.controller.decide(door.verifier.challenge)
    assert answer.lease is not None
    door.sleep(HOURS_8)
    with pytest.raises(LeaseError, match="too old"):
        door.verifier.verify(answer.lease)
    make_ready(door)
    nonce = door.verifier.challenge()
    door.sleep(6.0)
    make_ready(door)
    answer = door.controller.decide(nonce)
    assert answer.lease is not None
    with pytest.raises(LeaseError, match="nonce is too old"):
        door.verifier.verify(answer.lease)


def test_sleep_while_the_nonce_is_fetched_opens_nothing(door: Door) -> None:
    make_ready(door)

    def slow() -> str:
        nonce = door.verifier.challenge()
        door.sleep(1.0)
        return nonce

    assert not door.controller.decide(slow).is_open


def test_sleep_is_no_doubt_about_the_time_of_day_and_ends_no_wait(door: Door) -> None:
    for _ in range(5):
        door.fail()
    door.sleep(HOURS_8)
    assert door.controller.status().clock_doubt == ""
    assert door.controller.status().wait_s == 30.0


def test_a_clock_with_sleep_that_gives_no_number_opens_nothing(door: Door) -> None:
    make_ready(door)
    door.slept_s = math.nan
    assert not door.controller.decide(door.verifier.challenge).is_open
    assert not door.try_to_open()
    assert not door.controller.decide("0" * 32).is_open
    door.slept_s = 0.0
    door.controller.trust_clock()
    assert door.try_to_open()


def test_the_clock_of_leases_goes_on_and_is_the_same_on_both_sides() -> None:
    assert DoorClocks().with_sleep is uptime_s
    assert DoorClocks(monotonic=lambda: 3.0).with_sleep() == 3.0
    assert uptime_s() >= time.monotonic() - 1e-3
    verifier = LeaseVerifier("front", b"k" * 32, boot="b")
    lease = Lease(
        door="front", nonce=verifier.challenge(), issued_s=uptime_s(), life_s=2.0, boot="b"
    )
    assert verifier.verify(sign_lease(lease, b"k" * 32)).issued_s == lease.issued_s


# ---------------------------------------------------------------------------- a slow disk


def slow_disk(door: Door, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    log = door.controller._memory._log
    real = log.append

    def slow(kind: str, **named: Any) -> Any:
        if kind == "opened":
            door.advance(seconds)
        return real(kind, **named)

    monkeypatch.setattr(log, "append", slow)


def test_a_disk_that_hangs_gives_no_lease_on_an_old_face(
    quick_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = Door(quick_folder / "door")  # anti-passback: hard
    with monkeypatch.context() as patch:
        slow_disk(door, 4.0, patch)
        make_ready(door)
        answer = door.controller.decide(door.verifier.challenge)
    assert not answer.is_open
    assert answer.decision.reason == "no fault: writing took too long, wanted no fault"
    kinds = [r["kind"] for r in read_records(door.folder / "audit.log", door.keys)]
    assert kinds[-2:] == ["opened", "not-opened"]
    assert door.try_to_open(), "they are not inside"


def test_a_lease_is_as_old_as_what_was_seen(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_disk(door, 0.4, monkeypatch)
    make_ready(door)
    seen_s = door.clock.now_s
    answer = door.controller.decide(door.verifier.challenge)
    assert answer.lease is not None
    assert answer.lease.issued_s == seen_s


# ---------------------------------------------------------------------------- anti-passback


def test_a_lease_that_the_lock_refused_leaves_nobody_inside(quick_folder: Path) -> None:
    door = Door(quick_folder / "door")
    make_ready(door)
    answer = door.controller.decide(door.verifier.challenge)
    assert answer.lease is not None
    door.restart()
    door.controller.note_not_opened(answer.lease)  # of a run before: nobody knows
    assert not door.try_to_open()
    door.controller.note_left("Ada")
    make_ready(door)
    answer = door.controller.decide(door.verifier.challenge)
    assert answer.lease is not None
    door.controller.note_not_opened(replace(answer.lease, nonce="0" * 32))
    assert door.controller._memory.state.inside
    door.controller.note_not_opened(answer.lease)
    assert not door.controller._memory.state.inside
    assert door.try_to_open()
    assert door.controller._memory.state.inside
    for other in (answer.lease, None, "x"):  # again, of an older one; and nonsense
        door.controller.note_not_opened(other)  # type: ignore[arg-type]
    assert door.controller._memory.state.inside


def test_who_was_inside_before_stays_so_when_the_lock_refuses(quick_folder: Path) -> None:
    door = Door(quick_folder / "door", replace(POLICY, anti_passback="soft"))
    assert door.try_to_open()
    make_ready(door)
    answer = door.controller.decide(door.verifier.challenge)
    assert answer.lease is not None
    door.controller.note_not_opened(answer.lease)
    assert door.controller._memory.state.inside


# ---------------------------------------------------------------------------- the time of day


def test_a_clock_set_forward_at_every_start_gets_no_further_than_a_year(door: Door) -> None:
    start, believed = door.wall, []
    for _ in range(6):
        door.controller.close()
        door.wall += timedelta(days=300)
        door.restart()
        if not door.controller.status().clock_doubt:
            believed.append(door.wall - start)
    assert believed == [timedelta(days=300)]
    door.controller.close()
    door.wall = start
    door.restart()
    assert door.controller.status().clock_doubt == "the clock lies in the past"


def test_what_somebody_says_of_the_clock_holds_over_a_restart(door: Door) -> None:
    door.controller.close()
    door.wall += timedelta(days=365)
    door.restart()
    assert door.try_to_open()
    door.controller.close()
    door.wall -= timedelta(days=365)
    door.restart()
    assert door.controller.status().clock_doubt
    assert door.controller.trust_clock().doubt == ""
    for days in (0, 300):
        door.controller.close()
        door.wall += timedelta(days=days)
        door.restart()
        assert door.controller.status().clock_doubt == ""
    door.controller.close()
    door.wall += timedelta(days=300)
    door.restart()
    assert door.controller.status().clock_doubt, "one year for each time that it was said"


def test_a_machine_that_runs_for_years_is_believed(door: Door) -> None:
    for _ in range(8):
        door.advance(29 * 7 * 86400.0)
        assert door.try_to_open(seen("Bob"), pin="905516")
        door.controller.close()
        door.wall += timedelta(days=7)
        door.restart()
        assert door.controller.status().clock_doubt == ""


def test_a_clock_at_the_end_of_the_calendar_is_answered(door: Door) -> None:
    door.wall = door.wall.replace(year=9999, month=12, day=31)
    assert door.controller.trust_clock().doubt == ""
    assert door.try_to_open()


# ---------------------------------------------------------------------------- frames of tomorrow


def test_a_frame_of_tomorrow_and_a_fault_do_not_close_the_door_for_a_day(door: Door) -> None:
    tomorrow = Frame(np.zeros((48, 64, 3), np.uint8), door.clock.now_s + 86400.0)
    door.controller.observe(tomorrow, (seen(),), door.health)
    assert "clock" in unmet(door)
    door.controller.observe("junk", (), door.health)  # type: ignore[arg-type]
    assert door.try_to_open()


@pytest.mark.parametrize("health", ["junk", 3, object()])
def test_a_health_that_is_none_is_a_fault_and_what_was_seen_is_forgotten(
    door: Door, health: Any
) -> None:
    make_ready(door)
    frame = Frame(np.zeros((48, 64, 3), np.uint8), door.clock.now_s)
    door.controller.observe(frame, (seen(),), health)
    assert "frames" in unmet(door)
    assert door.controller.status().fault == "InvalidInputError"
    assert not door.controller.decide(door.verifier.challenge).is_open
    assert door.try_to_open()
