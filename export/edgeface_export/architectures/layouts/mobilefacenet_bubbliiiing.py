"""MobileFaceNet as bubbliiiing's arcface-pytorch stores it."""

from __future__ import annotations

from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.layouts.mobilefacenet_insightface_pytorch import STAGES
from edgeface_export.architectures.mobilefacenet import MobileFaceNetLayout
from edgeface_export.architectures.network import Preprocessing

__all__ = ["LAYOUT"]

LAYOUT = MobileFaceNetLayout(
    name="mobilefacenet-bubbliiiing",
    trainer="arcface-pytorch (bubbliiiing)",
    loss="ArcFace",
    preprocessing=Preprocessing.uniform("RGB", 127.5, 127.5),
    stem=Unit("conv1.conv", "conv1.bn", "conv1.prelu"),
    stem_depthwise=Unit("conv2_dw.conv", "conv2_dw.bn", "conv2_dw.prelu"),
    blocks=STAGES,
    expand=Unit("conv.conv", "conv.bn", "conv.prelu"),
    depthwise=Unit("conv_dw.conv", "conv_dw.bn", "conv_dw.prelu"),
    project=Unit("project.conv", "project.bn"),
    last=Unit("sep", "sep_bn", "prelu"),
    global_depthwise=Unit("GDC_dw", "GDC_bn"),
    embedding=Unit("features", "last_bn"),
)
