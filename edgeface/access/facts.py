"""The facts about a recogniser that a door's decision needs."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgeface.access.policy import AccessPolicy
from edgeface.access.values import ModelFacts
from edgeface.bundle import read_manifest_text
from edgeface.default_model import default_bundle_path
from edgeface.manifest import manifest_from_json
from edgeface.operating_points import chosen_for_gallery

if TYPE_CHECKING:
    from edgeface.pipeline import Recognizer

__all__ = ["recognizer_facts"]

# Counting the enrolled people reads the gallery; a frame must not wait for that each time.
_KEPT_S = 1.0


def recognizer_facts(
    recognizer: Recognizer, *, clock: Callable[[], float] = time.monotonic
) -> Callable[[AccessPolicy], ModelFacts]:
    """Return what gives the facts of ``recognizer``, at most a second old.

    The operating point is the one for searches that keeps the policy's ``max_fpir`` with so many
    enrolled. For a demonstration it is the recogniser's own.

    What is returned raises OperatingPointError where the bundle has no such point.
    """
    kept: list[tuple[float, ModelFacts]] = []

    def facts(policy: AccessPolicy) -> ModelFacts:
        now_s = clock()
        if not kept or not 0.0 <= now_s - kept[0][0] < _KEPT_S:
            kept[:] = [(now_s, _facts(recognizer, policy))]
        return kept[0][1]

    return facts


def _facts(recognizer: Recognizer, policy: AccessPolicy) -> ModelFacts:
    manifest, point = recognizer.manifest, recognizer.operating_point
    enrolled = len(recognizer.gallery.subjects())
    if not policy.demonstration:
        point = chosen_for_gallery(
            manifest.operating_points,
            point.artefact,
            target_fpir=policy.max_fpir,
            gallery_size=enrolled,
        )
    return ModelFacts(
        model_id=manifest.model_id,
        operating_point=point,
        gallery_size=enrolled,
        gallery_model_id=recognizer.gallery.model_id,
        is_demonstration=manifest.model_id == _demonstration_model_id(),
    )


@functools.cache
def _demonstration_model_id() -> str:
    return manifest_from_json(read_manifest_text(default_bundle_path())).model_id
