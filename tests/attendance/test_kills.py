"""A real process, killed at random instants, counts what the script says."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from examples.attendance.journal import EventKind
from examples.attendance.store import Store
from tests.attendance.scripted_day import Day, random_day
from tests.attendance.simulation import Step, steps_of
from tests.attendance.test_scripted_days import by_person, expected

KILLS = 6
RESTART_S = 45.0
"""How long, on the clock of the script, the program is away after it was killed."""


def quiet_day(seed: int) -> tuple[Day, list[Step]]:
    """Return a day in which nothing else goes wrong: the kills come from the test."""
    day = replace(random_day(seed, hours=8, people=4), outages=(), clock_steps=())
    return day, steps_of(day, seed)


def start(folder: Path, day: Day, now_s: float, repository: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.attendance.killed_program"]
    process = subprocess.Popen(
        [*command, str(folder / "record.db"), str(day.start_ms), str(now_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=repository,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "done\n"
    return process


def end(process: subprocess.Popen[str], *, is_kill: bool) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    if is_kill:
        process.kill()
    try:
        process.stdin.close()
    except BrokenPipeError:
        assert is_kill
    process.stdout.close()
    assert process.wait(60) == (-9 if is_kill else 0)


def send(process: subprocess.Popen[str], step: Step) -> None:
    t, _, what, details = step
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps([t, what, *details]) + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        pytest.fail("the program ended by itself")


def wait(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "done\n"


def choose_kills(day: Day, steps: list[Step], count: int, rng: random.Random) -> set[int]:
    """Return steps to be killed in: arrivals, heartbeats and others.

    They are ten minutes apart, as a gap between two stays must leave time to be seen.
    """
    starts = {stay.starts_s for stay in day.stays if stay.ends_s - stay.starts_s > 300}
    seen = [n for n, step in enumerate(steps) if step[2] == "see" and step[0] < day.length_s]
    kinds = (
        [n for n in seen if steps[n][0] in starts],
        [n for n, step in enumerate(steps) if step[2] == "tick" and step[0] < day.length_s],
        seen,
    )
    chosen: list[int] = []
    for number, kind in enumerate(kinds):
        for one in rng.sample(kind, len(kind)):
            if len(chosen) >= count * (number + 1) // len(kinds):
                break
            if all(abs(steps[one][0] - steps[other][0]) > 600 for other in chosen):
                chosen.append(one)
    return set(chosen)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_kills_at_random_instants_change_no_count(
    tmp_path: Path, repository: Path, seed: int
) -> None:
    run_with_kills(tmp_path, repository, seed, kills=24)


def test_a_program_that_is_killed_counts_what_the_script_says(
    tmp_path: Path, repository: Path
) -> None:
    run_with_kills(tmp_path, repository, 100, kills=KILLS)


def run_with_kills(folder: Path, repository: Path, seed: int, *, kills: int) -> None:
    day, steps = quiet_day(seed)
    rng = random.Random(seed)
    at = choose_kills(day, steps, kills, rng)
    assert len(at) == kills
    process, away_until_s = start(folder, day, 0.0, repository), 0.0
    for number, step in enumerate(steps):
        # Who stands at the PIN pad waits until it works again.
        if step[0] < away_until_s and step[2] != "sign":
            at.discard(number)
            continue
        send(process, step)
        if number in at:
            time.sleep(rng.uniform(0.0, 0.003))  # somewhere within what it does with the line
            end(process, is_kill=True)
            away_until_s = step[0] + RESTART_S
            process = start(folder, day, away_until_s, repository)
        else:
            wait(process)
    end(process, is_kill=False)
    store = Store.open(folder / "record.db")
    events = [e for e in store.events() if e.kind in (EventKind.ARRIVED, EventKind.DEPARTED)]
    waiting = store.events("id IN (SELECT event_id FROM outbox)")
    store.close()
    assert by_person(events) == expected(day)
    assert waiting == events
