"""MobileFaceNet as insightface's arcface_torch stores it (``mbf``, and cavaface's of that form).

The second layer of ``mbf`` has two channels in each group.
"""

from __future__ import annotations

from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.mobilefacenet import Bottleneck, MobileFaceNetLayout
from edgeface_export.architectures.network import Preprocessing

__all__ = ["LAYOUT"]

_BLOCKS = (
    Bottleneck("layers.2.layers.", stride=2),
    *(Bottleneck(f"layers.3.layers.{k}.layers.") for k in range(4)),
    Bottleneck("layers.4.layers.", stride=2),
    *(Bottleneck(f"layers.5.layers.{k}.layers.") for k in range(6)),
    Bottleneck("layers.6.layers.", stride=2),
    *(Bottleneck(f"layers.7.layers.{k}.layers.") for k in range(2)),
)


def _unit(at: str, *, active: bool = True) -> Unit:
    return Unit(f"{at}.layers.0", f"{at}.layers.1", f"{at}.layers.2" if active else "")


LAYOUT = MobileFaceNetLayout(
    name="mobilefacenet-arcface-torch",
    trainer="arcface_torch (insightface)",
    loss="ArcFace",
    preprocessing=Preprocessing.uniform("RGB", 127.5, 127.5),
    stem=_unit("layers.0"),
    stem_depthwise=_unit("layers.1"),
    blocks=_BLOCKS,
    expand=_unit("0"),
    depthwise=_unit("1"),
    project=_unit("2", active=False),
    last=_unit("conv_sep"),
    global_depthwise=_unit("features.layers.0", active=False),
    embedding=Unit("features.layers.2", "features.layers.3"),
    flat=True,
    stem_grouped=True,
)
