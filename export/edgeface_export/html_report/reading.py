"""Takes the parts of a report out, checked for their kind; a missing part is empty."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

from edgeface.errors import InvalidInputError

__all__ = ["finite", "mapping", "numbers", "rows", "sequence", "string"]

_Row = TypeVar("_Row")


def finite(value: object) -> float | None:
    """Return ``value`` as a float, or None where it is no number or not finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def sequence(source: Mapping[str, Any], key: str) -> Sequence[Any]:
    """Return the list at ``key``, empty where there is none.

    Raises:
        InvalidInputError: Something else is there.
    """
    value = source.get(key)
    if value is None:
        return ()
    if isinstance(value, (list, tuple)):
        return value
    raise _unlike(key, "a list", value)


def mapping(source: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the object at ``key``, empty where there is none.

    Raises:
        InvalidInputError: Something else is there.
    """
    value = source.get(key)
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return value
    raise _unlike(key, "an object", value)


def string(source: Mapping[str, Any], key: str) -> str:
    """Return the text at ``key``, empty where there is none.

    Raises:
        InvalidInputError: Something else is there.
    """
    value = source.get(key)
    if value is None or isinstance(value, str):
        return value or ""
    raise _unlike(key, "a text", value)


def rows(source: Mapping[str, Any], key: str, kind: type[_Row]) -> list[_Row]:
    """Return the list of objects at ``key``, each with the required keys of TypedDict ``kind``.

    Raises:
        InvalidInputError: It is no list, or an entry is no object or lacks a key.
    """
    wanted: frozenset[str] = kind.__required_keys__  # type: ignore[attr-defined]
    for entry in sequence(source, key):
        if not isinstance(entry, Mapping) or not wanted <= set(entry):
            raise _unlike(f"{key}[]", f"an object with {sorted(wanted)}", entry)
    return cast("list[_Row]", list(sequence(source, key)))


def numbers(source: Mapping[str, Any], key: str) -> tuple[list[float], int]:
    """Return the finite numbers of the list at ``key``, and how many entries are not.

    Raises:
        InvalidInputError: It is no list.
    """
    values = [finite(entry) for entry in sequence(source, key)]
    kept = [value for value in values if value is not None]
    return kept, len(values) - len(kept)


def _unlike(key: str, wanted: str, value: object) -> InvalidInputError:
    return InvalidInputError(f"report.{key} must be {wanted}, got {reprlib.repr(value)}")
