"""Waits after failures: longer and longer, and shortened by nothing."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone

import pytest

from edgeface.access import DoorClocks, Lockout, LockoutRule, WallWatch, boot_id
from edgeface.testing import ManualClock
from tests.access_cases import NOON

RULE = LockoutRule()
YEARS_10 = timedelta(days=3653)


def after(failures: int, now_s: float = 0.0) -> Lockout:
    state = Lockout(boot="b")
    for _ in range(failures):
        state = state.failed(RULE, now_s)
    return state


@pytest.mark.parametrize(
    ("failures", "wait_s", "off"),
    [(0, 0, False), (4, 0, False), (5, 30, False), (6, 60, False), (9, 480, False),
     (10, 900, False), (19, 900, False), (20, 900, True), (2000, 900, True)],
)  # fmt: skip
def test_the_wait_grows_with_the_failures(failures: int, wait_s: float, off: bool) -> None:
    state = after(failures)
    assert (state.left_s(0.0), state.is_face_off) == (wait_s, off)
    assert state.left_s(wait_s) == 0.0


def test_an_opened_door_forgets_its_failures() -> None:
    assert after(19).succeeded() == Lockout(boot="b")


def test_an_attack_waits_at_once_and_shortens_no_longer_wait() -> None:
    assert Lockout(boot="b").failed(RULE, 0.0, is_attack=True).left_s(0.0) == 10.0
    assert after(6).failed(RULE, 50.0).left_s(50.0) == 120.0
    rule = LockoutRule(attack_wait_s=5.0)
    assert after(10).failed(rule, 1.0, is_attack=True).left_s(1.0) == 900.0


def stored(state: Lockout, *, boot: str, now_s: float) -> Lockout:
    return Lockout.from_dict(dict(state.to_dict()), boot=boot, now_s=now_s)


@pytest.mark.parametrize(
    ("boot", "now_s", "left_s"),
    [
        ("b", 1010.0, 20.0),
        ("b", 1030.0, 0.0),
        ("b", 1000.0, 30.0),
        ("c", 5.0, 30.0),
        ("c", 1010.0, 30.0),
        ("c", 1e9, 30.0),
        # A monotonic clock from before the wait began is of another run, whatever it is called.
        ("b", 3.0, 30.0),
    ],
)
def test_what_is_left_of_a_wait_after_a_restart(boot: str, now_s: float, left_s: float) -> None:
    assert stored(after(5, 1000.0), boot=boot, now_s=now_s).left_s(now_s) == left_s


@pytest.mark.parametrize("now_s", [math.nan, math.inf, -math.inf])
def test_a_clock_without_a_time_never_ends_a_wait(now_s: float) -> None:
    assert after(5).left_s(now_s) >= 1.0


@pytest.mark.parametrize(
    "change",
    [{"failures": -1}, {"failures": 1.5}, {"wait_s": math.nan}, {"wait_s": -1.0}, {"wait_s": "x"},
     {"until_s": math.inf}, {"is_face_off": 0}],
)  # fmt: skip
def test_a_stored_state_that_cannot_be_is_refused(change: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        Lockout.from_dict({**after(5).to_dict(), **change}, boot="b", now_s=0.0)


def test_the_run_of_the_machine_has_a_name_that_stays() -> None:
    assert boot_id() == boot_id()
    assert len(boot_id()) >= 32


# ---------------------------------------------------------------------------- time of day


class Clocks:
    def __init__(self, noted: datetime | None = None, wall: datetime = NOON) -> None:
        self.clock = ManualClock(10.0)
        self.wall = wall
        clocks = DoorClocks(monotonic=self.clock, wall=lambda: self.wall, boot="b")
        self.watch = WallWatch(clocks, noted=noted)

    def passes(self, seconds: float, *, wall_s: float | None = None) -> str:
        self.clock.advance(seconds)
        self.wall += timedelta(seconds=seconds if wall_s is None else wall_s)
        return self.watch.read().doubt


def test_a_clock_that_goes_with_the_other_is_believed_for_years() -> None:
    clocks = Clocks(noted=NOON - timedelta(days=1))
    assert clocks.passes(0.0) == ""
    assert clocks.passes(800 * 86400.0) == ""


@pytest.mark.parametrize("step", [YEARS_10, -YEARS_10, timedelta(hours=1), -timedelta(minutes=2)])
def test_a_clock_that_is_set_is_in_doubt_until_somebody_says_it_is_right(step: timedelta) -> None:
    clocks = Clocks()
    assert clocks.passes(60.0) == ""
    clocks.wall += step
    assert clocks.passes(1.0) != ""
    clocks.wall -= step
    assert clocks.passes(1.0) != "", "putting it back does not make it right"
    assert clocks.watch.trust().doubt == ""
    assert clocks.passes(60.0) == ""


@pytest.mark.parametrize("wall", [NOON + YEARS_10, NOON - YEARS_10, NOON - timedelta(minutes=2)])
def test_a_clock_set_while_the_machine_was_off_is_in_doubt(wall: datetime) -> None:
    assert Clocks(noted=NOON, wall=wall).passes(0.0) != ""
    assert Clocks(noted=NOON, wall=NOON + timedelta(days=300)).passes(0.0) == ""


def test_a_board_without_a_clock_of_its_own_is_in_doubt_even_when_somebody_trusts_it() -> None:
    clocks = Clocks(wall=datetime(1970, 1, 1, tzinfo=timezone.utc))
    assert clocks.passes(0.0) == "the clock lies in the past"
    assert clocks.watch.trust().doubt == "the clock lies in the past"


def test_drift_and_slow_corrections_are_no_step() -> None:
    clocks = Clocks()
    assert clocks.passes(86400.0, wall_s=86401.0) == ""


@pytest.mark.parametrize("wall", [datetime(2026, 6, 1)])
def test_a_time_without_a_zone_is_in_doubt(wall: datetime) -> None:
    clocks = Clocks()
    clocks.wall = wall
    assert clocks.watch.read().doubt
