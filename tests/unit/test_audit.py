"""The audit log: what is written is whole, and whatever was done to it is noticed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgeface.access import AccessKeys, AuditHead, AuditLog, read_records, verify_audit
from edgeface.cli import app
from edgeface.errors import AuditError, InvalidInputError

KEYS = AccessKeys.of_secret(hashlib.sha256(b"one").digest())
OTHER = AccessKeys.of_secret(hashlib.sha256(b"two").digest())


def write(path: Path, count: int, keys: AccessKeys = KEYS, *, salt: str = "") -> None:
    log = AuditLog.open(path, keys, create=True)
    for number in range(count):
        append(log, f"{salt}{number}")
    log.close()


def append(log: AuditLog, what: str = "x") -> AuditHead:
    return log.append(
        "opened", boot="b", mono_s=1.5, wall="2026-06-03T12:00:00", detail={"a": what}
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "audit.log"
    write(path, 20)
    return path


def head_of(path: Path) -> Path:
    return path.with_name(path.name + ".head")


def test_a_log_that_was_not_touched_is_good(log: Path) -> None:
    report = verify_audit(log, KEYS)
    assert (report.problem, report.count, report.bad_line) == ("", 20, None)
    assert [record["n"] for record in read_records(log, KEYS)] == list(range(1, 21))


def test_an_empty_log_is_good(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    write(path, 0)
    assert verify_audit(path, KEYS).problem == ""
    AuditLog.open(path, KEYS).close()


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def edit(path: Path) -> None:
    rows = lines(path)
    rows[4] = rows[4].replace(b'"4"', b'"5"')
    path.write_bytes(b"".join(rows))


def space(path: Path) -> None:
    rows = lines(path)
    rows[4] = rows[4].replace(b", ", b",  ", 1)
    path.write_bytes(b"".join(rows))


def twice(path: Path) -> None:
    rows = lines(path)
    rows[4] = rows[4].replace(b'{"boot"', b'{"boot": "z", "boot"')
    path.write_bytes(b"".join(rows))


def delete(path: Path) -> None:
    rows = lines(path)
    path.write_bytes(b"".join(rows[:4] + rows[5:]))


def swap(path: Path) -> None:
    rows = lines(path)
    rows[4], rows[5] = rows[5], rows[4]
    path.write_bytes(b"".join(rows))


def insert(path: Path) -> None:
    rows = lines(path)
    path.write_bytes(b"".join([*rows[:4], rows[3], *rows[4:]]))


def other_key(path: Path) -> None:
    rows = lines(path)
    rows[4] = rows[4].replace(rows[4][-70:-6], b"0" * 64)
    path.write_bytes(b"".join(rows))


@pytest.mark.parametrize("tamper", [edit, space, twice, delete, swap, insert, other_key])
def test_a_changed_line_is_named(log: Path, tamper: Callable[[Path], None]) -> None:
    tamper(log)
    report = verify_audit(log, KEYS)
    assert report.bad_line == 5
    assert report.problem
    with pytest.raises(AuditError, match="line 5"):
        AuditLog.open(log, KEYS)


def test_records_cut_off_at_the_end_are_noticed(log: Path) -> None:
    for keep in range(20):
        log.write_bytes(b"".join(lines(log)[:keep]))
        report = verify_audit(log, KEYS)
        assert report.bad_line is None
        assert f"{20 - keep} records at the end are missing" in report.problem
        write_again = verify_audit(log, KEYS).count
        assert write_again == keep
        log.unlink()
        head_of(log).unlink()
        write(log, 20)


def test_a_log_without_its_head_or_with_a_foreign_one_is_refused(log: Path, tmp_path: Path) -> None:
    kept = head_of(log).read_bytes()
    head_of(log).unlink()
    assert "head is missing" in verify_audit(log, KEYS).problem
    write(tmp_path / "other.log", 20, OTHER)
    head_of(log).write_bytes(head_of(tmp_path / "other.log").read_bytes())
    assert "head is missing" in verify_audit(log, KEYS).problem
    head_of(log).write_bytes(kept)
    assert verify_audit(log, KEYS).problem == ""
    assert verify_audit(log, OTHER).bad_line == 1


def test_an_older_head_is_noticed_and_an_older_log_by_the_head_kept_elsewhere(
    tmp_path: Path,
) -> None:
    path = tmp_path / "audit.log"
    write(path, 3)
    old_log, old_head = path.read_bytes(), head_of(path).read_bytes()
    opened = AuditLog.open(path, KEYS)
    for _ in range(5):
        append(opened)
    newest = opened.head
    opened.close()
    good = path.read_bytes(), head_of(path).read_bytes()
    head_of(path).write_bytes(old_head)
    assert "more records than its head" in verify_audit(path, KEYS).problem
    path.write_bytes(old_log)
    head_of(path).write_bytes(good[1])
    assert "5 records at the end are missing" in verify_audit(path, KEYS).problem
    head_of(path).write_bytes(old_head)
    assert verify_audit(path, KEYS).problem == "", "nothing inside can tell that both are old"
    assert "kept elsewhere" in verify_audit(path, KEYS, newest_known=newest).problem


def test_another_line_of_records_is_no_continuation(tmp_path: Path) -> None:
    one, two = tmp_path / "one.log", tmp_path / "two.log"
    write(one, 5, salt="a")
    write(two, 9, salt="b")
    end = AuditHead(5, json.loads(lines(one)[-1])["mac"])
    assert "record 5 is another" in verify_audit(two, KEYS, newest_known=end).problem


def test_what_a_power_cut_left_is_cut_off_and_told_and_nothing_else_is(log: Path) -> None:
    whole = log.read_bytes()
    with log.open("ab") as file:
        file.write(b'{"boot": "b", "kind"')
    assert verify_audit(log, KEYS).torn_bytes == 20
    opened = AuditLog.open(log, KEYS)
    assert (opened.recovered, log.read_bytes()) == (20, whole)
    append(opened)
    opened.close()
    assert verify_audit(log, KEYS).count == 21


def test_a_record_whose_head_the_power_took_counts(log: Path) -> None:
    old_head = head_of(log).read_bytes()
    opened = AuditLog.open(log, KEYS)
    append(opened)
    opened.close()
    head_of(log).write_bytes(old_head)
    assert verify_audit(log, KEYS).problem == ""
    opened = AuditLog.open(log, KEYS)
    assert opened.head.count == 21
    opened.close()
    log.write_bytes(b"".join(lines(log)[:20]))
    assert "1 records at the end are missing" in verify_audit(log, KEYS).problem


def test_a_log_that_is_not_there_is_not_made_unasked(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="no audit log"):
        AuditLog.open(tmp_path / "audit.log", KEYS)
    write(tmp_path / "audit.log", 1)
    (tmp_path / "audit.log").unlink()
    with pytest.raises(AuditError):
        AuditLog.open(tmp_path / "audit.log", KEYS, create=True)


@pytest.mark.skipif(os.name != "posix", reason="permissions are elsewhere on Windows")
def test_a_log_that_others_may_write_or_that_is_a_link_is_refused(log: Path) -> None:
    log.chmod(0o622)
    with pytest.raises(AuditError, match="0600"):
        AuditLog.open(log, KEYS)
    log.chmod(0o600)
    real = log.rename(log.with_name("real.log"))
    log.symlink_to(real)
    with pytest.raises(AuditError, match="plain file"):
        AuditLog.open(log, KEYS)


@pytest.mark.parametrize("where", ["write", "seal"])
def test_a_full_disk_loses_nothing_and_writing_goes_on_when_there_is_room(
    log: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    opened = AuditLog.open(log, KEYS)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    real_write = os.write

    def half(file: int, data: bytes) -> int:
        if len(data) < 40:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(file, data[: len(data) // 2])

    with monkeypatch.context() as patch:
        if where == "write":
            patch.setattr(os, "write", half)
        else:
            patch.setattr("edgeface.access.audit.write_sealed", full)
        with pytest.raises(AuditError, match="No space"):
            append(opened)
    assert verify_audit(log, KEYS).count == 20
    assert append(opened).count == 21
    opened.close()
    assert verify_audit(log, KEYS).problem == ""


def test_after_a_failed_sync_nothing_more_is_written(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = AuditLog.open(log, KEYS)

    def fails(_file: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(AuditError):
            append(opened)
    with pytest.raises(AuditError, match="not written any more"):
        append(opened)
    opened.close()


@pytest.mark.parametrize("value", [float("nan"), object(), "x" * 70_000])
def test_what_is_no_json_is_refused_and_leaves_the_log_as_it_was(log: Path, value: object) -> None:
    before = log.read_bytes()
    opened = AuditLog.open(log, KEYS)
    with pytest.raises(InvalidInputError):
        opened.append("x", boot="b", mono_s=0.0, wall="", detail={"a": value})  # type: ignore[dict-item]
    opened.close()
    assert log.read_bytes() == before


def tampered(content: bytes, rng: random.Random) -> bytes:
    """Return ``content`` changed in one random way."""
    rows = content.splitlines(keepends=True)
    # Few bytes without lines have fewer ways.
    way = rng.choice((0, 1, 5, 6) if len(rows) < 2 else range(7))
    if way == 0:  # one bit
        k = rng.randrange(len(content))
        return content[:k] + bytes([content[k] ^ (1 << rng.randrange(8))]) + content[k + 1 :]
    if way == 1:  # cut anywhere
        return content[: rng.randrange(len(content))]
    if way == 2:
        k = rng.randrange(len(rows))
        return b"".join(rows[:k] + rows[k + 1 :])
    if way == 3:
        a, b = rng.sample(range(len(rows)), 2)
        rows[a], rows[b] = rows[b], rows[a]
        return b"".join(rows)
    if way == 4:
        rows.insert(rng.randrange(len(rows) + 1), rng.choice(rows))
        return b"".join(rows)
    if way == 5:  # splice
        a, b = sorted(rng.sample(range(len(content)), 2))
        return content[:a] + content[b:]
    k = rng.randrange(len(content))
    return content[:k] + rng.randbytes(rng.randrange(1, 40)) + content[k:]


def test_300_tampered_logs_are_noticed(log: Path) -> None:
    rng, good = random.Random(8), log.read_bytes()
    for _ in range(300):
        bad = tampered(good, rng)
        if bad == good:
            continue
        log.write_bytes(bad)
        report = verify_audit(log, KEYS)
        # Bytes behind the last whole record are what a power cut leaves: told, and no record.
        assert report.problem or (report.torn_bytes and report.count == 20), bad


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    folder = tmp_path / "door"
    keys = AccessKeys.create(folder)
    write(folder / "audit.log", 4, keys)
    return folder / "audit.log"


def test_the_command_prints_the_head_and_exits_by_the_outcome(kept: Path) -> None:
    done = CliRunner().invoke(app, ["audit", "verify", str(kept)])
    assert done.exit_code == 0
    assert "4 records, whole and in their order" in done.output
    head = done.output.split("head ")[1].strip()
    again = CliRunner().invoke(app, ["audit", "verify", str(kept), "--head", head, "--json"])
    assert json.loads(again.output)["good"] is True
    rows = lines(kept)
    kept.write_bytes(b"".join([rows[0], rows[2], rows[3]]))
    done = CliRunner().invoke(app, ["audit", "verify", str(kept)])
    assert (done.exit_code, "line 2: " in done.output) == (1, True)
    answer = CliRunner().invoke(app, ["audit", "verify", str(kept), "--json"])
    assert json.loads(answer.output)["bad_line"] == 2


def test_the_command_without_a_key_says_so(tmp_path: Path, log: Path) -> None:
    done = CliRunner().invoke(app, ["audit", "verify", str(log)])
    assert done.exit_code != 0
    assert "key.json" in str(done.exception) + done.output
