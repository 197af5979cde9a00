"""Checks an audit log: every record, their order, and that none is missing at the end."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeface.access.keys import AccessKeys
from edgeface.backends.sealed_file import Refusal, open_plain, read_sealed
from edgeface.errors import AuditError
from edgeface.gallery.sealing import keyed_hash

__all__ = ["AuditHead", "AuditReport", "last_record", "read_head", "read_records", "verify_audit"]

HEAD_SUFFIX = ".head"
MAX_LINE = 1 << 16
_MAC_DIGITS = 64


@dataclass(frozen=True, slots=True)
class AuditHead:
    """How many records a log has, and the HMAC of the last: 64 hexadecimal digits."""

    count: int
    mac: str

    def __str__(self) -> str:
        return f"{self.count}:{self.mac}"

    @classmethod
    def parse(cls, text: str) -> AuditHead:
        """Return the head that :func:`str` wrote.

        Raises:
            AuditError: It is none.
        """
        count, _, mac = text.strip().partition(":")
        if not (count.isdecimal() and _is_mac(mac)):
            raise AuditError(f"a head is COUNT:MAC, 64 hexadecimal digits, got {text[:80]!r}")
        return cls(int(count), mac)


START = AuditHead(0, "0" * _MAC_DIGITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What a check found. ``problem`` is empty for a good log.

    ``count`` records from the start are good, ``last_mac`` is that of the last of them.
    ``bad_line`` is the number, from 1, of the first line that is not good; None where no line is
    to blame. ``torn_bytes`` are those of an unfinished last line that no head covers.
    """

    path: Path
    count: int
    last_mac: str
    problem: str = ""
    bad_line: int | None = None
    torn_bytes: int = 0

    def require_good(self) -> None:
        """Return if the log is good.

        Raises:
            AuditError: It is not; says the first bad line.
        """
        if self.problem:
            where = f", line {self.bad_line}" if self.bad_line is not None else ""
            raise AuditError(f"the audit log {self.path}{where}: {self.problem}")


def chained(key: bytes, before: str, record: Mapping[str, Any]) -> str:
    """Return the HMAC of ``record`` after the record whose HMAC is ``before``."""
    text = json.dumps(dict(record), sort_keys=True, allow_nan=False)
    return keyed_hash(key, "audit record", before, text).hex()


def read_head(path: Path, keys: AccessKeys) -> AuditHead | None:
    """Return the sealed head at ``path``; None where there is none that bears the door's seal."""
    sealed = read_sealed(path, keys.audit_head)
    if isinstance(sealed, Refusal):
        return None
    count, mac = sealed.header.get("count"), sealed.header.get("mac")
    if type(count) is not int or not isinstance(mac, str) or not _is_mac(mac):
        return None
    return AuditHead(count, mac)


def verify_audit(
    path: Path, keys: AccessKeys, *, newest_known: AuditHead | None = None
) -> AuditReport:
    """Return what a check of the log at ``path`` finds; never raises for what the log holds.

    ``newest_known`` is a head that was kept elsewhere: a log that does not reach it was put back.

    Raises:
        AuditError: The file cannot be read.
    """
    # Read before the log is: a log that grows meanwhile is never behind it.
    head = read_head(path.with_name(path.name + HEAD_SUFFIX), keys)
    marks = [known.count for known in (head, newest_known) if known is not None]
    chain, problem, torn = _follow_chain(path, keys, marks)
    report = AuditReport(path=path, count=chain.count, last_mac=chain.mac, torn_bytes=torn)
    if problem:
        return replace(report, problem=problem, bad_line=chain.count + 1)
    if head is None:
        text = "its head is missing, was changed, or is of another door"
        return replace(report, problem=text)
    for known, whose in ((head, "its head"), (newest_known, "the head that was kept elsewhere")):
        problem = chain.problem_with(known, whose) if known is not None else ""
        if problem:
            return replace(report, problem=problem)
    # One record may be on the disk and its head not: the power went between the two.
    if chain.count > head.count + 1:
        text = "it has more records than its head counts; the head was put back"
        return replace(report, problem=text)
    return report


@dataclass(slots=True)
class _Chain:
    """The chain as far as it is good, and the HMACs at the marks that were asked for."""

    marked: dict[int, str]
    count: int = 0
    mac: str = START.mac

    def grow(self, mac: str) -> None:
        self.count, self.mac = self.count + 1, mac
        if self.count in self.marked:
            self.marked[self.count] = mac

    def problem_with(self, head: AuditHead, whose: str) -> str:
        if head.count > self.count:
            missing = head.count - self.count
            return f"{missing} records at the end are missing, that {whose} counts"
        if not hmac.compare_digest(self.marked[head.count], head.mac):
            return f"record {head.count} is another than {whose} names; the log was put back"
        return ""


def _follow_chain(path: Path, keys: AccessKeys, marks: Sequence[int]) -> tuple[_Chain, str, int]:
    chain = _Chain(dict.fromkeys(marks, START.mac))
    key = keys.audit
    try:
        with open_plain(path) as file:
            while line := file.readline(MAX_LINE + 1):
                if not line.endswith(b"\n"):
                    return _unfinished(chain, line, at_end=not file.read(1))
                mac = _mac_of(line, key, AuditHead(chain.count, chain.mac))
                if mac is None:
                    return chain, "it was changed, inserted, moved, or one before it is gone", 0
                chain.grow(mac)
    except OSError as exc:
        raise AuditError(f"the audit log {path} cannot be read: {exc.strerror}") from exc
    return chain, "", 0


def _unfinished(chain: _Chain, line: bytes, *, at_end: bool) -> tuple[_Chain, str, int]:
    if at_end and len(line) <= MAX_LINE:
        return chain, "", len(line)
    return chain, "it is longer than any record", 0


def _mac_of(line: bytes, key: bytes, before: AuditHead) -> str | None:
    """Return the HMAC of ``line`` if it is the record that belongs after ``before``."""
    try:
        record = json.loads(line)
        mac = record.pop("mac")
        wanted = chained(key, before.mac, record)
        text = json.dumps({**record, "mac": mac}, sort_keys=True, allow_nan=False)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    # One record has one form on disk, to the byte: spaces and double keys say nothing unseen.
    if text.encode() + b"\n" != line or record.get("n") != before.count + 1:
        return None
    return mac if isinstance(mac, str) and hmac.compare_digest(mac, wanted) else None


def last_record(path: Path) -> dict[str, Any]:
    """Return the newest record of a log that was checked before; empty for an empty log."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - 2 * MAX_LINE))
        lines = file.read().splitlines()
    return dict(json.loads(lines[-1])) if lines else {}


def read_records(path: Path, keys: AccessKeys) -> list[dict[str, Any]]:
    """Return the records of a good log, oldest first.

    Raises:
        AuditError: The log is not good.
    """
    verify_audit(path, keys).require_good()
    lines = path.read_bytes().split(b"\n")[:-1]
    return [dict(json.loads(line)) for line in lines]


def _is_mac(text: str) -> bool:
    return len(text) == _MAC_DIGITS and all(digit in "0123456789abcdef" for digit in text)
