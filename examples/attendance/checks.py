"""Checks of values that people type: settings, names, PINs, reasons."""

from __future__ import annotations

import math
import unicodedata
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from edgeface.errors import InvalidInputError
from edgeface.gallery import normalise_subject_name
from examples.attendance.errors import AttendanceError

if TYPE_CHECKING:
    from examples.attendance.values import Settings

__all__ = ["check_settings", "clean_name", "clean_pin", "clean_text"]

_LONGEST_TEXT = 500
_DAY_S = 86400.0
# Controls, formats that reorder text, lone surrogates, private use, line and paragraph ends.
_REFUSED = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_LEAST_PIN, _MOST_PIN = 4, 12


def check_settings(settings: Settings) -> None:
    """Return if every value of ``settings`` can be used.

    Raises:
        AttendanceError: One cannot.
    """
    _check_zone(settings.zone_name)
    if settings.day_starts_at.tzinfo is not None:
        raise AttendanceError("day_starts_at is a local time and has no zone of its own")
    for name in ("absence_s", "blind_s", "longest_pin_visit_s"):
        value = getattr(settings, name)
        if not (math.isfinite(value) and 0.0 <= value <= 7 * _DAY_S):
            raise AttendanceError(f"{name} must be seconds from 0 to a week, got {value}")
    if not 1 <= settings.retention_days <= 36500:
        raise AttendanceError(f"retention_days must be in 1..36500, got {settings.retention_days}")
    clean_text(settings.office_name, "the name of the office", longest=60)
    if not (settings.language.isascii() and settings.language.isalpha()):
        raise AttendanceError(f"language must be letters such as en, got {settings.language!r}")


def clean_name(name: str) -> str:
    """Return ``name`` in Unicode form NFC without outer white space.

    Raises:
        AttendanceError: Empty, too long, or with characters that cannot be seen.
    """
    try:
        return normalise_subject_name(name)
    except InvalidInputError as exc:
        raise AttendanceError(str(exc).replace("a subject name", "a name")) from exc


def clean_text(text: str, what: str, *, longest: int = _LONGEST_TEXT) -> str:
    """Return one line of text in Unicode form NFC without outer white space.

    Raises:
        AttendanceError: Empty, longer than ``longest``, or with characters that cannot be seen.
    """
    if len(text) <= 4 * longest:
        text = unicodedata.normalize("NFC", text).strip()
    if not 1 <= len(text) <= longest:
        raise AttendanceError(f"{what} must have 1 to {longest} characters, got {len(text)}")
    if any(unicodedata.category(character) in _REFUSED for character in text):
        raise AttendanceError(f"{what} must be one line, without characters that cannot be seen")
    return text


def clean_pin(pin: str) -> str:
    """Return ``pin`` if it is 4 to 12 digits, not all alike.

    Raises:
        AttendanceError: It is not; the message does not repeat it.
    """
    digits = pin.isascii() and pin.isdigit() and _LEAST_PIN <= len(pin) <= _MOST_PIN
    if not digits or len(set(pin)) == 1:
        raise AttendanceError(
            f"a PIN has {_LEAST_PIN} to {_MOST_PIN} digits that are not all the same"
        )
    return pin


def _check_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as exc:
        raise AttendanceError(
            f"{name!r} is no time zone; give an IANA name such as Europe/Berlin, and install the "
            "package tzdata where the system has no zones"
        ) from exc
