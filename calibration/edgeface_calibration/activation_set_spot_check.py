"""Whether the crops of a stored set are aligned faces: a few of them are found again."""

from __future__ import annotations

import numpy as np

from edgeface.alignment import ALIGNMENT_TEMPLATES, alignment_template
from edgeface.errors import ActivationSetError
from edgeface.quality import QualityGateOptions, luminance, sharpness
from edgeface.types import AlignedFace, ImageArray
from edgeface_calibration.activation_set_limits import even_positions
from edgeface_calibration.activation_set_store import StoredActivationSet
from edgeface_calibration.crops import CropSource

__all__ = ["spot_check"]

_CHECKED = 16
# Of 540 crops of LFW faces 99.6 % are found again with their points at most 5 px away, 99 % of them
# 2.4 px; of 153 of a crowd, a stage and a telephone, small, blurred and turned, 93 %. Photos that
# were only cut around the face and scaled are 10 px off in the median, whole photos 43 px, crops
# that were turned or mirrored at the diagonal 56 px.
_MAX_SHIFT_PX = 5.0
# Of 16 crops of which 93 % are found, ten are, but for one set in 10,000.
_NEEDED_SHARE = 0.6


def spot_check(stored: StoredActivationSet, crop_source: CropSource) -> str:
    """Return the template that ``crop_source`` aligns to, after 16 crops were found at their place.

    Raises:
        ActivationSetError: Fewer than 10 of them show a clear face, aligned to the set's template.
    """
    positions = even_positions(len(stored), _CHECKED)
    looked_at = [crop_source.crop(stored.crop_path(k)) for k in positions]
    found = [face for face in looked_at if face is not None]
    good = sum(
        face is not None
        and _shift_px(face, stored.manifest.template) <= _MAX_SHIFT_PX
        and _is_clear(crop)
        for face, crop in zip(looked_at, stored.crops(positions), strict=True)
    )
    if not found or good < _NEEDED_SHARE * len(positions):
        raise ActivationSetError(
            f"{stored.path}: of {len(positions)} crops looked at again, {len(found)} show a face, "
            f"and {good} a clear one at the place of {stored.manifest.template}; wanted "
            f"{_NEEDED_SHARE:.0%}. These are no crops of `edgeface activation-set collect`; give "
            "the original photos instead"
        )
    return _template_of(found[0])


def _template_of(face: AlignedFace) -> str:
    height, width = face.pixels.shape[:2]
    return next(
        name
        for name, size in ALIGNMENT_TEMPLATES.items()
        if (size.height_px, size.width_px) == (height, width)
    )


def _is_clear(crop: ImageArray) -> bool:
    """Return whether a crop passes the gates that ask for nothing but the crop."""
    gates = QualityGateOptions.watch()
    is_lit = gates.min_luminance <= luminance(crop) <= gates.max_luminance
    return is_lit and sharpness(crop) >= gates.min_sharpness


def _shift_px(face: AlignedFace, stored: str) -> float:
    """Return how far the stored template's points come to lie from the wanted template's."""
    matrix = face.frame_to_crop.astype(np.float64)
    moved = alignment_template(stored) @ matrix[:, :2].T + matrix[:, 2]
    wanted = alignment_template(_template_of(face))
    return float(np.linalg.norm(moved - wanted, axis=1).max())
