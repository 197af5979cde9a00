"""MobileFaceNet as InsightFace_Pytorch (TreB1eN) stores it; xuexingyu24's nets, pruned or not."""

from __future__ import annotations

from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.mobilefacenet import Bottleneck, MobileFaceNetLayout
from edgeface_export.architectures.network import Preprocessing

__all__ = ["LAYOUT", "STAGES"]

STAGES = (
    Bottleneck("conv_23.", stride=2),
    *(Bottleneck(f"conv_3.model.{k}.") for k in range(4)),
    Bottleneck("conv_34.", stride=2),
    *(Bottleneck(f"conv_4.model.{k}.") for k in range(6)),
    Bottleneck("conv_45.", stride=2),
    *(Bottleneck(f"conv_5.model.{k}.") for k in range(2)),
)
"""The bottlenecks of InsightFace_Pytorch's Depth_Wise and Residual modules."""

LAYOUT = MobileFaceNetLayout(
    name="mobilefacenet-insightface-pytorch",
    trainer="InsightFace_Pytorch (TreB1eN) and MobileFaceNet_Tutorial_Pytorch (xuexingyu24)",
    loss="ArcFace",
    preprocessing=Preprocessing.uniform("RGB", 127.5, 127.5),
    stem=Unit("conv1.conv", "conv1.bn", "conv1.prelu"),
    stem_depthwise=Unit("conv2_dw.conv", "conv2_dw.bn", "conv2_dw.prelu"),
    blocks=STAGES,
    expand=Unit("conv.conv", "conv.bn", "conv.prelu"),
    depthwise=Unit("conv_dw.conv", "conv_dw.bn", "conv_dw.prelu"),
    project=Unit("project.conv", "project.bn"),
    last=Unit("conv_6_sep.conv", "conv_6_sep.bn", "conv_6_sep.prelu"),
    global_depthwise=Unit("conv_6_dw.conv", "conv_6_dw.bn"),
    embedding=Unit("linear", "bn"),
    flat=True,
)
