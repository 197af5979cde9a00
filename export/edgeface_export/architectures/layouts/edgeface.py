"""EdgeFace as its authors' code stores it: EdgeNeXt of timm, with matrices of low rank or whole.

Crops: RGB, mean and deviation 0.5 of 1. XXS has whole matrices, XS and S have low-rank ones.
"""

from __future__ import annotations

from edgeface_export.architectures.edgenext import EdgeNextLayout
from edgeface_export.architectures.network import Preprocessing

__all__ = ["LAYOUTS"]

_DEPTHS = {"xxs": (2, 2, 6, 2), "xs-s": (3, 3, 9, 3)}

LAYOUTS = tuple(
    EdgeNextLayout(
        name=f"edgeface-{size}{'-low-rank' if low_rank else ''}",
        trainer="EdgeFace (Idiap)",
        loss="CosFace",
        preprocessing=Preprocessing.uniform("RGB", 127.5, 127.5),
        depths=depths,
        low_rank=low_rank,
    )
    for size, depths in _DEPTHS.items()
    for low_rank in (False, True)
)
