"""What is good enough, and by which crops it is measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from edgeface.errors import InvalidInputError
from edgeface_export.crop_sets import CropKind

__all__ = ["GateLimits", "limits_for"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateLimits:
    """What is good enough. The defaults are for an activation set of faces.

    ==========================  =======  ========================================================
    limit                       default  what it bounds
    ==========================  =======  ========================================================
    max_parity_difference       1e-5     any value of a unit embedding, against the checkpoint
    max_statistics_distance     0.30     distance of the crops' activations to what BatchNorm saw
                                         in training, mean over the layers, in nats
    max_first_layer_distance    0.50     the same of the first layer: colours and preprocessing
    max_colour_ratio            2        the same over what it is with red and blue exchanged
    min_cosine_mean             0.990    cosine of INT8 and float embeddings of one crop, mean
    min_cosine_p1               0.980    the same, the worst hundredth of the crops
    max_pair_change_p99         0.08     change of the score of a pair by INT8, 99 % of pairs
    max_mean_score_rise         0.05     rise of the mean score of different crops by INT8: a
                                         collapse that INT8 caused
    max_mean_score              0.90     mean score of different faces: above it the model tells
                                         nobody apart
    min_effective_dimension     4        directions that embeddings of different faces make use of
    max_tar_loss                0.02     loss of TAR by INT8 at FMR 1e-2 and 1e-3, labelled pairs
    ==========================  =======  ========================================================

    The three distances are asked of an activation set alone. ``max_pair_change_p99``,
    ``max_mean_score`` and ``min_effective_dimension`` are asked of faces, synthetic ones too, but
    not of patterns, which lie outside of what a model was trained on: there its scores bunch
    together and move more. :func:`limits_for` has the defaults for other crops.
    """

    max_parity_difference: float = 1e-5
    max_statistics_distance: float = 0.30
    max_first_layer_distance: float = 0.50
    max_colour_ratio: float = 2.0
    min_cosine_mean: float = 0.990
    min_cosine_p1: float = 0.980
    max_pair_change_p99: float = 0.08
    max_mean_score_rise: float = 0.05
    max_mean_score: float = 0.90
    min_effective_dimension: float = 4.0
    max_tar_loss: float = 0.02


_DEFAULTS = {
    CropKind.FACES: GateLimits(),
    # On synthetic faces INT8 looks better than on people: the worst of four MobileFaceNets has
    # 0.9963 and 0.9915 on them, and 0.9923 and 0.976 on LFW. Limits are at twice that loss.
    CropKind.SYNTHETIC_FACES: GateLimits(min_cosine_mean=0.993, min_cosine_p1=0.983),
    CropKind.PICTURES: GateLimits(min_cosine_mean=0.95, min_cosine_p1=0.92),
}


def limits_for(kind: CropKind, changes: Mapping[str, float] | None = None) -> GateLimits:
    """Return the limits for crops of ``kind``, with ``changes`` by name in place of defaults.

    Raises:
        InvalidInputError: No limit has such a name, or a value is not a number.
    """
    changes = dict(changes or {})
    known = [entry.name for entry in fields(GateLimits)]
    for name, value in changes.items():
        if name not in known:
            raise InvalidInputError(f"no limit is called {name!r}, choose of {', '.join(known)}")
        if math.isnan(value):
            raise InvalidInputError(f"the limit {name} must be a number, got {value}")
    return replace(_DEFAULTS[kind], **changes)
