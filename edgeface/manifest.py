"""The manifest of a bundle: what is written in it, and the checks of every value that is read.

The tables at the end say what each field may hold. A value outside of them is refused with its
path, so that no other part of the package meets a manifest it cannot rely on.
"""

from __future__ import annotations

import dataclasses
import json
import re
import reprlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from edgeface._training import Training
from edgeface.errors import BundleFormatError, InvalidInputError
from edgeface.types import OperatingPoint, Size

__all__ = [
    "MANIFEST_NAME",
    "PAD_TASK",
    "RECOGNITION_TASK",
    "SCHEMA_VERSION",
    "Artefact",
    "Manifest",
    "ModelSource",
    "PadManifest",
    "Training",
    "Verdict",
    "manifest_from_json",
    "manifest_of_any_task",
    "manifest_to_json",
    "pad_manifest_from_json",
]

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"
RECOGNITION_TASK, PAD_TASK = "recognition", "presentation-attack-detection"


@dataclass(frozen=True, slots=True)
class Artefact:
    """One runnable form of the model; ``name`` is ``fp32`` or ``int8``, ``file`` its file."""

    name: str
    file: str
    sha256: str
    size_bytes: int
    precision: str


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where the weights came from. ``loss`` and ``trainer`` are empty where not known."""

    file_name: str
    sha256: str
    format: str
    architecture: str
    trainer: str = ""
    loss: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was measured of the artefacts.

    ``status`` is ``passed``: a bundle that fails is never written. ``data_free`` is true when the
    INT8 ranges were set without images. ``figures`` holds numbers by name, listed in
    docs/architecture.md; ``notes`` are sentences for people.
    """

    status: str
    data_free: bool = False
    figures: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contract of a bundle.

    The artefacts take (n, crop height, crop width, 3) uint8 RGB crops aligned to
    ``alignment_template`` and return (n, ``embedding_size``) float32 rows of unit length, which
    are compared by ``metric``. ``model_id`` is the SHA-256 of weights and contract.
    """

    model_id: str
    name: str
    embedding_size: int
    crop_size: Size
    alignment_template: str
    source: ModelSource
    artefacts: tuple[Artefact, ...]
    verdict: Verdict
    metric: str = "cosine"
    training: Training = field(default_factory=Training)
    operating_points: tuple[OperatingPoint, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION
    task: str = RECOGNITION_TASK


@dataclass(frozen=True, slots=True, kw_only=True)
class PadManifest:
    """The contract of a bundle for presentation attack detection.

    The artefacts take (n, crop height, crop width, 3) uint8 RGB crops and return (n, number of
    classes) float32 rows of probabilities, in the order of ``classes``, of which number
    ``bona_fide_class`` (from 0) is the face that is there in person. A crop shows ``box_scale``
    times the width and height of the face's box; see :mod:`edgeface.pad.crop`.
    """

    model_id: str
    name: str
    crop_size: Size
    box_scale: float
    classes: tuple[str, ...]
    bona_fide_class: int
    source: ModelSource
    artefacts: tuple[Artefact, ...]
    verdict: Verdict
    files: Mapping[str, str] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION
    task: str = PAD_TASK

    def __post_init__(self) -> None:
        if len(set(self.classes)) < max(2, len(self.classes)):
            raise InvalidInputError(f"classes must be two or more that differ, got {self.classes}")
        if not 0 <= self.bona_fide_class < len(self.classes):
            raise InvalidInputError(
                f"bona_fide_class must number one of {self.classes}, got {self.bona_fide_class}"
            )


def manifest_to_json(manifest: Manifest | PadManifest) -> str:
    """Return ``manifest`` as JSON text with sorted keys."""
    return json.dumps(asdict(manifest), indent=2, sort_keys=True, allow_nan=False) + "\n"


def manifest_from_json(text: str, *, where: str = MANIFEST_NAME) -> Manifest:
    """Return the manifest written in ``text``.

    Raises:
        BundleFormatError: Not JSON, a field missing, unknown, of the wrong type or out of its
            range, a schema version that this release does not know, or a bundle for another task.
            ``where`` names the file in the message.
    """
    manifest: Manifest = _read(Manifest, text, RECOGNITION_TASK, where)
    return manifest


def pad_manifest_from_json(text: str, *, where: str = MANIFEST_NAME) -> PadManifest:
    """Return the manifest for presentation attack detection written in ``text``.

    Raises:
        BundleFormatError: As for :func:`manifest_from_json`.
    """
    manifest: PadManifest = _read(PadManifest, text, PAD_TASK, where)
    return manifest


def manifest_of_any_task(text: str, *, where: str = MANIFEST_NAME) -> Manifest | PadManifest:
    """Return the manifest written in ``text``, of whichever task it names.

    Raises:
        BundleFormatError: As for :func:`manifest_from_json`.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise BundleFormatError(f"{where} is not JSON: {exc}") from exc
    is_pad = isinstance(data, dict) and data.get("task") == PAD_TASK
    read = pad_manifest_from_json if is_pad else manifest_from_json
    return read(text, where=where)


def _read(kind: type[Any], text: str, task: str, where: str) -> Any:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise BundleFormatError(f"{where} is not JSON: {exc}") from exc
    if not isinstance(data, dict):
        raise BundleFormatError(f"{where} must hold an object, got {type(data).__name__}")
    version = data.get("schema_version")
    if type(version) is not int or version != SCHEMA_VERSION:
        raise BundleFormatError(
            f"{where} has schema version {version!r}, this release reads {SCHEMA_VERSION}; "
            "export the model again or install a matching edgeface"
        )
    # Bundles of earlier releases do not name their task: it was always recognition.
    found = data.get("task", RECOGNITION_TASK)
    if found != task:
        raise BundleFormatError(
            f"{where} is of a bundle for {str(found)[:80]!r}, wanted one for {task!r}; "
            f"{_OPENED_BY.get(str(found), 'export the model again')}"
        )
    try:
        return _object(kind)(data, "manifest")
    except InvalidInputError as exc:
        raise BundleFormatError(f"{where} is not a valid manifest: {exc}") from exc


_OPENED_BY = {
    PAD_TASK: "use it with `edgeface pad` or edgeface.pad.PadBundle",
    RECOGNITION_TASK: "use it with edgeface.Recognizer or edgeface.Bundle",
}

# A reader takes a value and its path in the manifest; it returns what the field holds, or raises
# InvalidInputError with the path.
_Reader: TypeAlias = Callable[[Any, str], Any]

_DIGEST = re.compile(r"[0-9a-f]{64}")


def _value(accepts: Callable[[Any], bool], wanted: str) -> _Reader:
    def read(value: Any, path: str) -> Any:
        if not accepts(value):
            raise InvalidInputError(f"{path} must be {wanted}, got {reprlib.repr(value)}")
        return value

    return read


def _whole(smallest: int, largest: int) -> _Reader:
    return _value(
        lambda value: type(value) is int and smallest <= value <= largest,
        f"a whole number in {smallest}..{largest}",
    )


def _number(smallest: float, largest: float) -> _Reader:
    return _value(
        # NaN and infinity are outside of every pair of bounds; True is an int to isinstance.
        lambda value: type(value) in (int, float) and smallest <= value <= largest,
        f"a number in {smallest:g}..{largest:g}",
    )


def _optional(reader: _Reader) -> _Reader:
    return lambda value, path: None if value is None else reader(value, path)


def _list_of(reader: _Reader) -> _Reader:
    def read(value: Any, path: str) -> tuple[Any, ...]:
        entries = _LIST(value, path)
        return tuple(reader(entry, f"{path}[{k}]") for k, entry in enumerate(entries))

    return read


def _mapping_of(reader: _Reader) -> _Reader:
    def read(value: Any, path: str) -> dict[str, Any]:
        entries = _OBJECT(value, path)
        return {key: reader(entry, f"{path}[{key!r:.80}]") for key, entry in entries.items()}

    return read


def _object(kind: type[Any]) -> _Reader:
    """Return a reader of objects with the fields of dataclass ``kind``, as ``_FIELDS`` has them."""

    def read(value: Any, path: str) -> Any:
        data, readers = _OBJECT(value, path), _FIELDS[kind]
        missing = [
            entry.name
            for entry in dataclasses.fields(kind)
            if entry.name not in data
            and entry.default is dataclasses.MISSING
            and entry.default_factory is dataclasses.MISSING
        ]
        unknown = sorted(set(data) - set(readers))
        if missing:
            raise InvalidInputError(f"{path} lacks {', '.join(missing)}")
        if unknown:
            raise InvalidInputError(f"{path} has unknown fields {reprlib.repr(unknown)}")
        return kind(**{key: readers[key](entry, f"{path}.{key}") for key, entry in data.items()})

    return read


def _artefacts(value: Any, path: str) -> tuple[Artefact, ...]:
    entries: tuple[Artefact, ...] = _list_of(_object(Artefact))(value, path)
    names = [entry.name for entry in entries]
    if not names or len(set(names)) < len(names):
        raise InvalidInputError(f"{path} must be artefacts of different names, got {names}")
    return entries


_LIST = _value(lambda value: isinstance(value, list), "a list")
_OBJECT = _value(lambda value: isinstance(value, dict), "an object")
_TEXT = _value(lambda value: isinstance(value, str), "a string")
_NAME = _value(lambda value: isinstance(value, str) and value != "", "a string that is not empty")
_FLAG = _value(lambda value: isinstance(value, bool), "true or false")
_SHA256 = _value(
    lambda value: isinstance(value, str) and _DIGEST.fullmatch(value) is not None,
    "64 hexadecimal digits in lower case",
)
_FIGURE = _value(
    lambda value: type(value) in (int, float) and abs(value) <= sys.float_info.max,
    "a finite number",
)
_COUNT = _whole(0, sys.maxsize)
# Larger than any crop or embedding of a face model; a hostile one must not ask for gigabytes.
_SIDE_PX = _whole(1, 4096)
_EMBEDDING_SIZE = _whole(1, 65536)


def _only(*wanted: str) -> _Reader:
    return _value(lambda value: value in wanted, " or ".join(map(repr, wanted)))


_FIELDS: dict[type[Any], dict[str, _Reader]] = {
    Size: {"width_px": _SIDE_PX, "height_px": _SIDE_PX},
    Artefact: {
        "name": _NAME,
        # Which names are safe in a bundle is asked when the file is opened.
        "file": _TEXT,
        "sha256": _SHA256,
        "size_bytes": _COUNT,
        "precision": _NAME,
    },
    ModelSource: {
        "file_name": _TEXT,
        "sha256": _SHA256,
        "format": _NAME,
        "architecture": _NAME,
        "trainer": _TEXT,
        "loss": _TEXT,
    },
    Training: {
        "loss": _TEXT,
        "known_from": _TEXT,
        "metric": _only("cosine", "euclidean"),
        "unit_rows": _FLAG,
        "flip": _only("none", "sum", "concatenate"),
        "flip_in_graph": _only("none", "sum", "concatenate"),
        "length_is_quality": _FLAG,
    },
    Verdict: {
        "status": _only("passed"),
        "data_free": _FLAG,
        "figures": _mapping_of(_FIGURE),
        "notes": _list_of(_TEXT),
    },
    OperatingPoint: {
        "threshold": _number(-1.0, 1.0),
        "target_fmr": _number(0.0, 1.0),
        "artefact": _NAME,
        "protocol": _TEXT,
        "fnmr": _optional(_number(0.0, 1.0)),
        "n_mated": _COUNT,
        "n_non_mated": _COUNT,
        "provisional": _FLAG,
        "target_fpir": _optional(_number(0.0, 1.0)),
        "gallery_size": _optional(_COUNT),
        "fpir_low": _optional(_number(0.0, 1.0)),
        "fpir_high": _optional(_number(0.0, 1.0)),
        "fnir": _optional(_number(0.0, 1.0)),
        "extrapolated": _FLAG,
    },
    Manifest: {
        "model_id": _NAME,
        "name": _NAME,
        "embedding_size": _EMBEDDING_SIZE,
        "crop_size": _object(Size),
        "alignment_template": _NAME,
        "source": _object(ModelSource),
        "artefacts": _artefacts,
        "verdict": _object(Verdict),
        "metric": _only("cosine"),
        "training": _object(Training),
        "operating_points": _list_of(_object(OperatingPoint)),
        "files": _mapping_of(_SHA256),
        "tools": _mapping_of(_TEXT),
        "schema_version": _whole(SCHEMA_VERSION, SCHEMA_VERSION),
        "task": _only(RECOGNITION_TASK),
    },
    PadManifest: {
        "model_id": _NAME,
        "name": _NAME,
        "crop_size": _object(Size),
        # The published nets take 1, 2.7 and 4 times the box.
        "box_scale": _number(0.1, 100.0),
        "classes": _list_of(_NAME),
        "bona_fide_class": _COUNT,
        "source": _object(ModelSource),
        "artefacts": _artefacts,
        "verdict": _object(Verdict),
        "files": _mapping_of(_SHA256),
        "tools": _mapping_of(_TEXT),
        "schema_version": _whole(SCHEMA_VERSION, SCHEMA_VERSION),
        "task": _only(PAD_TASK),
    },
}
