"""A run without its pictures: what was measured and compared, to be judged again later.

One JSON object a line: a head, then one line for each look at a face. There are no images in it,
no names unless asked for (subjects are numbered in the order in which they were first candidates),
and no templates unless there is a key to encrypt them with.
"""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from edgeface.decision import DecisionOptions
from edgeface.errors import GalleryIntegrityError, RunRecordError
from edgeface.gallery.sealing import seal, unseal
from edgeface.pipeline.stream import FrameResult
from edgeface.types import (
    Candidate,
    IdentificationResult,
    Observation,
    OperatingPoint,
    Outcome,
    QualityMeasure,
    RejectionReason,
    Template,
)

__all__ = ["Look", "RunHead", "RunRecorder", "read_run"]

_FORMAT, _VERSION = "edgeface-run", 1
_MAX_LINE_CHARS = 1 << 16
_MAX_CANDIDATES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHead:
    """Under what a run was recorded; ``names`` says whether its subjects are names or numbers."""

    model_id: str
    artefact: str
    threshold: float
    target_fmr: float
    decision: DecisionOptions = field(default_factory=DecisionOptions)
    names: bool = False

    @classmethod
    def of(cls, model_id: str, point: OperatingPoint, decision: DecisionOptions) -> RunHead:
        """Return the head of a run with this model, operating point and rule."""
        return cls(
            model_id=model_id,
            artefact=point.artefact,
            threshold=point.threshold,
            target_fmr=point.target_fmr,
            decision=decision,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One face that was looked at in one frame.

    ``result`` is what the frame alone said, with the candidates' scores; ``said`` what the track
    said then, None for nothing yet. ``quality`` is empty where the face had no landmarks.
    ``template`` is None where none was recorded, or no key was given.
    """

    time_s: float
    frame: int
    stream: int
    track: int
    result: IdentificationResult
    said: IdentificationResult | None
    quality: Mapping[QualityMeasure, float]
    quality_score: float
    template: Template | None = None


class RunRecorder:
    """Writes a run; a context manager.

    Args:
        path: The file, which must not exist.
        head: Under what the run is recorded.
        names: Whether subjects are written by name; else they are numbered.
        templates_key: 32 bytes, see :mod:`.run_key`; with it templates are written, encrypted.

    Raises:
        RunRecordError: The file exists or cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        head: RunHead,
        *,
        names: bool = False,
        templates_key: bytes | None = None,
    ) -> None:
        self._key = templates_key
        self._numbers: dict[str, str] | None = None if names else {}
        self._path = Path(path)
        try:
            # What was measured of people is for the owner alone.
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as exc:
            raise RunRecordError(f"{self._path} cannot be made: {exc}; name a new file") from exc
        self._file: IO[str] = os.fdopen(descriptor, "w", encoding="utf-8")
        self._write({"format": _FORMAT, "version": _VERSION, **asdict(replace(head, names=names))})

    def write(self, result: FrameResult) -> None:
        """Write the looks of one frame; those that added nothing are left out.

        Raises:
            RunRecordError: The file cannot be written.
        """
        for seen in result.observations:
            if not seen.is_carried and seen.track_id is not None:
                self._write(self._line(result, seen, seen.track_id))

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._file.close()

    def __enter__(self) -> RunRecorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _line(self, result: FrameResult, seen: Observation, track: int) -> dict[str, Any]:
        quality = seen.quality
        return {
            "t": round(result.frame.timestamp_s, 4),
            "frame": result.frame.index,
            "stream": result.stream,
            "track": track,
            "result": self._result(seen.result),
            "said": None if seen.track_result is None else self._result(seen.track_result),
            "quality": {
                # JSON has no NaN: a measure that failed is null.
                measure.value: round(value, 5) if math.isfinite(value) else None
                for measure, value in (quality.values if quality else {}).items()
            },
            "quality_score": round(quality.score, 4) if quality else 0.0,
            "template": self._sealed(result, track),
        }

    def _sealed(self, result: FrameResult, track: int) -> str | None:
        template = result.templates.get(track)
        if self._key is None or template is None:
            return None
        place = result.frame.index, result.stream, track
        # Float32, little-endian; the model is that of the head.
        content = template.vector.astype("<f4").tobytes()
        return base64.b64encode(seal(self._key, content, _FORMAT, *place)).decode("ascii")

    def _result(self, result: IdentificationResult) -> dict[str, Any]:
        return {
            "outcome": result.outcome.value,
            "subject": None if result.subject is None else self._name(result.subject),
            "candidates": [
                [self._name(entry.subject), round(entry.score, 5)]
                for entry in result.candidates[:_MAX_CANDIDATES]
            ],
            "reasons": [reason.value for reason in result.reasons],
        }

    def _name(self, subject: str) -> str:
        if self._numbers is None:
            return subject
        return self._numbers.setdefault(subject, f"person-{len(self._numbers) + 1}")

    def _write(self, line: Mapping[str, Any]) -> None:
        try:
            self._file.write(json.dumps(line, allow_nan=False, ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as exc:
            raise RunRecordError(f"{self._path} cannot be written: {exc}") from exc


def read_run(
    path: str | os.PathLike[str], *, templates_key: bytes | None = None
) -> tuple[RunHead, Iterator[Look]]:
    """Return the head of the run recorded at ``path``, and its looks in their order.

    A last line that was cut off, as by a crash, ends the run. With ``templates_key`` the looks
    have their templates.

    Raises:
        RunRecordError: The file cannot be read, a line is none of such a record, or the key is
            another one. It may be raised by the iteration, too.
    """
    file = Path(path)
    lines = _lines(file)
    first = next(lines, None)
    try:
        head = _head(first)
    except (KeyError, TypeError, ValueError) as exc:
        raise RunRecordError(
            f"{file} is no run that `edgeface watch --record` wrote: {exc!r}"
        ) from exc
    reader = _Reader(str(file), head.model_id, templates_key)
    return head, (reader.look(line, count) for count, line in enumerate(lines, 2))


def _lines(file: Path) -> Iterator[Any]:
    try:
        with file.open(encoding="utf-8") as stream:
            while line := stream.readline(_MAX_LINE_CHARS):
                if not line.endswith("\n"):
                    if len(line) == _MAX_LINE_CHARS:
                        raise RunRecordError(f"{file} has a line that is too long")
                    return
                yield json.loads(line)
    except (OSError, ValueError, RecursionError) as exc:
        raise RunRecordError(f"{file} cannot be read as a run: {exc}") from exc


def _head(line: Any) -> RunHead:
    if not isinstance(line, dict) or line.get("format") != _FORMAT:
        raise ValueError("its first line is another one")
    if line["version"] != _VERSION:
        raise ValueError(f"its version is {line['version']!r}, this program knows {_VERSION}")
    return RunHead(
        model_id=str(line["model_id"]),
        artefact=str(line["artefact"]),
        threshold=_number(line["threshold"]),
        target_fmr=_number(line["target_fmr"]),
        decision=DecisionOptions(**line["decision"]),
        names=line["names"] is True,
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    file: str
    model_id: str
    key: bytes | None

    def look(self, line: Any, count: int) -> Look:
        try:
            look, sealed = _read_look(line), line["template"]
            if self.key is None or sealed is None:
                return look
            return replace(look, template=self._template(self.key, look, sealed))
        # AttributeError and the others: a line of another shape.
        except (AttributeError, KeyError, TypeError, ValueError, GalleryIntegrityError) as exc:
            raise RunRecordError(f"{self.file}, line {count}, is no look: {exc!r}") from exc

    def _template(self, key: bytes, look: Look, sealed: str) -> Template:
        place = look.frame, look.stream, look.track
        content = unseal(key, base64.b64decode(sealed, validate=True), _FORMAT, *place)
        vector = np.frombuffer(content, "<f4").astype(np.float32)
        return Template(vector, self.model_id, min(1.0, max(0.0, look.quality_score)))


def _read_look(line: Any) -> Look:
    return Look(
        time_s=_number(line["t"]),
        frame=int(line["frame"]),
        stream=int(line["stream"]),
        track=int(line["track"]),
        result=_read_result(line["result"]),
        said=None if line["said"] is None else _read_result(line["said"]),
        quality={
            QualityMeasure(name): math.nan if value is None else _number(value)
            for name, value in line["quality"].items()
        },
        quality_score=_number(line["quality_score"]),
    )


def _read_result(value: Any) -> IdentificationResult:
    candidates = tuple(Candidate(str(name), _number(score)) for name, score in value["candidates"])
    subject = value["subject"]
    return IdentificationResult(
        Outcome(value["outcome"]),
        None if subject is None else str(subject),
        candidates[0].score if candidates else None,
        candidates,
        tuple(RejectionReason(reason) for reason in value["reasons"]),
    )


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"wanted a finite number, got {value!r}")
    return float(value)
