"""Makes text that came out of a file fit to be printed on one line."""

from __future__ import annotations

__all__ = ["clip", "plural", "printable", "without_surrogates", "words"]

_LONGEST_QUOTE = 100


def printable(text: str) -> str:
    """``text`` with line ends, terminal sequences and lone surrogates escaped."""
    if text.isprintable():
        return text
    return text.encode("unicode_escape").decode("ascii")


def clip(text: object) -> str:
    """``text`` on one line, cut to 100 characters; give it strings and errors, never containers."""
    full = str(text)
    shown = printable(full[:_LONGEST_QUOTE])
    return shown if len(full) <= _LONGEST_QUOTE else f"{shown}…"


def plural(count: int, noun: str) -> str:
    """Return "1 tensor", "3 tensors"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def without_surrogates(text: str) -> str:
    """``text`` with lone surrogates replaced, so that it can be written as UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode("utf-8")
    return text


def words(text: str) -> frozenset[str]:
    """The words of ``text``, for tables of names."""
    return frozenset(text.split())
