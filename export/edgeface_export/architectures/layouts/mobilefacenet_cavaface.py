"""MobileFaceNet as cavaface stores it, and TFace (Tencent), which took it over.

The trunk is InsightFace_Pytorch's; the end is a module of its own.
"""

from __future__ import annotations

from dataclasses import replace

from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.layouts import mobilefacenet_insightface_pytorch

__all__ = ["LAYOUT"]

LAYOUT = replace(
    mobilefacenet_insightface_pytorch.LAYOUT,
    name="mobilefacenet-cavaface",
    trainer="cavaface, TFace (Tencent)",
    global_depthwise=Unit("output_layer.conv_6_dw.conv", "output_layer.conv_6_dw.bn"),
    embedding=Unit("output_layer.linear", "output_layer.bn"),
)
