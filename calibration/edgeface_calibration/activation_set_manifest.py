"""The manifest of an activation set: what is written in it, and the checks of what is read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from typing import Any

from edgeface.alignment import ALIGNMENT_TEMPLATES
from edgeface.errors import ActivationSetError, InvalidInputError
from edgeface.types import Size

__all__ = [
    "FORMAT",
    "MAX_CROPS",
    "SCHEMA_VERSION",
    "ActivationSetManifest",
    "CropMeasures",
    "CropRecord",
    "SourceKind",
    "crop_file_name",
    "manifest_from_json",
    "manifest_to_json",
]

FORMAT = "edgeface-activation-set"
SCHEMA_VERSION = 1
MAX_CROPS = 10_000
"""Ten times as many as move any range; they are 376 MB in memory."""
_NOTICE = "faces are personal data: keep this folder to yourself, delete it when it has served"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME_DIGITS = 32


class SourceKind(str, Enum):
    """What a crop was taken from; where that lies is not kept."""

    PICTURE = "picture"
    VIDEO = "video"
    CAMERA = "camera"


@dataclass(frozen=True, slots=True, kw_only=True)
class CropMeasures:
    """What was measured of a face where it was found; units as in :mod:`edgeface.quality`."""

    yaw_deg: float
    pitch_deg: float
    roll_deg: float
    luminance: float
    sharpness: float
    eye_distance_px: float

    def __post_init__(self) -> None:
        for each in fields(self):
            value: object = getattr(self, each.name)
            if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]
                raise InvalidInputError(f"{each.name} must be a finite number, got {value!r}")


@dataclass(frozen=True, slots=True)
class CropRecord:
    """One crop: its file, named after the first half of its SHA-256, and what is known of it."""

    file: str
    sha256: str
    source_kind: SourceKind
    measures: CropMeasures

    def __post_init__(self) -> None:
        digest: object = self.sha256
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise InvalidInputError(f"sha256 must be 64 hexadecimal digits, got {digest!r:.80}")
        if self.file != crop_file_name(digest):
            raise InvalidInputError(
                f"a crop's file must be {crop_file_name(digest)!r}, after its hash, got "
                f"{self.file!r:.80}"
            )


@dataclass(frozen=True, slots=True)
class ActivationSetManifest:
    """The template that the crops are aligned to, the crops, and what was left out, by reason."""

    template: str
    crops: tuple[CropRecord, ...]
    refused: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.template not in ALIGNMENT_TEMPLATES:
            known = ", ".join(sorted(ALIGNMENT_TEMPLATES))
            raise InvalidInputError(f"unknown template {self.template!r:.80}, know {known}")
        if len(self.crops) > MAX_CROPS:
            raise InvalidInputError(f"wanted at most {MAX_CROPS} crops, got {len(self.crops)}")
        if len({record.file for record in self.crops}) < len(self.crops):
            raise InvalidInputError("a crop is listed twice")
        for reason, count in self.refused.items():
            if type(count) is not int or count < 0:
                raise InvalidInputError(f"refused[{reason!r:.80}] must be a count, got {count!r}")

    @property
    def crop_size(self) -> Size:
        """The size of every crop."""
        return ALIGNMENT_TEMPLATES[self.template]


def crop_file_name(sha256: str) -> str:
    """Return the name of the crop whose file has this SHA-256; nothing else is in it."""
    return f"{sha256[:_NAME_DIGITS]}.png"


def manifest_to_json(manifest: ActivationSetManifest) -> str:
    """Return ``manifest`` as the text of its file."""
    crops = [
        {
            "file": record.file,
            "sha256": record.sha256,
            "source_kind": record.source_kind.value,
            **asdict(record.measures),
        }
        for record in manifest.crops
    ]
    # The format comes first: a file that was cut short still says what it was.
    data = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "notice": _NOTICE,
        "template": manifest.template,
        "crop_size": asdict(manifest.crop_size),
        "count": len(crops),
        "refused": dict(manifest.refused),
        "crops": crops,
    }
    return json.dumps(data, indent=1, allow_nan=False) + "\n"


def manifest_from_json(text: str, *, where: str) -> ActivationSetManifest:
    """Return the manifest written in ``text``, every value checked.

    Raises:
        ActivationSetError: It is cut short, malformed, or of another version. ``where`` names it.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ActivationSetError(
            f"{where} is not whole JSON: it was cut short or changed; collect the set again"
        ) from exc
    try:
        return _manifest(data)
    except InvalidInputError as exc:
        raise ActivationSetError(
            f"{where} is not a valid manifest: {exc}; collect the set again"
        ) from exc


_FIELDS = (
    "format", "schema_version", "notice", "template", "crop_size", "count", "refused", "crops",
)  # fmt: skip
_MEASURES = tuple(each.name for each in fields(CropMeasures))
_RECORD_FIELDS = ("file", "sha256", "source_kind", *_MEASURES)


def _manifest(data: Any) -> ActivationSetManifest:
    _require_fields(data, _FIELDS, "the manifest")
    _require_version(data)
    entries, refused = data["crops"], data["refused"]
    if not isinstance(entries, list) or not isinstance(refused, dict):
        raise InvalidInputError("crops must be a list and refused an object")
    if not isinstance(data["template"], str):
        raise InvalidInputError("template must be a string")
    records = tuple(_record(entry, f"crops[{k}]") for k, entry in enumerate(entries))
    manifest = ActivationSetManifest(data["template"], records, refused)
    if data["crop_size"] != asdict(manifest.crop_size):
        raise InvalidInputError(f"crop_size is not that of {manifest.template}")
    if data["count"] != len(records):
        raise InvalidInputError(f"count is {data['count']!r:.20}, the list has {len(records)}")
    return manifest


def _require_version(data: Mapping[str, Any]) -> None:
    if data["format"] != FORMAT or data["schema_version"] != SCHEMA_VERSION:
        raise InvalidInputError(
            f"wanted format {FORMAT!r} version {SCHEMA_VERSION}, got {data['format']!r:.40} "
            f"version {data['schema_version']!r:.20}; a newer edgeface may know it"
        )


def _record(entry: Any, path: str) -> CropRecord:
    _require_fields(entry, _RECORD_FIELDS, path)
    try:
        measures = CropMeasures(**{name: entry[name] for name in _MEASURES})
        return CropRecord(
            entry["file"], entry["sha256"], SourceKind(entry["source_kind"]), measures
        )
    except ValueError as exc:
        raise InvalidInputError(f"{path}: {exc}") from exc


def _require_fields(value: Any, names: tuple[str, ...], path: str) -> None:
    if not isinstance(value, dict):
        raise InvalidInputError(f"{path} must be an object, got {type(value).__name__}")
    missing, unknown = set(names) - set(value), set(value) - set(names)
    if missing or unknown:
        raise InvalidInputError(
            f"{path} lacks {sorted(missing)} and has {len(unknown)} unknown fields"
        )
