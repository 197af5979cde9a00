"""Templates of a new model: from kept crops, and from what the old model recognises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType

from edgeface.alignment import align
from edgeface.backends import open_backend
from edgeface.bundle import Bundle
from edgeface.camera import FrameSource
from edgeface.embedding import FaceEmbedder
from edgeface.errors import GalleryModelError
from edgeface.gallery import ReferenceCrop
from edgeface.manifest import Manifest
from edgeface.pipeline.recognizer import Recognizer
from edgeface.pipeline.references import align_reference
from edgeface.quality import QualityGateOptions
from edgeface.quality.gates import failed_gates
from edgeface.types import Frame, Observation, OperatingPoint, Outcome, Template

__all__ = ["NewModel", "learn_from", "require_comparable"]

# An artefact that is an exact rewrite of another: parity is a gate of every export.
_EXACT = ("fp32", "cpu-fp32")
# What the exporter measures of each other artefact before it may be in a bundle.
_MEASURED = {
    "int8": ("int8_cosine_p1", "int8_pair_change_p99"),
    "cpu-int8": ("cpu_int8_cosine_p1", "cpu_int8_pair_change_p99"),
}


def require_comparable(manifest: Manifest, first: str, second: str) -> Mapping[str, float]:
    """Return the figures that show that templates of two artefacts of one model are comparable.

    Empty where both give the same embeddings.

    Raises:
        GalleryModelError: The bundle holds no measurement of one of them.
    """
    figures: dict[str, float] = {}
    for artefact in {first, second} - set(_EXACT):
        for name in _MEASURED.get(artefact, (artefact,)):
            if name not in manifest.verdict.figures:
                raise GalleryModelError(
                    f"nothing was measured that shows that templates of {first!r} and {second!r} "
                    f"are comparable (the bundle has no {name}); export the model again, or "
                    "enrol with the artefact that is used"
                )
            figures[name] = manifest.verdict.figures[name]
    return figures if first != second else {}


class NewModel:
    """A model that makes templates, without a detector. Also a context manager."""

    def __init__(self, manifest: Manifest, embedder: FaceEmbedder, point: OperatingPoint) -> None:
        self.manifest = manifest
        self.operating_point = point
        self._embedder = embedder

    @classmethod
    def open(cls, bundle: Bundle, *, artefact: str = "auto", target_fmr: float) -> NewModel:
        """Return the model of ``bundle``.

        Raises:
            BackendError: The engine cannot run it.
            OperatingPointError: The bundle has no operating point as strict as asked.
        """
        backend = open_backend(bundle, artefact=artefact)
        point = bundle.operating_point(backend.artefact, target_fmr=target_fmr)
        return cls(bundle.manifest, FaceEmbedder(backend, bundle.manifest), point)

    @property
    def artefact(self) -> str:
        """The artefact of the bundle that makes the templates."""
        return self._embedder.backend.artefact

    def templates_of(
        self, crops: Sequence[ReferenceCrop], qualities: Sequence[float] | None = None
    ) -> list[Template | None]:
        """Return a template of each crop, None where the model gives nothing usable."""
        faces = [align_reference(crop, self.manifest.alignment_template) for crop in crops]
        return self._embedder.embed(faces, qualities)

    def template_of_seen(self, face: Observation, frame: Frame) -> Template | None:
        """Return the template of ``face``, which was seen in ``frame``; None without landmarks."""
        if face.landmarks is None:
            return None
        aligned = align(frame, face.landmarks.points_px, self.manifest.alignment_template)
        quality = face.quality.score if face.quality else 0.0
        return self._embedder.embed([aligned], [quality])[0]

    def close(self) -> None:
        """Free the model; may be called twice."""
        self._embedder.backend.close()

    def __enter__(self) -> NewModel:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def learn_from(
    source: FrameSource,
    recognizer: Recognizer,
    new: NewModel,
    *,
    most: int = 5,
    quality: QualityGateOptions | None = None,
) -> Iterator[tuple[str, Template]]:
    """Yield templates of the new model of people whom the old one recognises in ``source``.

    Only what is beyond doubt is taken: the track is known, the face of this very frame is known
    as the same person, and it passes ``quality``, by default the gates of enrolment. At most
    ``most`` for each person, one for each time a track shows a better face than before.
    """
    gate = quality or QualityGateOptions.enrolment()
    best: dict[tuple[str, int | None], float] = {}
    counts: dict[str, int] = {}
    stream = recognizer.stream(source)
    for frame in source:
        for face in stream.process(frame).observations:
            name = _known_beyond_doubt(face, gate)
            score = face.quality.score if face.quality else 0.0
            if name is None or counts.get(name, 0) >= most:
                continue
            if score <= best.get((name, face.track_id), -1.0):
                continue
            template = new.template_of_seen(face, frame)
            if template is not None:
                best[name, face.track_id] = score
                counts[name] = counts.get(name, 0) + 1
                yield name, template


def _known_beyond_doubt(face: Observation, gate: QualityGateOptions) -> str | None:
    track = face.track_result
    if track is None or track.outcome is not Outcome.KNOWN:
        return None
    if face.result.outcome is not Outcome.KNOWN or face.result.subject != track.subject:
        return None
    if face.quality is None or failed_gates(face.quality.values, face.quality.score, gate):
        return None
    return track.subject
