"""MobileFaceNet as foamliu's MobileFaceNet-PyTorch stores it.

Its blocks use ReLU6, its separable second layer plain ReLU (mobilefacenet.py of that project).
BatchNorm statistics of real crops agree best with this mixture; LFW folds 1-5: 99.10 % so, 99.03 %
with plain ReLU everywhere.
"""

from __future__ import annotations

from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.mobilefacenet import Bottleneck, MobileFaceNetLayout
from edgeface_export.architectures.network import Preprocessing

__all__ = ["LAYOUT"]

# ImageNet's mean and standard deviation on the 0..255 scale.
_IMAGENET = Preprocessing(
    "RGB",
    mean=(0.485 * 255, 0.456 * 255, 0.406 * 255),
    scale=(0.229 * 255, 0.224 * 255, 0.225 * 255),
)

LAYOUT = MobileFaceNetLayout(
    name="mobilefacenet-foamliu",
    trainer="MobileFaceNet-PyTorch (foamliu)",
    loss="ArcFace",
    preprocessing=_IMAGENET,
    stem=Unit("conv1.0", "conv1.1", plain="relu6"),
    stem_depthwise=Unit("dw_conv.depthwise", "dw_conv.bn1", plain="relu"),
    separable=Unit("dw_conv.pointwise", "dw_conv.bn2", plain="relu"),
    blocks=tuple(
        Bottleneck(f"features.{k}.conv.", stride=2 if k in (0, 5, 12) else 1) for k in range(15)
    ),
    expand=Unit("0.0", "0.1", plain="relu6"),
    depthwise=Unit("1.0", "1.1", plain="relu6"),
    project=Unit("2", "3"),
    last=Unit("conv2.0", "conv2.1", plain="relu6"),
    global_depthwise=Unit("gdconv.depthwise", "gdconv.bn"),
    embedding=Unit("conv3", "bn", bias=True),
)
