"""SphereFace-20 as clcarwin's sphereface_pytorch stores it (``sphere20a``).

Layers are numbered within each stage; pictures are as OpenCV reads them.
"""

from __future__ import annotations

from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.network import Preprocessing
from edgeface_export.architectures.sphereface import SphereFaceLayout, SphereStage

__all__ = ["LAYOUT"]


def _unit(stage: int, number: int) -> Unit:
    return Unit(f"conv{stage}_{number}", activation=f"relu{stage}_{number}", bias=True)


LAYOUT = SphereFaceLayout(
    name="sphereface20-clcarwin",
    depth=20,
    trainer="sphereface_pytorch (clcarwin)",
    loss="A-Softmax",
    preprocessing=Preprocessing.uniform("BGR", 127.5, 128.0),
    stages=tuple(
        SphereStage(
            _unit(stage, 1),
            tuple((_unit(stage, 2 * k + 2), _unit(stage, 2 * k + 3)) for k in range(blocks)),
        )
        for stage, blocks in enumerate((1, 2, 4, 1), start=1)
    ),
    embedding=Unit("fc5", bias=True),
)
