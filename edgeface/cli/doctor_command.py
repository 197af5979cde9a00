"""``edgeface doctor``: does it work here?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgeface.cli.console import note, print_json, print_line
from edgeface.cli.shared_options import JsonOption

__all__ = ["doctor"]


def doctor(
    *,
    source: Annotated[
        str | None, typer.Option("--source", "-s", help="Camera or stream to read a few frames of.")
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", "-b", help="Bundle to run. [default: the package's own model]"),
    ] = None,
    gallery: Annotated[
        Path | None, typer.Option("--gallery", "-g", help="Gallery to open and check.")
    ] = None,
    door: Annotated[
        Path | None, typer.Option("--door", help="Folder of a door's state to check.")
    ] = None,
    report: Annotated[
        bool,
        typer.Option(
            "--report", help="Print Markdown without paths, names, addresses or serial numbers."
        ),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 for warnings too, not for faults alone.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run every stage once on this machine and say what works, what does not and how to fix it.

    Exit code 0 when there is no fault, 1 when there is one. Warnings are what works now and may
    fail later: they change the exit code with --strict only.
    """
    from edgeface.doctor import (
        DoctorOptions,
        DoctorReport,
        Redaction,
        as_markdown,
        as_text,
        examine,
    )

    options = DoctorOptions(source=source, bundle=bundle, gallery=gallery, door=door)
    findings = []
    for finding in examine(options):
        findings.append(finding)
        if not (report or as_json):
            print_line(as_text(finding))
    found = DoctorReport(tuple(findings), options)
    if report:
        print_line(as_markdown(findings, Redaction.of(options)))
    elif as_json:
        print_json({"state": found.state.value, "findings": [asdict(each) for each in findings]})
    else:
        note(f"all in all: {found.state.value}")
    if code := found.exit_code(strict=strict):
        raise typer.Exit(code)
