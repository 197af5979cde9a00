"""SphereFace-20 and -64 as MuggleWang's CosFace_pytorch stores them (``sphere``)."""

from __future__ import annotations

from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.network import Preprocessing
from edgeface_export.architectures.sphereface import SphereFaceLayout, SphereStage

__all__ = ["LAYOUTS"]


def _stage(stage: int, blocks: int) -> SphereStage:
    at = f"layer{stage}"
    parts = (Unit("conv1", activation="prelu1"), Unit("conv2", activation="prelu2"))
    return SphereStage(
        Unit(f"{at}.0", activation=f"{at}.1", bias=True),
        tuple(
            (parts[0].under(f"{at}.{k + 2}."), parts[1].under(f"{at}.{k + 2}."))
            for k in range(blocks)
        ),
    )


# The keys of the deeper one hold those of the other.
LAYOUTS = tuple(
    SphereFaceLayout(
        name=f"sphereface{depth}-cosface-pytorch",
        depth=depth,
        trainer="CosFace_pytorch (MuggleWang)",
        loss="CosFace",
        preprocessing=Preprocessing.uniform("RGB", 127.5, 127.5),
        stages=tuple(_stage(stage, count) for stage, count in enumerate(blocks, start=1)),
        embedding=Unit("fc", bias=True),
    )
    for depth, blocks in ((64, (3, 7, 16, 3)), (20, (1, 2, 4, 1)))
)
