"""From faces that passed the gates to results: one batch for the engine, one search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeface.decision import decide
from edgeface.embedding import FaceEmbedder
from edgeface.gallery import Gallery
from edgeface.pipeline.finding import FoundFace, StageTimer
from edgeface.types import (
    IdentificationResult,
    OperatingPoint,
    Outcome,
    QualityReport,
    RejectionReason,
    Template,
)

__all__ = ["Comparer", "Comparison"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result for one face, with the template it was made from if there is one."""

    result: IdentificationResult
    template: Template | None = None
    quality: QualityReport | None = None


class Comparer:
    """Embeds faces, searches the gallery, and decides for each face alone."""

    def __init__(
        self, embedder: FaceEmbedder, gallery: Gallery, point: OperatingPoint, margin: float
    ) -> None:
        self._embedder, self._gallery = embedder, gallery
        self.point = point
        self._margin = margin

    def compare(self, faces: Sequence[FoundFace], timer: StageTimer) -> list[Comparison]:
        """Return the comparison of each of ``faces``, in order; all go through the engine at once.

        A face that failed a gate is ``REJECTED`` with its reasons.
        """
        templates = self.templates(faces)
        timer.stage("embed")
        valid = [template for template in templates if template is not None]
        candidates = iter(self._gallery.search_many(valid) if valid else [])
        timer.stage("search")
        comparisons = []
        for face, template in zip(faces, templates, strict=True):
            if template is not None:
                result = decide(next(candidates), self.point, margin=self._margin)
            else:
                reasons = face.reasons or (RejectionReason.EMBEDDING_INVALID,)
                result = IdentificationResult(Outcome.REJECTED, reasons=reasons)
            comparisons.append(Comparison(result, template, face.quality))
        return comparisons

    def templates(self, faces: Sequence[FoundFace]) -> list[Template | None]:
        """Return the template of each face, None where it was not compared."""
        usable = [(k, face.aligned) for k, face in enumerate(faces) if face.aligned is not None]
        scores = [quality.score if (quality := faces[k].quality) else 0.0 for k, _ in usable]
        made = self._embedder.embed([aligned for _, aligned in usable], scores)
        templates: list[Template | None] = [None] * len(faces)
        for (k, _), template in zip(usable, made, strict=True):
            templates[k] = template
        return templates
