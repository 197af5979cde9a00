"""Policies: what may be written, what is refused, and when a schedule holds."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from edgeface.access import (
    AccessPolicy,
    EvidenceRule,
    FactorRule,
    LockoutRule,
    Permit,
    Schedule,
    parse_policy,
)
from edgeface.errors import AccessPolicyError

WHOLE = """
schema = 1
door = "front"
time_zone = "Europe/Berlin"
max_fpir = 1e-4
lease_s = 3
anti_passback = "soft"
camera = "webcam 0"

[evidence]
frames = 6
window = 9
min_span_s = 0.5

[factors]
second_factor = "required"
duress = "deny"

[lockout]
free_failures = 3
face_off_after = 10

[[schedules]]
name = "cleaning"
days = ["tue", "fri"]
start = "05:00"
end = "07:30"
closed_on = ["2026-12-25"]

[[permits]]
subject = "Ada"

[[permits]]
subject = "Bob"
schedules = ["cleaning"]
"""


def test_a_whole_policy_is_read(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(WHOLE)
    path.chmod(0o644)
    policy = AccessPolicy.from_toml(path)
    assert policy == AccessPolicy(
        door="front",
        time_zone="Europe/Berlin",
        max_fpir=1e-4,
        lease_s=3.0,
        anti_passback="soft",
        camera="webcam 0",
        evidence=EvidenceRule(frames=6, window=9, min_span_s=0.5),
        factors=FactorRule(duress="deny"),
        lockout=LockoutRule(free_failures=3, face_off_after=10),
        schedules=(
            Schedule(
                name="cleaning",
                days=("tue", "fri"),
                start="05:00",
                end="07:30",
                closed_on=("2026-12-25",),
            ),
        ),
        permits=(Permit(subject="Ada"), Permit(subject="Bob", schedules=("cleaning",))),
    )


def test_the_shortest_policy_has_the_strict_defaults_and_lets_nobody_in() -> None:
    policy = parse_policy('schema = 1\ndoor = "front"')
    assert policy == AccessPolicy(door="front")
    assert policy.require_pad
    assert policy.factors.second_factor == "required"
    assert policy.factors.intent
    assert policy.permits == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "schema = 1"),
        ("schema = 2\ndoor = 'x'", "schema = 1"),
        ("schema = true\ndoor = 'x'", "schema = 1"),
        ("schema = 1", "must have the key 'door'"),
        ("schema = 1\ndoor = ''", "door must be a name"),
        ("schema = 1\ndoor = 'x'\ndoors = 1", "'doors', which is not known"),
        ("schema = 1\ndoor = 'x'\n_permit_of = {}", "not known"),
        ("schema = 1\ndoor = 3", "door of the policy must be str"),
        ("schema = 1\ndoor = 'x'\nrequire_pad = 0", "require_pad of the policy must be bool"),
        ("schema = 1\ndoor = 'x'\nlease_s = true", "lease_s of the policy must be float"),
        ("schema = 1\ndoor = 'x'\nlease_s = 5.1", "lease_s must be in 0.2..5"),
        ("schema = 1\ndoor = 'x'\nlease_s = nan", "lease_s must be in"),
        ("schema = 1\ndoor = 'x'\nlease_s = " + "9" * 400, "too large a number"),
        ("schema = 1\ndoor = 'x'\nmax_fpir = 0.01", "max_fpir must be in"),
        ("schema = 1\ndoor = 'x'\nrequire_pad = false", "risk_accepted_by"),
        ("schema = 1\ndoor = 'x'\n[factors]\nsecond_factor = 'none'", "without a second factor"),
        ("schema = 1\ndoor = 'x'\n[factors]\nintent = false", "without a press"),
        ("schema = 1\ndoor = 'x'\n[lockout]\nfree_failures = 6", "more than 5 failures"),
        ("schema = 1\ndoor = 'x'\n[lockout]\nface_off_after = 21", "more than 20 failures"),
        ("schema = 1\ndoor = 'x'\n[lockout]\nattack_wait_s = 9.5", "10 s of an attack"),
        ("schema = 1\ndoor = 'x'\n[factors]\nsecond_factor = 'maybe'", "must be one of"),
        ("schema = 1\ndoor = 'x'\nanti_passback = 'on'", "must be one of"),
        ("schema = 1\ndoor = 'x'\ntime_zone = 'Mars/Base'", "time zone"),
        ("schema = 1\ndoor = 'x'\ntime_zone = '../../etc/passwd'", "time zone"),
        ("schema = 1\ndoor = 'x'\n[evidence]\nframes = 2", "more than half"),
        ("schema = 1\ndoor = 'x'\n[evidence]\nwindow = 20", "more than half"),
        ("schema = 1\ndoor = 'x'\n[evidence]\nframes = 5.0", "frames of evidence must be int"),
        ("schema = 1\ndoor = 'x'\n[evidence]\nmax_age_s = 0.6", "max_age_s must be in"),
        ("schema = 1\ndoor = 'x'\n[lockout]\nfree_failures = 11", "free_failures must be in"),
        ("schema = 1\ndoor = 'x'\n[lockout]\nfirst_wait_s = 1", "first_wait_s must be in"),
        ("schema = 1\ndoor = 'x'\n[lockout]\nface_off_after = 5", "face_off_after"),
        ("schema = 1\ndoor = 'x'\nlockout = 3", "lockout must be a table"),
        ("schema = 1\ndoor = 'x'\npermits = {}", "written as"),
        ("schema = 1\ndoor = 'x'\n[[permits]]", "must have the key 'subject'"),
        ("schema = 1\ndoor = 'x'\n[[permits]]\nsubject = \"\\u202e\"", "subject name"),
        ("schema = 1\ndoor = 'x'\n[[permits]]\nsubject = 'A'\nschedules = ['no']", "'no'"),
        ("schema = 1\ndoor = 'x'\n[[permits]]\nsubject = 'A'\nschedules = [1]", "list of texts"),
        ("schema = 1\ndoor = 'x'\n[[permits]]\nsubject = 'A'\nschedules = []", "name a schedule"),
        (
            "schema = 1\ndoor = 'x'\n[[permits]]\nsubject = 'A'\n[[permits]]\nsubject = 'A'",
            "one subject",
        ),
        ("schema = 1\ndoor = 'x'\n[[schedules]]\nname = 'always'", "'always'"),
        ("schema = 1\ndoor = 'x'\n[[schedules]]\nname = 'n'\ndays = ['monday']", "days"),
        ("schema = 1\ndoor = 'x'\n[[schedules]]\nname = 'n'\nstart = '9:00'", "HH:MM"),
        (
            "schema = 1\ndoor = 'x'\n[[schedules]]\nname = 'n'\nstart = '08:00'\nend = '08:00'",
            "ends",
        ),
        ("schema = 1\ndoor = 'x'\n[[schedules]]\nname = 'n'\nstart = '24:00'", "starts at 24:00"),
        ("schema = 1\ndoor = 'x'\n[[schedules]]\nname = 'n'\nclosed_on = ['25.12.']", "YYYY-MM-DD"),
        ("schema = 1\ndoor = ", "not TOML"),
        ("schema = 1\ndoor = 'x'\n" + "a = " + "[" * 5000, "not TOML"),
    ],
)  # fmt: skip
def test_what_is_not_known_or_not_allowed_is_refused(text: str, message: str) -> None:
    with pytest.raises(AccessPolicyError, match=message):
        parse_policy(text)


def test_a_risk_that_somebody_answers_for_is_accepted() -> None:
    text = 'schema = 1\ndoor = "x"\nrisk_accepted_by = "J. Doe"\n[factors]\nsecond_factor = "none"'
    assert parse_policy(text).risk_accepted_by == "J. Doe"


@pytest.mark.parametrize("name", ["", " ", "\u200b", "\u3164", "\u2800", "\u202eJ. Doe", "-"])
def test_nobody_answers_for_a_risk_under_a_name_that_shows_nothing(name: str) -> None:
    with pytest.raises(AccessPolicyError, match="risk_accepted_by"):
        AccessPolicy(door="x", require_pad=False, risk_accepted_by=name)


def test_looser_figures_are_accepted_where_somebody_answers_for_them() -> None:
    rule = LockoutRule(free_failures=10, face_off_after=100, attack_wait_s=0.0)
    assert AccessPolicy(door="x", lockout=rule, risk_accepted_by="J. Doe").lockout == rule


def test_a_file_that_cannot_be_a_policy_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    with pytest.raises(AccessPolicyError, match="cannot be read"):
        AccessPolicy.from_toml(path)
    with pytest.raises(AccessPolicyError, match="cannot be read"):
        AccessPolicy.from_toml(tmp_path)
    path.write_bytes(b"\xff\xfe")
    path.chmod(0o600)
    with pytest.raises(AccessPolicyError, match="UTF-8"):
        AccessPolicy.from_toml(path)
    path.write_bytes(b"#" * (1 << 20) + b"##")
    with pytest.raises(AccessPolicyError, match="larger"):
        AccessPolicy.from_toml(path)


@pytest.mark.skipif(os.name != "posix", reason="permissions are elsewhere on Windows")
def test_a_policy_that_others_may_have_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(WHOLE)
    for mode in (0o666, 0o664, 0o602):
        path.chmod(mode)
        with pytest.raises(AccessPolicyError, match="can be written by others"):
            AccessPolicy.from_toml(path)
    path.chmod(0o644)
    (tmp_path / "link.toml").symlink_to(path)
    with pytest.raises(AccessPolicyError, match="no link"):
        AccessPolicy.from_toml(tmp_path / "link.toml")
    os.mkfifo(tmp_path / "pipe.toml", 0o600)
    with pytest.raises(AccessPolicyError, match="plain file"):
        AccessPolicy.from_toml(tmp_path / "pipe.toml")
    assert AccessPolicy.from_toml(path).door == "front"
    owner = path.stat().st_uid
    if owner == 0:
        os.chown(path, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(AccessPolicyError, match="another user"):
        AccessPolicy.from_toml(path)


def test_2000_damaged_policies_are_read_or_refused_with_a_sentence() -> None:
    rng, read = random.Random(6), 0
    for _ in range(2000):
        text = WHOLE
        for _ in range(rng.randint(1, 4)):
            k = rng.randrange(len(text))
            text = (
                text[:k]
                + rng.choice(("", '"', "=", "[", "\n", "9", "-", "nan", "é", "\0"))
                + text[k + rng.randrange(3) :]
            )
        try:
            parse_policy(text)
            read += 1
        except AccessPolicyError:
            continue
    assert 0 < read < 1500


BERLIN = ZoneInfo("Europe/Berlin")
DAY = Schedule(name="day", days=("mon", "tue"), start="07:00", end="19:00")
NIGHT = Schedule(name="night", days=("fri",), start="22:00", end="06:00")


@pytest.mark.parametrize(
    ("schedule", "local", "held"),
    [
        (DAY, (2026, 6, 1, 7, 0), True),  # a Monday
        (DAY, (2026, 6, 1, 6, 59), False),
        (DAY, (2026, 6, 1, 18, 59), True),
        (DAY, (2026, 6, 1, 19, 0), False),
        (DAY, (2026, 6, 3, 12, 0), False),
        (NIGHT, (2026, 6, 5, 21, 59), False),  # a Friday
        (NIGHT, (2026, 6, 5, 22, 0), True),
        (NIGHT, (2026, 6, 6, 5, 59), True),
        (NIGHT, (2026, 6, 6, 6, 0), False),
        (NIGHT, (2026, 6, 6, 23, 0), False),
        (NIGHT, (2026, 6, 5, 3, 0), False),
        # The clock goes forward on 2026-03-29, from 2:00 to 3:00, and back on 2026-10-25.
        (replace(NIGHT, days=("sat",), end="03:30"), (2026, 3, 29, 3, 15), True),
        (replace(DAY, days=("sun",), start="02:15", end="02:45"), (2026, 10, 25, 2, 30), True),
        (replace(DAY, closed_on=("2026-06-01",)), (2026, 6, 1, 12, 0), False),
        (Schedule.always(), (2026, 6, 1, 0, 0), True),
    ],
)
def test_when_a_schedule_holds(
    schedule: Schedule, local: tuple[int, int, int, int, int], held: bool
) -> None:
    for fold in (0, 1):
        moment = datetime(*local, tzinfo=BERLIN, fold=fold).astimezone(timezone.utc)
        assert schedule.holds_at(moment, "Europe/Berlin") is held


def test_only_a_schedule_that_always_holds_needs_no_clock() -> None:
    assert not Schedule.always().needs_clock
    assert DAY.needs_clock
    assert Schedule(name="x", closed_on=("2026-12-25",)).needs_clock


@pytest.mark.parametrize("model_id", ["a" * 16, "a" * 63, "A" * 64, "g" * 64, " " * 64])
def test_a_model_that_no_bundle_can_have_is_refused(model_id: str) -> None:
    with pytest.raises(AccessPolicyError, match="64 hexadecimal digits"):
        AccessPolicy(door="front door", model_id=model_id)
    assert AccessPolicy(door="front door", model_id="a" * 64).model_id
