"""The words of the pages, one message file for each language."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any

from examples.attendance.web.settings import LANGUAGES

__all__ = ["Messages", "choose_language", "messages_of"]

_FOLDER = Path(__file__).parent / "messages"


class Messages:
    """The texts of one language.

    ``text`` fills ``{gaps}``; with ``count`` it takes the text named ``KEY.one`` or ``KEY.other``.
    """

    def __init__(self, language: str, content: Mapping[str, Any]) -> None:
        self.language = language
        self._texts: Mapping[str, str] = content["texts"]
        self._sentences: Mapping[str, str] = content["sentences"]
        self._months: list[str] = content["months"]
        self._weekdays: list[str] = content["weekdays"]
        self._decimal_mark: str = content["decimal_mark"]

    @property
    def keys(self) -> frozenset[str]:
        """The names of all texts."""
        return frozenset(self._texts)

    def text(self, key: str, /, **values: object) -> str:
        """Return the text named ``key``.

        Raises:
            KeyError: No such text, or a gap without a value.
        """
        if "count" in values:
            key = f"{key}.{'one' if values['count'] == 1 else 'other'}"
        return self._texts[key].format_map(values)

    def sentence(self, english: str) -> str:
        """Return what the SDK or the office says in English, in this language where it is known.

        It begins with a capital letter and ends with a full stop.
        """
        said = self._sentences.get(english, english).strip()
        end = "" if said.endswith((".", "!", "?", "…")) or not said else "."
        return f"{said[:1].upper()}{said[1:]}{end}"

    def day(self, day: date) -> str:
        """Return a date in words."""
        weekday, month = self._weekdays[day.weekday()], self._months[day.month - 1]
        return self.text("format.day", weekday=weekday, day=day.day, month=month, year=day.year)

    def short_day(self, day: date) -> str:
        """Return the day of the week and of the month."""
        return self.text("format.short_day", weekday=self._weekdays[day.weekday()][:2], day=day.day)

    def month(self, day: date) -> str:
        """Return the month and the year of a date."""
        return f"{self._months[day.month - 1]} {day.year}"

    def hours(self, hours: float) -> str:
        """Return hours with one decimal place."""
        return f"{hours:.1f}".replace(".", self._decimal_mark)

    def duration(self, seconds: float) -> str:
        """Return hours and minutes."""
        minutes = max(0, int(seconds // 60))
        return self.text("format.duration", hours=minutes // 60, minutes=f"{minutes % 60:02d}")

    def clock(self, moment: datetime) -> str:
        """Return the time of day."""
        return f"{moment:%H:%M}"


@cache
def messages_of(language: str) -> Messages:
    """Return the texts of a language of ``LANGUAGES``."""
    file = _FOLDER / f"{language}.json"
    return Messages(language, json.loads(file.read_text(encoding="utf-8")))


def choose_language(cookie: str | None, accepted: str, setting: str) -> str:
    """Return the language of a page: the one chosen, the browser's first known one, the setting.

    ``accepted`` is the Accept-Language header, "" to go by the setting.
    """
    if cookie in LANGUAGES:
        return str(cookie)
    for name, _ in sorted(_weighted(accepted), key=lambda pair: -pair[1]):
        if name in LANGUAGES:
            return name
    return setting if setting in LANGUAGES else LANGUAGES[0]


def _weighted(accepted: str) -> list[tuple[str, float]]:
    found = []
    for part in accepted[:500].split(","):
        name, _, quality = part.strip().partition(";q=")
        try:
            weight = float(quality) if quality else 1.0
        except ValueError:
            continue
        found.append((name.lower().partition("-")[0], weight))
    return found
