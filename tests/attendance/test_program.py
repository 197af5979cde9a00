"""The program itself: started, watched with a real clip, asked to stop."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import pytest

from examples.attendance import cli
from examples.attendance.cameras import parse_source
from examples.attendance.cli import app
from examples.attendance.interface import Settings
from examples.attendance.opening import (
    RECORD_FILE,
    OfficeOptions,
    camera_options,
    open_office,
    set_up,
)
from examples.attendance.store import Store
from tests.attendance.real_clip import NAME, enrol_from_clip, real_clip


def run(*arguments: object, capture: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run a command as ``main`` does, and return its exit code and what it printed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["attendance", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    out, err = capture.readouterr()
    code = ended.value.code
    return (code if isinstance(code, int) else 1), out, err


@pytest.fixture
def clip(test_data: Path) -> Path:
    return real_clip(test_data)


@contextmanager
def program(folder: Path, *arguments: object, env: dict[str, str]) -> Iterator[subprocess.Popen]:
    command = [sys.executable, "-m", "examples.attendance", "run", *map(str, arguments)]
    process = subprocess.Popen(
        [*command, "--data", str(folder), "--threads", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
        cwd=Path(__file__).parents[2],
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def kinds(folder: Path) -> list[tuple[str, str | None]]:
    store = Store.open(folder / RECORD_FILE)
    found = [(event.kind.value, event.person_id) for event in store.events("kind <> 'change'")]
    store.close()
    return found


@pytest.mark.integration
def test_a_real_clip_of_an_enrolled_person_is_one_arrival(tmp_path: Path, clip: Path) -> None:
    folder = tmp_path / "data"
    person_id = enrol_from_clip(folder, clip)
    with program(folder, f"door={clip}", "--no-web", env={}) as process:
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert kinds(folder) == [("arrived", person_id), ("departed", person_id)]
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert {"started with 1 cameras", "stopping"} <= {line["message"] for line in lines}
    assert "Qux" not in err


@pytest.mark.slow
@pytest.mark.integration
def test_a_program_that_is_killed_goes_on_with_the_visit(tmp_path: Path, clip: Path) -> None:
    folder = tmp_path / "data"
    person_id = enrol_from_clip(folder, clip)
    with program(folder, f"door={clip}", "--no-web", env={}) as process:
        end_s = time.monotonic() + 120
        while kinds(folder) != [("arrived", person_id)] and time.monotonic() < end_s:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert kinds(folder) == [("arrived", person_id)]
    with program(folder, f"door={clip}", "--no-web", env={}) as process:
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert kinds(folder) == [("arrived", person_id), ("departed", person_id)]


@pytest.mark.integration
def test_systemd_is_told_and_sigterm_ends_in_good_order(tmp_path: Path, clip: Path) -> None:
    folder = tmp_path / "data"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        address = str(tmp_path / "notify")
        listener.bind(address)
        listener.settimeout(60)
        env = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "400000"}
        with program(folder, "door=test:320x240@5", "--no-web", env=env) as process:
            assert listener.recv(100) == b"READY=1"
            assert [listener.recv(100) for _ in range(2)] == [b"WATCHDOG=1"] * 2
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        rest = [listener.recv(100)]
        while rest[-1] != b"STOPPING=1":
            rest.append(listener.recv(100))
    assert "Traceback" not in err


def office_with_visit(folder: Path) -> Path:
    """Make an office in which number 1 was in, without a camera."""
    set_up(folder, Settings(zone_name="UTC", count_unknown=False))
    with open_office(OfficeOptions(folder=folder)) as office:
        person = office.add_person(NAME, author="admin")
        office.book.see("door", [person.id])
        office.book.end_all()
    return folder


def test_commands_export_and_forget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cryptography")
    folder = office_with_visit(tmp_path / "data")
    today = datetime.now(timezone.utc).date().isoformat()
    file = tmp_path / "visits.csv"
    assert run("export", today, today, "-o", file, "--data", folder, capture=capsys)[0] == 0
    assert "Quxw" in file.read_text(encoding="utf-8-sig")
    code, out, _ = run("export-person", 1, "--data", folder, capture=capsys)
    assert code == 0
    assert json.loads(out)["person"]["name"] == NAME
    code, out, _ = run(
        "forget-person", 1, "--author", "boss", "--yes", "--data", folder, capture=capsys
    )
    assert code == 0
    assert json.loads(out)["events_deleted"] >= 2
    assert not any(b"Quxw" in path.read_bytes() for path in folder.iterdir())


def bad_commands(folder: Path) -> Sequence[Sequence[object]]:
    return (
        ["export", "2026-13-01", "2026-01-01", "-o", "-", "--data", folder],
        ["export", "2026-01-02", "2026-01-01", "-o", "-", "--data", folder],
        ["export", "2026-01-01", "2026-01-01", "-o", folder / "x.pdf", "--data", folder],
        ["export-person", 7, "--data", folder],
        ["export-person", 1, "--data", folder / "nothing"],
        ["run", folder / "no-such.mp4", "--no-web", "--data", folder],
        ["set-up", "--retention-days", "0", "--data", folder],
        ["set-up", "--retention-days", "9", "--zone", "Mars", "--data", folder],
        ["set-up", "--retention-days", "9", "--day-starts-at", "25:00", "--data", folder],
    )


def test_a_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cryptography")
    pytest.importorskip("cv2")
    folder = office_with_visit(tmp_path / "data")
    for arguments in bad_commands(folder):
        code, _, err = run(*arguments, capture=capsys)
        assert code == 2, arguments
        assert err.splitlines()[-1].startswith("attendance: "), err
        assert "Traceback" not in err
        assert "Quxw" not in err


def test_an_office_that_runs_is_left_alone_by_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cryptography")
    folder = office_with_visit(tmp_path / "data")
    with open_office(OfficeOptions(folder=folder)):
        code, _, err = run("export-person", 1, "--data", folder, capture=capsys)
    assert code == 2
    assert "is running" in err


def test_a_folder_that_others_may_read_is_refused(tmp_path: Path) -> None:
    from examples.attendance.errors import AttendanceError

    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    with pytest.raises(AttendanceError, match="chmod 700"):
        set_up(folder, Settings())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", (None, "0")),
        ("door=0", ("door", "0")),
        ("rtsp://host/stream?channel=1", (None, "rtsp://host/stream?channel=1")),
        ("door=rtsp://host/?a=b", ("door", "rtsp://host/?a=b")),
        ("clip.mp4", (None, "clip.mp4")),
    ],
)
def test_a_source_may_have_a_name(text: str, expected: tuple[str | None, str]) -> None:
    assert parse_source(text) == expected


def test_cameras_that_do_not_answer_are_tried_for_ever() -> None:
    options = camera_options()
    assert options.max_retries is None
    assert not options.must_open


def test_every_command_has_help() -> None:
    assert {command.name for command in app.registered_commands} == {
        "run", "set-up", "export", "export-person", "forget-person",
    }  # fmt: skip
    assert all(command.callback and command.callback.__doc__ for command in app.registered_commands)
