"""MobileNetV1 as bubbliiiing's facenet-pytorch stores it.

Crops of 160x160, RGB, x / 255. The trainer aligns nothing by five points, it resizes the pictures
of faces that it is given; the template is the nearest that crops of this size have.
"""

from __future__ import annotations

from edgeface_export.architectures.heads import FaceHead
from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.mobilenet import MobileBlock, MobileNetLayout
from edgeface_export.architectures.network import Preprocessing

__all__ = ["LAYOUT"]

_TRUNK = "backbone.model."
# The strides of the blocks of each stage; the first stage has the stem before its blocks.
_STRIDES = ((1, 2, 1, 2, 1), (2, 1, 1, 1, 1, 1), (2, 1))
_HALVES = Unit("0", "1", plain="relu6"), Unit("3", "4", plain="relu6")

LAYOUT = MobileNetLayout(
    name="mobilenet-v1-bubbliiiing",
    architecture="MobileNetV1",
    trainer="facenet-pytorch (bubbliiiing)",
    loss="triplet and softmax",
    preprocessing=Preprocessing.uniform("RGB", 0.0, 255.0),
    stem=Unit(f"{_TRUNK}stage1.0.0", f"{_TRUNK}stage1.0.1", plain="relu6"),
    stem_stride=2,
    blocks=tuple(
        MobileBlock(f"{_TRUNK}stage{stage}.{k + (stage == 1)}.", *_HALVES, stride=stride)
        for stage, strides in enumerate(_STRIDES, start=1)
        for k, stride in enumerate(strides)
    ),
    head=FaceHead(Unit("Bottleneck", "last_bn", epsilon=1e-3), mean_of="arcface-160x160"),
    residual=False,
)
