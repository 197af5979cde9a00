"""Who is in: one arrival and one departure for each visit."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from examples.attendance.interface import Method, Settings
from examples.attendance.rules import Entry, OpenVisit, Presences, Restored
from examples.attendance.times import Instant

SETTINGS = Settings(absence_s=300.0, blind_s=1800.0, longest_pin_visit_s=3600.0)


def at(seconds: float) -> Instant:
    return Instant(seconds, int(seconds * 1000))


def office() -> Presences:
    numbers = itertools.count(1)
    state = Presences(SETTINGS, make_id=lambda: f"visit-{next(numbers)}")
    for camera in ("door", "room"):
        state = state.camera(camera, at(0), usable=True)
    return state


def said(entries: tuple[Entry, ...]) -> list[tuple[str, str, float]]:
    kinds = {True: "arrived", False: "departed"}
    return [(kinds[e.is_arrival], e.visit.person_id, e.at_ms / 1000) for e in entries]


def test_nobody_seen_is_nobody_in() -> None:
    state, entries = office().tick(at(10_000))
    assert entries == ()
    assert state.visits == {}


def test_first_sighting_is_an_arrival_and_the_next_ones_are_nothing() -> None:
    state, entries = office().see("ann", "door", at(10))
    assert said(entries) == [("arrived", "ann", 10)]
    for second in range(11, 600, 50):
        state, entries = state.see("ann", "door", at(second))
        assert entries == ()


def test_departure_is_when_last_seen_and_is_said_after_the_absence() -> None:
    state, _ = office().see("ann", "door", at(10))
    state, _ = state.see("ann", "door", at(100))
    assert state.tick(at(400))[1] == ()
    state, entries = state.tick(at(400.1))
    assert said(entries) == [("departed", "ann", 100)]
    assert state.tick(at(5000))[1] == ()


def test_who_returns_after_the_absence_has_left_and_arrived_again_without_a_tick() -> None:
    state, _ = office().see("ann", "door", at(10))
    state, entries = state.see("ann", "door", at(400))
    assert said(entries) == [("departed", "ann", 10), ("arrived", "ann", 400)]
    assert entries[0].visit.visit_id != entries[1].visit.visit_id


def test_who_returns_within_the_absence_has_not_left() -> None:
    state, _ = office().see("ann", "door", at(10))
    assert state.see("ann", "door", at(310))[1] == ()


def test_two_cameras_that_see_one_person_make_one_visit() -> None:
    state, first = office().see("ann", "door", at(10))
    state, second = state.see("ann", "room", at(10))
    state, third = state.see("ann", "room", at(250))
    state, gone = state.tick(at(551))
    assert [len(first), len(second), len(third)] == [1, 0, 0]
    assert said(gone) == [("departed", "ann", 250)]
    assert gone[0].camera == "room"
    assert gone[0].visit.camera == "door"


def test_time_without_a_camera_is_no_absence() -> None:
    state, _ = office().see("ann", "door", at(10))
    state = state.camera("door", at(20), usable=False)
    assert state.tick(at(1000))[1] == ()
    state = state.camera("door", at(1000), usable=True)
    assert state.tick(at(1289))[1] == ()
    assert said(state.tick(at(1291))[1]) == [("departed", "ann", 10)]


def test_a_camera_that_never_comes_back_excuses_nobody_for_ever() -> None:
    state, _ = office().see("ann", "door", at(10))
    state = state.camera("door", at(10), usable=False)
    assert state.tick(at(10 + 2100))[1] == ()
    assert said(state.tick(at(10 + 2100.5))[1]) == [("departed", "ann", 10)]


def test_another_camera_that_is_blind_excuses_nobody() -> None:
    state, _ = office().see("ann", "door", at(10))
    state = state.camera("room", at(20), usable=False)
    assert said(state.tick(at(311))[1]) == [("departed", "ann", 10)]


def test_a_wall_clock_that_jumps_changes_no_count() -> None:
    state, _ = office().see("ann", "door", at(10))
    state, entries = state.see("ann", "door", Instant(20, -3_600_000))
    assert entries == ()
    _, gone = state.tick(Instant(321, -3_500_000))
    assert len(gone) == 1
    assert gone[0].at_ms >= gone[0].visit.arrived_ms


def test_pin_visit_is_not_ended_by_absence_but_by_signing_out() -> None:
    state, entries = office().arrive_by_pin("ann", at(10))
    assert entries[0].method is Method.PIN
    assert state.tick(at(3000))[1] == ()
    assert state.arrive_by_pin("ann", at(3000))[1] == ()
    state, entries = state.depart("ann", at(3000), method=Method.PIN)
    assert said(entries) == [("departed", "ann", 3000)]
    assert state.depart("ann", at(3001), method=Method.PIN)[1] == ()


def test_pin_visit_that_nobody_ends_ends_after_the_longest_time() -> None:
    state, _ = office().arrive_by_pin("ann", at(10))
    state, _ = state.see("ann", "door", at(1000))
    assert said(state.tick(at(4601))[1]) == [("departed", "ann", 1000)]


def test_who_signs_out_in_front_of_a_camera_does_not_arrive_again_at_once() -> None:
    state, _ = office().see("ann", "door", at(10))
    state, _ = state.depart("ann", at(20), method=Method.PIN)
    assert state.see("ann", "door", at(30))[1] == ()
    state, entries = state.see("ann", "door", at(321))
    assert said(entries) == [("arrived", "ann", 321)]


def test_who_signs_in_again_is_in_at_once() -> None:
    state, _ = office().arrive_by_pin("ann", at(10))
    state, _ = state.depart("ann", at(20), method=Method.PIN)
    _, entries = state.arrive_by_pin("ann", at(25))
    assert said(entries) == [("arrived", "ann", 25)]


@pytest.mark.parametrize(
    ("away_s", "blind_s", "leaves"),
    [(0.0, 0.0, False), (300.0, 0.0, False), (301.0, 0.0, True), (1500.0, 1250.0, False)],
)
def test_restart_goes_on_with_a_visit_within_the_absence(
    away_s: float, blind_s: float, leaves: bool
) -> None:
    visit = OpenVisit("v", "ann", Method.FACE, "door", 5000, at(0), "door")
    state = office().restored((Restored(visit, away_s, blind_s),), at(50))
    assert bool(state.tick(at(50))[1]) is leaves
    assert (state.see("ann", "door", at(50))[1] == ()) is not leaves


def test_recordings_that_end_end_visits_of_faces_but_not_of_pins() -> None:
    state, _ = office().see("ann", "door", at(10))
    state, _ = state.arrive_by_pin("bob", at(20))
    state, entries = state.end_all()
    assert said(entries) == [("departed", "ann", 10)]
    assert set(state.visits) == {"bob"}


def test_who_is_forgotten_was_never_there() -> None:
    state, _ = office().see("ann", "door", at(10))
    assert state.forget("ann").visits == {}


def test_another_absence_is_followed_at_once() -> None:
    state, _ = office().see("ann", "door", at(10))
    state = replace(state, settings=replace(SETTINGS, absence_s=30.0))
    assert said(state.tick(at(41))[1]) == [("departed", "ann", 10)]
