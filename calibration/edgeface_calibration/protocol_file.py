"""What to measure, written down: a TOML file for ``edgeface calibrate --protocol``.

::

    name = "Office, November"
    images = ["faces"]                # labelled folders, relative to this file
    landmarks = "landmarks.txt"       # optional; without it faces are detected
    pairs = "pairs.txt"               # optional; instead of whole folders

    [points]
    target_fpirs = [0.01]
    gallery_sizes = [100, 1000]
    target_fmrs = [1e-3, 1e-4]
    templates = 1
    cautious = false
    cohort_share = 0.0
    n_resamples = 400
    seed = 0
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgeface.errors import InvalidInputError, MissingDependencyError
from edgeface_calibration.search_points import PointOptions

__all__ = ["PointProtocol", "read_point_protocol"]

_MAX_BYTES = 1 << 20
_TUPLES = {"target_fpirs": (int, float), "target_fmrs": (int, float), "gallery_sizes": (int,)}
_SINGLE = {
    "templates": (int,),
    "cautious": (bool,),
    "cohort_share": (int, float),
    "n_resamples": (int,),
    "seed": (int,),
}


@dataclass(frozen=True, slots=True)
class PointProtocol:
    """Which images, and which thresholds; paths are absolute or relative to the working folder."""

    name: str
    images: tuple[Path, ...] = ()
    landmarks: Path | None = None
    pairs: Path | None = None
    options: PointOptions = field(default_factory=PointOptions)


def read_point_protocol(path: str | os.PathLike[str]) -> PointProtocol:
    """Return the protocol in the file ``path``.

    Raises:
        InvalidInputError: The file cannot be read, is not TOML, or holds a field that is unknown
            or of the wrong type.
        MissingDependencyError: On Python 3.10 the package tomli is not installed.
    """
    file = Path(path)
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise InvalidInputError(f"the protocol {file} is larger than {_MAX_BYTES} bytes")
        data = _parsed(file, file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidInputError(f"the protocol {file} cannot be read: {exc}") from exc
    points = data.pop("points", {})
    known = {entry.name for entry in fields(PointProtocol)} - {"options"}
    unknown = sorted(set(data) - known)
    if unknown or not isinstance(points, dict):
        raise InvalidInputError(f"{file}: unknown fields {unknown}, wanted {sorted(known)} and "
                                "a table [points]")  # fmt: skip
    folder = file.parent
    images = data.get("images", [])
    if isinstance(images, str):
        images = [images]
    if not isinstance(images, list):
        raise InvalidInputError(f"{file}: images must be a list of folders, got {images!r:.80}")
    return PointProtocol(
        name=_text(file, "name", data.get("name", file.stem)),
        images=tuple(folder / _text(file, "images", entry) for entry in images),
        landmarks=_path(file, "landmarks", data),
        pairs=_path(file, "pairs", data),
        options=_options(file, points),
    )


def _parsed(file: Path, text: str) -> dict[str, Any]:
    toml = _toml()
    try:
        return dict(toml.loads(text))
    except toml.TOMLDecodeError as exc:
        raise InvalidInputError(f"the protocol {file} is not TOML: {exc}") from exc


def _toml() -> Any:
    """Return the standard library's reader of TOML; Python 3.10 has none, tomli is the same."""
    found = next((name for name in ("tomllib", "tomli") if find_spec(name) is not None), None)
    if found is None:
        raise MissingDependencyError("tomli", extra="report")
    return importlib.import_module(found)


def _options(file: Path, points: dict[str, Any]) -> PointOptions:
    unknown = sorted(set(points) - set(_TUPLES) - set(_SINGLE))
    if unknown:
        known = sorted({**_TUPLES, **_SINGLE})
        raise InvalidInputError(f"{file}: [points] has unknown fields {unknown}, wanted {known}")
    values: dict[str, Any] = {}
    for name, value in points.items():
        wanted = _TUPLES.get(name) or _SINGLE[name]
        entries = value if name in _TUPLES and isinstance(value, list) else [value]
        # type() and not isinstance(): true is a whole number to Python.
        if not entries or any(type(entry) not in wanted for entry in entries):
            names = " or ".join(kind.__name__ for kind in wanted)
            raise InvalidInputError(f"{file}: points.{name} must be {names}, got {value!r:.80}")
        values[name] = tuple(entries) if name in _TUPLES else value
    return PointOptions(**values)


def _path(file: Path, name: str, data: dict[str, Any]) -> Path | None:
    return file.parent / _text(file, name, data[name]) if name in data else None


def _text(file: Path, name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidInputError(f"{file}: {name} must be a text, got {value!r:.80}")
    return value
