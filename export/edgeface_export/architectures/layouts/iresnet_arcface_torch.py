"""IResNet as insightface's arcface_torch stores it, and MagFace, which took it over.

MagFace keeps it under ``features.module.`` and reads pictures as BGR from 0 to 1.
"""

from __future__ import annotations

from dataclasses import replace

from edgeface_export.architectures.iresnet import DEPTHS, IResNetLayout, blocks_in_stages
from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.network import Preprocessing

__all__ = ["LAYOUTS"]

_ARCFACE = tuple(
    IResNetLayout(
        name=f"iresnet{depth}-arcface-torch",
        depth=depth,
        trainer="arcface_torch (insightface)",
        loss="ArcFace",
        preprocessing=Preprocessing.uniform("RGB", 127.5, 127.5),
        stem=Unit("conv1", "bn1", "prelu"),
        blocks=blocks_in_stages(depths),
        before="bn1",
        first=Unit("conv1", "bn2", "prelu"),
        second=Unit("conv2", "bn3"),
        projection=Unit("downsample.0", "downsample.1"),
        end_norm="bn2",
        embedding=Unit("fc", "features", bias=True),
    )
    for depth, depths in DEPTHS.items()
)


def _of_magface(layout: IResNetLayout) -> IResNetLayout:
    under = "features.module."
    return replace(
        layout,
        name=f"iresnet{layout.depth}-magface",
        trainer="MagFace",
        loss="MagFace",
        preprocessing=Preprocessing.uniform("BGR", 0.0, 255.0),
        stem=layout.stem.under(under),
        blocks=tuple(replace(block, prefix=under + block.prefix) for block in layout.blocks),
        end_norm=under + layout.end_norm,
        embedding=layout.embedding.under(under),
    )


# MagFace's keys hold those of arcface_torch under a prefix, so they come first.
LAYOUTS = tuple(layout for arcface in _ARCFACE for layout in (_of_magface(arcface), arcface))
