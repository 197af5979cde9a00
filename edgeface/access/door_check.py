"""Checks the log of a door beside what else knows how long it was: its state and its anchor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgeface.access.anchor import Anchor
from edgeface.access.audit_check import AuditHead, AuditReport, last_record, verify_audit
from edgeface.access.keys import AccessKeys
from edgeface.access.memory import require_together
from edgeface.access.state_file import DoorState, StateFile
from edgeface.errors import AccessStateError

__all__ = ["check_door_log"]


def check_door_log(
    path: Path,
    keys: AccessKeys,
    *,
    newest_known: AuditHead | None = None,
    anchor_folder: Path | None = None,
) -> tuple[AuditReport, tuple[str, ...]]:
    """Return what a check of the log at ``path`` finds, and what could not be compared, in words.

    ``newest_known`` is a head that was kept elsewhere. The state is looked for beside the log, the
    anchor in ``anchor_folder`` (None: where the doors of this user keep theirs).

    Raises:
        AuditError: The file cannot be read.
    """
    anchor = Anchor(anchor_folder, keys)
    # Read before the log is: a log that grows meanwhile is never behind them.
    heads, file = (newest_known, anchor.read()), StateFile(path.parent, keys)
    notes = [] if anchor.is_kept else [f"no anchor at {anchor.path}"]
    try:
        before = _read(file) if file.exists() else None
        report = verify_audit(path, keys)
        for head in heads:
            if head is not None and not report.problem:
                report = verify_audit(path, keys, newest_known=head)
        if before is None:
            return report, (*notes, "no state beside the log")
        if report.problem:
            return report, tuple(notes)
        last = last_record(path)
        # The records of a door that runs are of states after the first.
        known = replace(before, counter=_read(file).counter)
        require_together(known, report.count, last)
    except AccessStateError as exc:
        return replace(verify_audit(path, keys), problem=str(exc)), tuple(notes)
    if before.has_anchor and not anchor.is_kept:
        notes.append("the state knows of an anchor: look whether somebody removed it")
    if before.audit_count > report.count:
        notes.append(f"{before.audit_count - report.count} records of the last write are missing")
    return report, tuple(notes)


def _read(file: StateFile) -> DoorState:
    # What is left of a wait does not matter here.
    return file.read(boot="", now_s=0.0)
