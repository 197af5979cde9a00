"""The commands: parse, call, print, exit."""

from __future__ import annotations

import json
import sys
from datetime import date, datetime, time
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from edgeface.default_model import DEFAULT_MODEL_NOTICE
from edgeface.errors import EdgefaceError
from edgeface.gallery import KeyOptions
from examples.attendance.cameras import open_cameras
from examples.attendance.errors import AttendanceError
from examples.attendance.export import visit_table
from examples.attendance.logs import log_to_stderr
from examples.attendance.opening import (
    OfficeOptions,
    camera_options,
    is_set_up,
    open_office,
    set_up,
    system_zone,
)
from examples.attendance.running import RunOptions, run_until_stopped
from examples.attendance.spreadsheets import as_csv, as_xlsx
from examples.attendance.values import Settings

__all__ = ["app", "main"]

app = typer.Typer(
    help="Attendance for a small office: who is in, since when.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DataOption = Annotated[
    Path, typer.Option("--data", envvar="ATTENDANCE_DATA", help="Folder of the office's files.")
]
ModelOption = Annotated[
    Path | None,
    typer.Option("--model", "-m", envvar="EDGEFACE_MODEL", help="Bundle. [default: edgeface's]"),
]
InsecureKeyOption = Annotated[
    bool,
    typer.Option(
        "--insecure-key-file",
        envvar="EDGEFACE_INSECURE_KEY_FILE",
        help="Accept a plain file for the key of the faces.",
    ),
]
PassphraseOption = Annotated[
    Path | None,
    typer.Option(help="File with the passphrase of the faces, in its first line."),
]
DEFAULT_DATA = Path("attendance-data")


@app.command("run")
def run(  # noqa: PLR0913
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE...",
            help="Webcam number, RTSP or HTTP address, or video file; NAME=SOURCE gives it a "
            "name. [default: 0]",
        ),
    ] = None,
    *,
    data: DataOption = DEFAULT_DATA,
    web: Annotated[bool, typer.Option(help="Serve the pages.")] = True,
    host: Annotated[str, typer.Option(help="Address of the pages.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the pages.")] = 8765,
    name: Annotated[
        list[str] | None, typer.Option(help="Host name under which browsers reach the pages.")
    ] = None,
    certificate: Annotated[Path | None, typer.Option(help="For HTTPS (PEM).")] = None,
    private_key: Annotated[Path | None, typer.Option(help="For HTTPS (PEM).")] = None,
    behind_tls_proxy: Annotated[
        bool, typer.Option("--behind-tls-proxy", help="A proxy here speaks HTTPS.")
    ] = False,
    metrics_token_file: Annotated[
        Path | None, typer.Option(help="Token that opens /metrics to other machines.")
    ] = None,
    model: ModelOption = None,
    pad: Annotated[
        list[Path] | None, typer.Option(help="PAD bundle: nobody is counted from a photo.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the inference engine.")] = None,
    insecure_key_file: InsecureKeyOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Take attendance until stopped; an office that is not there yet is made with defaults.

    Without pages it ends when every video file has. Exit code 1 when watching failed.
    """
    log_to_stderr()
    _require_office(data)
    if model is None:
        _say(DEFAULT_MODEL_NOTICE)
    options = OfficeOptions(
        folder=data,
        bundle=model,
        pad=tuple(pad or ()),
        threads=threads,
        keys=_keys(insecure_key_file, passphrase_file),
    )
    run_options = RunOptions(
        web=web,
        host=host,
        port=port,
        names=tuple(name or ()),
        certificate=certificate,
        private_key=private_key,
        behind_tls_proxy=behind_tls_proxy,
        metrics_token=_first_line(metrics_token_file),
    )
    cameras = open_cameras(sources or ["0"], camera_options())
    if not run_until_stopped(options, cameras, run_options, _say):
        raise typer.Exit(1)


@app.command("set-up")
def set_up_office(  # noqa: PLR0913
    retention_days: Annotated[
        int, typer.Option(prompt="Delete events after how many days", help="Days events are kept.")
    ],
    *,
    data: DataOption = DEFAULT_DATA,
    zone: Annotated[str | None, typer.Option(help="Time zone. [default: this machine's]")] = None,
    day_starts_at: Annotated[str, typer.Option(help="Local time a working day begins.")] = "00:00",
    absence_minutes: Annotated[float, typer.Option(help="Away for this long is gone.")] = 5.0,
    office_name: Annotated[str, typer.Option(help="Heading of the pages.")] = "Attendance",
    language: Annotated[str, typer.Option(help="Language of the pages.")] = "en",
    names_in_sinks: Annotated[
        bool, typer.Option(help="Send names to CSV, webhook and MQTT, not numbers alone.")
    ] = False,
) -> None:
    """Make an office, or give it other settings: how long events are kept, where, what a day is."""
    settings = Settings(
        zone_name=zone or system_zone(),
        day_starts_at=_time(day_starts_at),
        absence_s=60.0 * absence_minutes,
        retention_days=retention_days,
        office_name=office_name,
        language=language,
        names_in_sinks=names_in_sinks,
    )
    set_up(data, settings)
    _say(f"the office in {data} is set up")


@app.command("export")
def export(  # noqa: PLR0913
    first: Annotated[str, typer.Argument(help="First day: 2026-03-01.")],
    last: Annotated[str, typer.Argument(help="Last day, included.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A .csv or .xlsx file; - is stdout.")
    ],
    *,
    data: DataOption = DEFAULT_DATA,
    model: ModelOption = None,
    insecure_key_file: InsecureKeyOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Write the visits of some days to a file. The office must not be running."""
    options = _offline(data, model, insecure_key_file, passphrase_file)
    with open_office(options) as office:
        table = visit_table(office.export_rows(_day(first), _day(last)))
    if output.suffix == ".xlsx":
        output.write_bytes(as_xlsx(table))
    elif str(output) == "-":
        sys.stdout.write(as_csv(table).decode("utf-8-sig"))
    elif output.suffix == ".csv":
        output.write_bytes(as_csv(table))
    else:
        raise AttendanceError(f"the file must end in .csv or .xlsx, got {output}")


@app.command("export-person")
def export_person(
    number: Annotated[int, typer.Argument(help="Personal number.")],
    *,
    data: DataOption = DEFAULT_DATA,
    model: ModelOption = None,
    insecure_key_file: InsecureKeyOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Print everything that is kept about a person, as JSON. The office must not be running."""
    options = _offline(data, model, insecure_key_file, passphrase_file)
    with open_office(options) as office:
        _print_json(office.export_person(_person_id(office, number)))


@app.command("forget-person")
def forget_person(  # noqa: PLR0913
    number: Annotated[int, typer.Argument(help="Personal number.")],
    author: Annotated[str, typer.Option(help="Who does it.")],
    *,
    data: DataOption = DEFAULT_DATA,
    model: ModelOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    insecure_key_file: InsecureKeyOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Delete a person with face, PIN and events, and print the receipt. It must not be running."""
    options = _offline(data, model, insecure_key_file, passphrase_file, with_sinks=True)
    with open_office(options) as office:
        person_id = _person_id(office, number)
        if not yes:
            typer.confirm(f"Delete number {number} for good?", abort=True, err=True)
        _print_json(office.forget_person(person_id, author=author))


def main() -> NoReturn:
    """Run a command; a user's mistake is one line on stderr and exit code 2."""
    try:
        app()
    except EdgefaceError as exc:
        _say(str(exc))
        sys.exit(exc.exit_code)
    sys.exit(0)


def _require_office(folder: Path) -> None:
    """Make an office with defaults where there is none, and say so."""
    if is_set_up(folder):
        return
    settings = Settings(zone_name=system_zone())
    set_up(folder, settings)
    _say(
        f"made an office in {folder}: time zone {settings.zone_name}, events kept for "
        f"{settings.retention_days} days; set-up changes that"
    )


def _offline(
    data: Path,
    model: Path | None,
    insecure_key_file: bool,
    passphrase_file: Path | None,
    *,
    with_sinks: bool = False,
) -> OfficeOptions:
    keys = _keys(insecure_key_file, passphrase_file)
    return OfficeOptions(folder=data, bundle=model, keys=keys, with_sinks=with_sinks)


def _keys(insecure_key_file: bool, passphrase_file: Path | None) -> KeyOptions:
    if passphrase_file is None:
        return KeyOptions(insecure_key_file=True if insecure_key_file else None)
    passphrase = _first_line(passphrase_file)
    return KeyOptions(ask_passphrase=lambda _is_new: passphrase, source="passphrase")


def _first_line(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        with file.open(encoding="utf-8") as opened:
            return opened.readline(4096).strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise AttendanceError(f"{file} cannot be read: {exc}") from exc


def _person_id(office: Any, number: int) -> str:
    for person in office.people(with_inactive=True):
        if person.number == number:
            return str(person.id)
    raise AttendanceError(f"nobody has the number {number}")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as exc:
        raise AttendanceError(f"a day is written 2026-03-01, got {text!r}") from exc


def _time(text: str) -> time:
    try:
        return datetime.strptime(text, "%H:%M").time()
    except ValueError as exc:
        raise AttendanceError(f"a time is written 05:00, got {text!r}") from exc


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, default=_plain, ensure_ascii=False))


def _plain(value: object) -> object:
    from dataclasses import asdict, is_dataclass

    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)


def _say(text: str) -> None:
    print(f"attendance: {text}", file=sys.stderr, flush=True)
