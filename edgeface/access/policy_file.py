"""Policies as TOML. Strict: a key or a type that is not known is refused, never passed over."""

from __future__ import annotations

import importlib
import os
import types
import typing
from dataclasses import MISSING, fields
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from edgeface.access.guarded_file import read_guarded
from edgeface.access.policy import AccessPolicy, EvidenceRule, FactorRule, LockoutRule, Permit
from edgeface.access.schedule import Schedule
from edgeface.errors import AccessPolicyError, InvalidInputError, MissingDependencyError

__all__ = ["SCHEMA", "parse_policy", "read_policy"]

SCHEMA = 1
_TABLES = {"evidence": EvidenceRule, "factors": FactorRule, "lockout": LockoutRule}
_LISTS = {"permits": Permit, "schedules": Schedule}


def read_policy(path: str | os.PathLike[str]) -> AccessPolicy:
    """Return the policy written in the file at ``path``.

    Raises:
        AccessPolicyError: The file cannot be read, can be written by others, or holds no such
            policy.
        MissingDependencyError: On Python 3.10 the package tomli is not installed.
    """
    file = Path(path)
    content = read_guarded(file, "policy")
    try:
        return parse_policy(content.decode("utf-8"))
    except UnicodeDecodeError as exc:
        raise AccessPolicyError(f"the policy {file} is not UTF-8 text") from exc
    except AccessPolicyError as exc:
        raise AccessPolicyError(f"the policy {file}: {exc}") from exc


def parse_policy(text: str) -> AccessPolicy:
    """Return the policy that ``text`` is.

    Raises:
        AccessPolicyError: It is not TOML, or holds no such policy.
        MissingDependencyError: On Python 3.10 the package tomli is not installed.
    """
    try:
        data = _toml().loads(text)
    except (ValueError, RecursionError) as exc:
        raise AccessPolicyError(f"not TOML: {exc}") from exc
    schema = data.pop("schema", None)
    if type(schema) is not int or schema != SCHEMA:
        raise AccessPolicyError(f"wanted schema = {SCHEMA} at the top, got {schema!r}")
    tables = {name: _made(kind, data.pop(name, {}), name) for name, kind in _TABLES.items()}
    lists = {name: _many(kind, data.pop(name, []), name) for name, kind in _LISTS.items()}
    nested = {*_TABLES, *_LISTS}
    policy: AccessPolicy = _made(AccessPolicy, data, "the policy", {**tables, **lists}, nested)
    return policy


def _many(kind: type[Any], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise AccessPolicyError(f"{where} must be written as [[{where}]]")
    return tuple(_made(kind, entry, f"{where}[{number}]") for number, entry in enumerate(value))


def _made(
    kind: type[Any],
    value: Any,
    where: str,
    given: dict[str, Any] | None = None,
    nested: set[str] | None = None,
) -> Any:
    """Return ``kind`` made of the table ``value``, each value's type looked at."""
    if not isinstance(value, dict):
        raise AccessPolicyError(f"{where} must be a table, got {type(value).__name__}")
    known = {entry.name: entry for entry in fields(kind) if entry.init}
    open_names = known.keys() - (nested or set())
    for name in value:
        if name not in open_names:
            raise AccessPolicyError(
                f"{where} has the key {str(name)[:80]!r}, which is not known; known are "
                f"{', '.join(sorted(open_names))}"
            )
    for name, entry in known.items():
        needed = entry.default is MISSING and entry.default_factory is MISSING
        if needed and name not in value and name not in (given or {}):
            raise AccessPolicyError(f"{where} must have the key {name!r}")
    hints = typing.get_type_hints(kind)
    values = {name: _typed(content, hints[name], name, where) for name, content in value.items()}
    try:
        return kind(**values, **(given or {}))
    except InvalidInputError as exc:
        raise AccessPolicyError(f"{where}: {exc}") from exc


def _typed(value: Any, hint: Any, name: str, where: str) -> Any:
    if typing.get_origin(hint) is Literal:
        hint = str
    if typing.get_origin(hint) is tuple:
        if isinstance(value, list) and all(type(entry) is str for entry in value):
            return tuple(value)
        raise AccessPolicyError(f"{name} of {where} must be a list of texts, got {value!r:.80}")
    # type(), not isinstance(): True is an int, and no number was meant.
    if hint is float and type(value) in (int, float):
        try:
            return float(value)
        except OverflowError as exc:
            raise AccessPolicyError(f"{name} of {where} is too large a number") from exc
    if isinstance(hint, types.UnionType) or type(value) is not hint:
        wanted = getattr(hint, "__name__", str(hint))
        raise AccessPolicyError(f"{name} of {where} must be {wanted}, got {value!r:.80}")
    return value


def _toml() -> ModuleType:
    """Return the standard library's reader of TOML; Python 3.10 has none, tomli is the same."""
    found = next((name for name in ("tomllib", "tomli") if find_spec(name) is not None), None)
    if found is None:
        raise MissingDependencyError("tomli", extra="report")
    return importlib.import_module(found)
