"""What an operator relies on: locks, news to systemd, logs without names, health."""

from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path

import pytest

from edgeface.errors import CameraError
from examples.attendance.cameras import open_cameras
from examples.attendance.errors import AttendanceError
from examples.attendance.interface import Settings
from examples.attendance.logs import JsonLines
from examples.attendance.opening import OfficeOptions, camera_options, open_office, set_up
from examples.attendance.service import lock_folder, notify, watchdog_period_s
from examples.attendance.settings_file import load_settings
from examples.attendance.store import Store
from tests.attendance.parts import open_parts

UNIT = Path(__file__).parents[2] / "examples" / "attendance" / "edgeface-attendance.service"


def test_a_folder_is_held_by_one_program(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    held = lock_folder(tmp_path)
    with held, pytest.raises(AttendanceError, match="running"), lock_folder(tmp_path):
        pass
    with lock_folder(tmp_path):
        pass


def test_without_systemd_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")


@pytest.mark.parametrize(
    ("limit", "pid", "expected"),
    [("", None, None), ("0", None, None), ("x", None, None), ("30000000", None, 15.0),
     ("30000000", "1", None)],
)  # fmt: skip
def test_the_watchdog_is_patted_at_half_of_its_limit(
    monkeypatch: pytest.MonkeyPatch, limit: str, pid: str | None, expected: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", limit)
    monkeypatch.setenv("WATCHDOG_PID", pid or str(os.getpid()))
    assert watchdog_period_s() == expected


def test_a_log_line_of_an_error_says_where_and_not_what_somebody_typed() -> None:
    try:
        raise AttendanceError("Zoë Quxwöthington")  # noqa: TRY301
    except AttendanceError as exc:
        error = (type(exc), exc, exc.__traceback__)
    record = logging.LogRecord("attendance", logging.ERROR, "", 1, "went wrong", (), error)
    line = JsonLines().format(record)
    assert "Qux" not in line
    found = json.loads(line)
    assert found["error"] == "AttendanceError"
    assert "test_service.py" in found["where"][0]


def test_two_cameras_of_one_name_are_refused_and_closed() -> None:
    pytest.importorskip("cv2")
    with pytest.raises(AttendanceError, match="2 cameras are called 'door'"):
        open_cameras(["door=test:128x96@5", "door=test:128x96@5"], camera_options())


def test_a_file_that_is_not_there_is_no_camera(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    with pytest.raises(CameraError):
        open_cameras([str(tmp_path / "none.mp4")], camera_options())


def test_an_office_without_cameras_is_well_until_its_clockwork_stops(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    with open_parts(tmp_path) as office:
        assert office.health().is_ok
        office.start()
        assert office.health().is_ok
        assert office.health().figures["present"] == 0
        office.housekeeping.refusal = AttendanceError("disk full")
        assert office.health().problems == ("events cannot be recorded: disk full",)


def test_the_clockwork_ends_visits_by_itself(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    with open_parts(tmp_path, settings=Settings(absence_s=0.0)) as office:
        person = office.add_person("Ann", author="admin")
        office.book.see("door", [person.id])
        with office.subscribe() as queue:
            office.start()
            event = queue.get(30.0)
        assert event is not None
        assert event.kind.value == "departed"


def test_an_office_that_is_not_set_up_is_not_opened(tmp_path: Path) -> None:
    with (
        pytest.raises(AttendanceError, match="set-up"),
        open_office(OfficeOptions(folder=tmp_path)),
    ):
        pass


def test_set_up_again_keeps_the_record_and_changes_the_settings(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    set_up(folder, Settings(retention_days=10))
    set_up(folder, Settings(retention_days=20))
    store = Store.open(folder / "attendance.db")
    settings = load_settings(store)
    store.close()
    assert settings is not None
    assert settings.retention_days == 20
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("text", ["", "[]", "{", '{"zone_name": 5}', '{"new_thing": 1}'])
def test_settings_that_are_damaged_are_told(tmp_path: Path, text: str) -> None:
    store = Store.open(tmp_path / "attendance.db")
    with store.writing() as connection:
        store.set_meta(connection, "settings", text)
    with pytest.raises(AttendanceError):
        load_settings(store)
    store.close()


def test_the_unit_asks_for_the_watchdog_and_gives_no_rights_away() -> None:
    lines = set(UNIT.read_text().splitlines())
    assert {"Type=notify", "WatchdogSec=60", "Restart=on-failure", "NoNewPrivileges=yes"} <= lines
    assert {"ProtectSystem=strict", "StateDirectoryMode=0700", "CapabilityBoundingSet="} <= lines


def test_an_office_may_be_closed_twice(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    office = open_parts(tmp_path)
    office.start()
    office.close()
    office.close()
    with pytest.raises(AttendanceError):
        office.people()
