"""What is recorded survives; what cannot be recorded is tried again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.attendance.book import Book
from examples.attendance.errors import AttendanceError
from examples.attendance.interface import PinAction, Settings
from examples.attendance.presence_rows import BEAT_S
from examples.attendance.store import Store
from tests.attendance.parts import Clocks

SETTINGS = Settings(absence_s=300.0, blind_s=1800.0)


class Program:
    """Starts, stops and kills a book over one file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "record.db"
        self.clocks = Clocks()
        self.told: list[str] = []
        self.book = self.start()

    def start(self) -> Book:
        self.book = Book(
            Store.open(self.path), SETTINGS, clocks=self.clocks,
            tell=lambda event: self.told.append(event.kind.value),
        )  # fmt: skip
        self.book.camera("door", usable=True)
        return self.book

    def stop(self) -> None:
        self.book.close()
        self.kill()

    def kill(self) -> None:
        self.book.store.close()

    def kinds(self) -> list[str]:
        return [event.kind.value for event in self.book.store.events()]

    def wait(self, seconds: float) -> None:
        self.clocks.now_s += seconds


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    made = Program(tmp_path)
    yield made
    made.kill()


@pytest.mark.parametrize("is_kill", [True, False])
@pytest.mark.parametrize("down_s", [0.5, 250.0, 1700.0])
def test_a_visit_goes_on_over_a_restart(program: Program, is_kill: bool, down_s: float) -> None:
    program.book.see("door", ["ann"])
    program.wait(60)
    program.book.beat()
    program.kill() if is_kill else program.stop()
    program.wait(down_s)
    program.start().see("door", ["ann"])
    assert program.kinds() == ["arrived"]


def test_who_left_while_the_program_was_down_for_long_has_departed(program: Program) -> None:
    program.book.see("door", ["ann"])
    seen = program.book.present()[0].last_seen_utc
    program.stop()
    program.wait(10 * 3600)
    program.start().tick()
    assert program.kinds() == ["arrived", "departed"]
    (visit,) = program.book.store.visits("1")
    assert visit.departed_ms == int(seen.timestamp() * 1000)


def test_another_boot_is_told_by_the_wall_clock(program: Program) -> None:
    program.book.see("door", ["ann"])
    program.stop()
    program.clocks.boot = "another"
    program.clocks.start_ms += 1_000_000 - 60_000  # the clock of the boot starts anew
    program.clocks.now_s = 0.0
    program.start().see("door", ["ann"])
    assert program.kinds() == ["arrived"]
    program.stop()
    program.clocks.boot = "a third"
    program.clocks.start_ms += 10 * 3600_000
    program.start().see("door", ["ann"])
    assert program.kinds() == ["arrived", "departed", "arrived"]


def test_a_sign_out_is_remembered_over_a_kill(program: Program) -> None:
    program.book.see("door", ["ann"])
    program.book.sign("ann", PinAction.DEPART)
    program.kill()
    program.wait(10)
    program.start().see("door", ["ann"])
    assert program.kinds() == ["arrived", "departed"]
    program.wait(300)
    program.book.see("door", ["ann"])
    assert program.kinds() == ["arrived", "departed", "arrived"]


def test_events_are_told_after_they_are_recorded_and_never_when_they_are_not(
    program: Program,
) -> None:
    with program.book.store.writing() as connection:
        connection.execute(
            "CREATE TEMP TRIGGER full BEFORE INSERT ON main.event "
            "BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )
    with pytest.raises(AttendanceError, match="disk full"):
        program.book.see("door", ["ann"])
    assert program.told == []
    assert program.book.present() == ()
    with program.book.store.writing() as connection:
        connection.execute("DROP TRIGGER full")
    program.book.see("door", ["ann"])
    assert program.told == ["arrived"]
    assert program.kinds() == ["arrived"]


def test_who_is_in_is_written_every_few_seconds_only(program: Program) -> None:
    program.book.see("door", ["ann"])
    with program.book.store.reading() as connection:
        writes = connection.total_changes
        for _ in range(100):
            program.wait(BEAT_S / 200)
            program.book.see("door", ["ann"])
            program.book.beat()
        assert connection.total_changes == writes
        program.wait(BEAT_S)
        program.book.beat()
        assert connection.total_changes > writes


def test_signing_twice_records_once(program: Program) -> None:
    book = program.book
    assert book.sign("ann", PinAction.ARRIVE)
    assert not book.sign("ann", PinAction.ARRIVE)
    assert book.sign("ann", PinAction.DEPART)
    assert not book.sign("ann", PinAction.DEPART)
    assert program.kinds() == ["arrived", "departed"]


def test_unknown_visitors_are_counted_only_where_wanted(program: Program) -> None:
    program.book.unknown("door")
    program.book.follow(Settings(count_unknown=False))
    program.book.unknown("door")
    assert program.kinds() == ["unknown"]
