"""MobileFaceNet as Xiaoccer's MobileFaceNet_Pytorch stores it, and the nets derived from it."""

from __future__ import annotations

from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.mobilefacenet import Bottleneck, MobileFaceNetLayout
from edgeface_export.architectures.network import Preprocessing

__all__ = ["LAYOUT"]

LAYOUT = MobileFaceNetLayout(
    name="mobilefacenet-xiaoccer",
    trainer="MobileFaceNet_Pytorch (Xiaoccer)",
    loss="ArcFace",
    preprocessing=Preprocessing.uniform("RGB", 127.5, 128.0),
    stem=Unit("conv1.conv", "conv1.bn", "conv1.prelu"),
    stem_depthwise=Unit("dw_conv1.conv", "dw_conv1.bn", "dw_conv1.prelu"),
    blocks=tuple(
        Bottleneck(f"blocks.{k}.conv.", stride=2 if k in (0, 5, 12) else 1) for k in range(15)
    ),
    expand=Unit("0", "1", "2"),
    depthwise=Unit("3", "4", "5"),
    project=Unit("6", "7"),
    last=Unit("conv2.conv", "conv2.bn", "conv2.prelu"),
    global_depthwise=Unit("linear7.conv", "linear7.bn"),
    embedding=Unit("linear1.conv", "linear1.bn"),
)
