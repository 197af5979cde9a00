"""Escaped text and numbers as people read them."""

from __future__ import annotations

import html
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping

__all__ = [
    "compact",
    "count",
    "definitions",
    "fixed",
    "join",
    "listed",
    "name",
    "note",
    "percent",
    "points",
    "size",
    "text",
    "times",
]

# A narrow space that no line breaks at, a minus as wide as plus, and the sign of multiplication.
THIN, MINUS, TIMES = "\u202f", "\u2212", "\u00d7"
UNKNOWN = "not a number"
_LONGEST_TEXT = 600
_LONGEST_NAME = 120
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# Joiners that Persian and Indic scripts and emoji are written with; they reorder nothing.
_JOINERS = "\u200c\u200d"
_CODE = re.compile(r"`([^`]+)`")
_SIZES = ("bytes", "kB", "MB", "GB")


def text(value: str, longest: int = _LONGEST_TEXT) -> str:
    """Return ``value`` escaped for HTML, with its middle left out where it is too long.

    Control and format characters, the overrides of the direction of writing among them, and lone
    surrogates are written as their code, so that what is seen is what is there.
    """
    if len(value) > longest:
        kept = longest // 2
        value = f"{value[:kept]}…[{len(value) - 2 * kept:,} left out]…{value[-kept:]}"
    return html.escape("".join(_visible(letter) for letter in value), quote=True)


def name(value: str) -> str:
    """Return ``value``, a name from outside, as an element whose writing direction is its own."""
    return f"<bdi>{text(value, longest=_LONGEST_NAME)}</bdi>"


def note(value: str) -> str:
    """Return ``value``, a sentence for people, with what stands in backticks as code."""
    return _CODE.sub(r"<code>\1</code>", text(value))


def _visible(letter: str) -> str:
    if letter in "\n\t":
        return " "
    unseen = unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    return f"[U+{ord(letter):04X}]" if unseen and letter not in _JOINERS else letter


def join(parts: Iterable[str]) -> str:
    """Return ``parts`` of HTML on lines of their own, without the empty ones."""
    return "\n".join(part for part in parts if part)


def listed(items: Iterable[str]) -> str:
    """Return ``items`` of HTML as a list, empty where there are none."""
    lines = [f"<li>{item}</li>" for item in items]
    return join(["<ul>", *lines, "</ul>"]) if lines else ""


def definitions(entries: Mapping[str, str]) -> str:
    """Return terms and their HTML as a list of definitions, without the empty ones."""
    lines = [f"<div><dt>{term}</dt><dd>{said}</dd></div>" for term, said in entries.items() if said]
    return join(["<dl>", *lines, "</dl>"]) if lines else ""


def compact(value: float | None, digits: int = 3) -> str:
    """Return ``value`` with ``digits`` digits, and a power of ten where it is tiny or huge."""
    if value is None:
        return UNKNOWN
    written = f"{value:.{digits}g}"
    if "e" in written:
        mantissa, exponent = written.split("e")
        power = str(int(exponent)).translate(_SUPERSCRIPT)
        written = f"{mantissa}{THIN}{TIMES}{THIN}10{power}"
    return written.replace("-", MINUS)


def fixed(value: float | None, digits: int) -> str:
    """Return ``value`` with ``digits`` decimals; nothing below 1 is rounded up to 1."""
    if value is None:
        return UNKNOWN
    written = f"{value:.{digits}f}"
    if value < 1 and float(written) == 1:
        written = f"{math.floor(value * 10**digits) / 10**digits:.{digits}f}"
    return written.replace("-", MINUS)


def percent(share: float | None, digits: int = 1) -> str:
    """Return ``share`` in 0..1 as a percentage; only 0 is written 0, and only 1 is written 100."""
    if share is None:
        return UNKNOWN
    if share in (0, 1):
        return f"{share * 100:.0f}{THIN}%"
    least = 10.0**-digits
    if 0 < share * 100 < least:
        return f"under {least:g}{THIN}%"
    value = min(share * 100, 100 - least) if share < 1 else share * 100
    return f"{value:.{digits}f}{THIN}%".replace("-", MINUS)


def points(change: float) -> str:
    """Return a ``change`` of a rate in percentage points, with its sign."""
    written = f"{change * 100:+.2f}"
    return "0.00" if float(written) == 0 else written.replace("-", MINUS)


def times(value: float | None) -> str:
    """Return how many times, with two digits after the point below 10."""
    return (
        UNKNOWN if value is None else f"{value:.2f}{TIMES}" if value < 10 else f"{value:.0f}{TIMES}"
    )


def count(value: float) -> str:
    """Return a whole number with its thousands set apart."""
    return f"{value:,.0f}"


def size(n_bytes: float) -> str:
    """Return a size in decimal units, as file managers show it."""
    step = 0
    # 999.5 and above would be written 1e+03.
    while n_bytes >= 999.5 and step < len(_SIZES) - 1:
        n_bytes, step = n_bytes / 1000, step + 1
    return f"{n_bytes:.3g}{THIN}{_SIZES[step]}"
