"""The facts about a recogniser that a door's decision needs."""

from __future__ import annotations

import functools
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


def recognizer_facts(recognizer: Recognizer) -> Callable[[AccessPolicy], ModelFacts]:
    """Return what gives the facts of ``recognizer`` as they are when it is called.

    The operating point is the one for searches that keeps the policy's ``max_fpir`` with so many
    enrolled. For a demonstration it is the recogniser's own.

    What is returned raises OperatingPointError where the bundle has no such point.
    """
    return functools.partial(_facts, recognizer)


def _facts(recognizer: Recognizer, policy: AccessPolicy) -> ModelFacts:
    manifest, point = recognizer.manifest, recognizer.operating_point
    enrolled = recognizer.gallery.subject_count
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
