"""How a network is quantised."""

from __future__ import annotations

from dataclasses import dataclass

from edgeface_export.quantise.data_free import DEVIATIONS

__all__ = ["SYNTHETIC_SLACK", "QuantiseOptions"]

SYNTHETIC_SLACK = 1.5
"""The slack for ranges that synthetic faces set: photos reach further.

Measured with the built-in faces on photos of four MobileFaceNets, cosine to float, mean and worst
hundredth: LH 0.991 / 0.970 without, 0.9974 / 0.9916 with 1.5, 0.9967 / 0.9929 with 2; Xiaoccer
0.9956 / 0.984, 0.9986 / 0.9964, 0.9980 / 0.9960.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantiseOptions:
    """How INT8 ranges are set.

    ``method`` is one of :data:`.ranges.METHODS` and applies to an activation set; ``percentile``
    is that of the method of this name. ``deviations`` is how many deviations of a channel a
    data-free range covers. Nodes named in ``keep_float`` are not quantised, and neither are the
    layers at the end that make up to ``float_share`` of the multiply-adds (:mod:`.head`).
    ``slack`` is how many times wider than on the pictures at hand activations are taken to be;
    more than 1 for pictures that are not quite what the network will see.
    """

    method: str = "auto"
    percentile: float = 99.999
    deviations: float = DEVIATIONS
    keep_float: frozenset[str] = frozenset()
    float_share: float = 0.08
    slack: float = 1.0
