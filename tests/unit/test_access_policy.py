"""Policies: what may be written, what is refused, and when a schedule holds."""

from __future__ import annotations

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
        ("schema = 1\ndoor = 'x'\nmax_fpir = 0.01", "max_fpir must be in"),
        ("schema = 1\ndoor = 'x'\nrequire_pad = false", "risk_accepted_by"),
        ("schema = 1\ndoor = 'x'\n[factors]\nsecond_factor = 'none'", "without a second factor"),
        ("schema = 1\ndoor = 'x'\n[factors]\nintent = false", "without a press"),
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


def test_a_file_that_cannot_be_a_policy_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    with pytest.raises(AccessPolicyError, match="cannot be read"):
        AccessPolicy.from_toml(path)
    with pytest.raises(AccessPolicyError, match="cannot be read"):
        AccessPolicy.from_toml(tmp_path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(AccessPolicyError, match="UTF-8"):
        AccessPolicy.from_toml(path)
    path.write_bytes(b"#" * (1 << 20) + b"##")
    with pytest.raises(AccessPolicyError, match="larger"):
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
