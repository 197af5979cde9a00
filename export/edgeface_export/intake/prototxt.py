"""Reads protobuf's text format, as far as Caffe's network descriptions use it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from edgeface.errors import CheckpointFormatError
from edgeface_export.checkpoints.text import clip

__all__ = ["Message", "parse_prototxt"]

MAX_CHARACTERS = 4_000_000
"""Of a description; ResNet-152's has 200,000."""
_MAX_DEPTH = 16
_TOKEN = re.compile(
    r"""\s+|\#[^\n]*|(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
    r"""|(?P<word>[A-Za-z0-9_.+\-/]+)|(?P<mark>[{}:<>\[\],;])"""
)
Value: TypeAlias = "str | Message"


@dataclass(slots=True, eq=False)
class Message:
    """Fields by name, each with its values in order; numbers and names of constants are texts."""

    entries: dict[str, list[Value]] = field(default_factory=dict)

    def messages(self, name: str) -> list[Message]:
        """Return the messages called ``name``."""
        return [value for value in self.entries.get(name, []) if isinstance(value, Message)]

    def message(self, name: str) -> Message:
        """Return the first message called ``name``, an empty one where there is none."""
        return next(iter(self.messages(name)), Message())

    def texts(self, name: str) -> list[str]:
        """Return the texts called ``name``."""
        return [value for value in self.entries.get(name, []) if isinstance(value, str)]

    def text(self, name: str, default: str = "") -> str:
        """Return the last text called ``name``."""
        return next(reversed(self.texts(name)), default)

    def integers(self, name: str) -> list[int]:
        """Return the whole numbers called ``name``.

        Raises:
            CheckpointFormatError: One is no whole number of 31 bits.
        """
        return [_integer(name, value) for value in self.texts(name)]

    def integer(self, name: str, default: int) -> int:
        """Return the last whole number called ``name``."""
        return next(reversed(self.integers(name)), default)

    def number(self, name: str, default: float) -> float:
        """Return the last number called ``name``.

        Raises:
            CheckpointFormatError: It is no number.
        """
        value = self.text(name, str(default)).rstrip("f")
        try:
            return float(value)
        except ValueError as exc:
            raise CheckpointFormatError(f"{name} is {clip(value)!r}, wanted a number") from exc

    def flag(self, name: str, default: bool) -> bool:
        """Return whether ``name`` is set."""
        return self.text(name, str(default)).lower() in ("true", "t", "1")


def _integer(name: str, value: str) -> int:
    if re.fullmatch(r"[+-]?\d{1,9}", value) is None:
        raise CheckpointFormatError(f"{name} is {clip(value)!r}, wanted a whole number")
    return int(value)


def parse_prototxt(text: str) -> Message:
    """Return the message that ``text`` describes.

    Raises:
        CheckpointFormatError: It is no text format, too long, or nested too deep.
    """
    if len(text) > MAX_CHARACTERS:
        raise CheckpointFormatError(
            f"the description has {len(text):,} characters, at most {MAX_CHARACTERS:,} are read"
        )
    root = Message()
    unclosed = [root]
    tokens = _tokens(text)
    for kind, token in tokens:
        _take(kind, token, tokens, unclosed)
    if len(unclosed) > 1:
        raise CheckpointFormatError("truncated: a message is not closed; get the file again")
    return root


def _take(
    kind: str, token: str, tokens: Iterator[tuple[str, str]], unclosed: list[Message]
) -> None:
    """Take the field or the end of a message that begins with ``token``."""
    if token in ("}", ">") and len(unclosed) > 1:
        unclosed.pop()
    elif kind == "word":
        made = _field(tokens, unclosed[-1], token)
        unclosed += [] if made is None else [made]
    elif token not in (",", ";"):
        raise CheckpointFormatError(f"unexpected {clip(token)!r} where a field begins")
    if len(unclosed) > _MAX_DEPTH:
        raise CheckpointFormatError(f"messages are nested more than {_MAX_DEPTH} deep")


def _field(tokens: Iterator[tuple[str, str]], into: Message, name: str) -> Message | None:
    """Read the value of ``name``; return it where it is a message that begins."""
    kind, token = next(tokens, ("", ""))
    if token == ":":
        kind, token = next(tokens, ("", ""))
    values = into.entries.setdefault(name, [])
    if token in ("{", "<"):
        made = Message()
        values.append(made)
        return made
    if token == "[":
        values += _list(tokens, name)
    elif kind == "text":
        values.append(token[1:-1])
    elif kind == "word":
        values.append(token)
    else:
        raise CheckpointFormatError(f"{clip(name)} has no value")
    return None


def _list(tokens: Iterator[tuple[str, str]], name: str) -> Iterator[str]:
    for kind, token in tokens:
        if token == "]":
            return
        if kind == "mark" and token != ",":
            break
        if kind != "mark":
            yield token[1:-1] if kind == "text" else token
    raise CheckpointFormatError(f"the list {clip(name)} is not closed")


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise CheckpointFormatError(
                f"unexpected {clip(text[position : position + 20])!r}; wanted a network description"
            )
        position = found.end()
        if found.lastgroup is not None:
            yield found.lastgroup, found.group()
