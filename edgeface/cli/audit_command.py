"""``edgeface audit``: whether the log of a door is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeface.cli.console import print_json, print_line
from edgeface.cli.gallery_access import PassphraseFileOption, gallery_keys
from edgeface.cli.shared_options import JsonOption

__all__ = ["audit_app"]

audit_app = typer.Typer(help="Check the log of a door.", no_args_is_help=True)


@audit_app.callback()
def _audit() -> None:
    """Check the log of a door."""


@audit_app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="Audit log, with its .head file beside it.")],
    *,
    key: Annotated[
        Path | None,
        typer.Option("--key", help="Folder with the door's key.json. [default: that of FILE]"),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            "--head",
            help="COUNT:MAC that an earlier check printed: a log that was put back since, with its "
            "head, is noticed by it.",
        ),
    ] = None,
    anchors: Annotated[
        Path | None,
        typer.Option("--anchors", help="Folder of the door's anchor. [default: this user's]"),
    ] = None,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether every record of FILE is there, unchanged and in its order.

    Compares it with the door's state beside it and its anchor, too, and says where it could not.
    Prints the head of the log: keep it on another machine and give it as --head the next time.
    Exit code 1 and the first bad line when the log was changed, cut short or put back.
    """
    from edgeface.access import AccessKeys, AuditHead
    from edgeface.access.door_check import check_door_log

    keys = AccessKeys.open(key or file.parent, gallery_keys(passphrase_file=passphrase_file))
    known = None if head is None else AuditHead.parse(head)
    report, notes = check_door_log(file, keys, newest_known=known, anchor_folder=anchors)
    end = AuditHead(report.count, report.last_mac)
    if as_json:
        print_json(
            {
                "good": not report.problem,
                "problem": report.problem,
                "bad_line": report.bad_line,
                "records": report.count,
                "head": str(end),
                "unfinished_bytes": report.torn_bytes,
                "not_compared": list(notes),
            }
        )
    elif report.problem:
        where = f"line {report.bad_line}: " if report.bad_line is not None else ""
        print_line(f"{file}: {where}{report.problem}")
    else:
        torn = f", and {report.torn_bytes} bytes of an unfinished one" if report.torn_bytes else ""
        print_line(f"{file}: {report.count} records, whole and in their order{torn}")
        for note in notes:
            print_line(f"note: {note}")
        print_line(f"head {end}")
    raise typer.Exit(1 if report.problem else 0)
