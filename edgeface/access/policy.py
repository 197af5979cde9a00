"""The policy of one door: what must hold before it opens. Frozen, and checked when it is made."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from edgeface.access.schedule import Schedule
from edgeface.decision import DEFAULT_MARGIN
from edgeface.errors import AccessPolicyError
from edgeface.gallery.base import normalise_subject_name

__all__ = [
    "ALWAYS",
    "AccessPolicy",
    "EvidenceRule",
    "FactorRule",
    "LockoutRule",
    "Permit",
]

ALWAYS = "always"
"""Name of the schedule that every policy has."""

_MODEL_ID = re.compile("[0-9a-f]{64}")
_MAX_LEASE_S = 5.0
# Hangul fillers and the blank of Braille: printable for Unicode, and nothing is seen.
_BLANK_LETTERS = frozenset("\u115f\u1160\u3164\uffa0\u2800")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceRule:
    """How much the camera must have shown of one person.

    ``frames`` of the newest ``window`` compared frames must name one subject, the first and the
    last of them ``min_span_s`` apart; where frames come faster, as large a share of more frames.
    5 of 7: at one false accept in a thousand frames, taken as independent, five of seven have a
    probability of 2e-14. Frames of one face are not independent: the threshold alone must hold,
    and this guards against slips only. 0.4 s: longer than any single disturbed exposure, shorter
    than people notice.

    ``max_age_s`` of the newest frame when the door is decided on: 0.5 s, a person who walks at
    1.4 m/s is still at the door; no two frames in a row may be further apart either.
    ``max_window_s`` is the age of the oldest frame that counts: 3 s.

    ``min_margin``: how far the score must be above that of any other accepted subject; the default
    is that of the SDK's own decisions. ``min_eyes_open``: the eyes must be open by this much in
    one of the frames at least, so that nobody opens a door asleep; 0.01 as in the SDK's gates, and
    0 turns it off. ``ignore_faces_below``: a face whose area is below this share of the larger
    one's is not counted as a second person; 0 counts every face.
    """

    frames: int = 5
    window: int = 7
    min_span_s: float = 0.4
    max_age_s: float = 0.5
    max_window_s: float = 3.0
    min_margin: float = DEFAULT_MARGIN
    min_eyes_open: float = 0.01
    ignore_faces_below: float = 0.0

    def __post_init__(self) -> None:
        if not (3 <= self.frames <= self.window <= 50 and 2 * self.frames > self.window):
            raise AccessPolicyError(
                "wanted 3 <= frames <= window <= 50 and more than half of the window, got frames = "
                f"{self.frames} and window = {self.window}"
            )
        _within("min_span_s", self.min_span_s, 0.2, 5.0)
        _within("max_age_s", self.max_age_s, 0.05, 0.5)
        _within("max_window_s", self.max_window_s, max(0.5, self.min_span_s), 10.0)
        _within("min_margin", self.min_margin, 0.0, 1.0)
        _within("min_eyes_open", self.min_eyes_open, 0.0, 0.1)
        _within("ignore_faces_below", self.ignore_faces_below, 0.0, 0.25)


@dataclass(frozen=True, slots=True, kw_only=True)
class FactorRule:
    """What a person must give beside the face.

    ``second_factor`` is "required", or "none" where the face alone opens; that needs
    ``AccessPolicy.risk_accepted_by``. ``max_age_s``: how long a PIN or code holds after it was
    typed; 20 s, to look up into the camera. ``intent`` demands a press of a button, since a face
    in view wants nothing (NIST SP 800-63B-4); a press holds for ``intent_s``, 10 s. ``duress`` says
    what a duress PIN does: "open", so that nobody is hurt for it, or "deny"; the silent alarm is
    raised either way.
    """

    second_factor: Literal["required", "none"] = "required"
    max_age_s: float = 20.0
    intent: bool = True
    intent_s: float = 10.0
    duress: Literal["open", "deny"] = "open"

    def __post_init__(self) -> None:
        _one_of("second_factor", self.second_factor, ("required", "none"))
        _one_of("duress", self.duress, ("open", "deny"))
        _within("factors.max_age_s", self.max_age_s, 1.0, 120.0)
        _within("intent_s", self.intent_s, 1.0, 60.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LockoutRule:
    """What failed attempts in a row lead to, at this door and whoever made them.

    From the ``free_failures``-th on, everything waits for ``first_wait_s``, doubled for each
    further failure up to ``max_wait_s``; after ``face_off_after`` the face opens nothing until
    somebody gives a second factor. NIST SP 800-63B-4 allows 5 (10 with PAD) before waits of 30 s
    and 50 (100) before the end; 20 is the stricter figure of docs/access.md. ``attack_wait_s`` is
    the wait after a single presentation attack: 10 s. Looser figures than these defaults need
    ``AccessPolicy.risk_accepted_by``. Wrong codes are counted for each person by the same figures.
    """

    free_failures: int = 5
    first_wait_s: float = 30.0
    max_wait_s: float = 900.0
    face_off_after: int = 20
    attack_wait_s: float = 10.0

    def __post_init__(self) -> None:
        if not 1 <= self.free_failures <= 10:
            raise AccessPolicyError(f"free_failures must be in 1..10, got {self.free_failures}")
        if not self.free_failures < self.face_off_after <= 100:
            raise AccessPolicyError(
                f"face_off_after must be above free_failures and at most 100, got "
                f"{self.face_off_after}"
            )
        _within("first_wait_s", self.first_wait_s, 30.0, 3600.0)
        _within("max_wait_s", self.max_wait_s, self.first_wait_s, 86400.0)
        _within("attack_wait_s", self.attack_wait_s, 0.0, 3600.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """Who may pass, and when: any of ``schedules``, names of the policy's."""

    subject: str
    schedules: tuple[str, ...] = (ALWAYS,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "subject", normalise_subject_name(self.subject))
        if not self.schedules:
            raise AccessPolicyError("a permit must name a schedule; leave it out for always")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessPolicy:
    """The rules of one door.

    ``permits`` name who may pass; a subject without one never does. ``schedules`` are in
    ``time_zone``, an IANA name. ``require_pad`` demands presentation attack detection. Without it,
    without a second factor or a button, or with looser figures for failed attempts,
    ``risk_accepted_by`` must say who answers for that.

    ``max_fpir`` is the highest false positive identification rate of an operating point that is
    accepted: 1e-4, one stranger in ten thousand. ``model_id`` and ``camera``, the name of a
    source, allow no other; empty ones allow any. ``trusted_network`` allows a source that is not a
    webcam or CSI camera of this machine: a stream, whose pictures anybody on its network may
    replace, or a GStreamer pipeline, which may read anything. ``anti_passback``: a subject
    who came in and did not leave is refused ("hard"), reported ("soft"), or neither ("off").
    ``lease_s`` is how long a lease holds, at most 5 s; 2 s, a lock answers in less.

    ``demonstration`` is for trying things out: the package's own model, provisional operating
    points and recorded video are accepted, and every lease says so; no lock that was not told to
    accepts such a lease.
    """

    door: str
    permits: tuple[Permit, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    time_zone: str = "UTC"
    evidence: EvidenceRule = field(default_factory=EvidenceRule)
    factors: FactorRule = field(default_factory=FactorRule)
    lockout: LockoutRule = field(default_factory=LockoutRule)
    require_pad: bool = True
    max_fpir: float = 1e-4
    model_id: str = ""
    camera: str = ""
    trusted_network: bool = False
    anti_passback: Literal["off", "soft", "hard"] = "off"
    lease_s: float = 2.0
    risk_accepted_by: str = ""
    demonstration: bool = False
    _permit_of: Mapping[str, Permit] = field(init=False, repr=False, compare=False)
    _schedule_of: Mapping[str, Schedule] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not (self.door.isprintable() and 1 <= len(self.door) <= 64 and self.door.strip()):
            raise AccessPolicyError(
                f"door must be a name of 1 to 64 characters, got {self.door[:80]!r}"
            )
        _one_of("anti_passback", self.anti_passback, ("off", "soft", "hard"))
        _within("lease_s", self.lease_s, 0.2, _MAX_LEASE_S)
        _within("max_fpir", self.max_fpir, 1e-9, 1e-3)
        if self.model_id and not _MODEL_ID.fullmatch(self.model_id):
            raise AccessPolicyError(
                "model_id must be the 64 hexadecimal digits that `edgeface doctor --bundle` shows, "
                f"or be left out, got {self.model_id[:80]!r}: no door with it would ever open"
            )
        self._check_risk()
        schedules = {entry.name: entry for entry in (Schedule.always(), *self.schedules)}
        if len(schedules) <= len(self.schedules):
            raise AccessPolicyError("two schedules have one name, or one is called 'always'")
        permits = {entry.subject: entry for entry in self.permits}
        if len(permits) < len(self.permits):
            raise AccessPolicyError("two permits are for one subject; join their schedules")
        unknown = {name for entry in self.permits for name in entry.schedules} - set(schedules)
        if unknown:
            raise AccessPolicyError(
                f"a permit names the schedule {min(unknown)!r}, which the policy does not have; "
                f"it has {', '.join(sorted(schedules))}"
            )
        Schedule.check_zone(self.time_zone)
        object.__setattr__(self, "_permit_of", MappingProxyType(permits))
        object.__setattr__(self, "_schedule_of", MappingProxyType(schedules))

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> AccessPolicy:
        """Return the policy written in the file at ``path``; docs/access.md lists its keys.

        Raises:
            AccessPolicyError: The file cannot be read, has a key that is not known, a value of
                the wrong type, or asks for what is not allowed.
            MissingDependencyError: On Python 3.10 the package tomli is not installed.
        """
        from edgeface.access.policy_file import read_policy

        return read_policy(path)

    def permit_of(self, subject: str) -> Permit | None:
        """Return the permit of ``subject``, None where there is none."""
        return self._permit_of.get(subject)

    def schedules_of(self, permit: Permit) -> tuple[Schedule, ...]:
        """Return the schedules of ``permit``."""
        return tuple(self._schedule_of[name] for name in permit.schedules)

    def _check_risk(self) -> None:
        lacking = [
            text
            for text, is_lacking in (
                ("without a second factor", self.factors.second_factor == "none"),
                ("without presentation attack detection", not self.require_pad),
                ("without a press of a button", not self.factors.intent),
                ("after more than 5 failures in a row", self.lockout.free_failures > 5),
                ("by face after more than 20 failures", self.lockout.face_off_after > 20),
                ("within 10 s of an attack", self.lockout.attack_wait_s < 10.0),
            )
            if is_lacking
        ]
        if lacking and not _is_name(self.risk_accepted_by):
            raise AccessPolicyError(
                f"the door would open {' and '.join(lacking)}; write who answers for that as "
                'risk_accepted_by = "NAME", or leave the defaults'
            )


def _is_name(text: str) -> bool:
    """Return whether ``text`` shows anything: some letters and signs of Unicode are blank."""
    shown = [c for c in text if c.isalnum() and c not in _BLANK_LETTERS]
    return text.isprintable() and bool(shown)


def _within(name: str, value: float, low: float, high: float) -> None:
    # False for NaN.
    if not (low <= value <= high and math.isfinite(value)):
        raise AccessPolicyError(f"{name} must be in {low:g}..{high:g}, got {value}")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise AccessPolicyError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
