"""Inception-ResNet-v1 as timesler's facenet-pytorch stores it.

Crops of 160x160, RGB, (x - 127.5) / 128 (its ``fixed_image_standardization``). Its trainers cut
the box of MTCNN with a margin instead of aligning five points; the template here shows about as
much of a face. TensorFlow's epsilon of BatchNorm is kept.
"""

from __future__ import annotations

from edgeface_export.architectures.inception_resnet import (
    InceptionBlock,
    InceptionResNetLayout,
    Step,
)
from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.network import Preprocessing

__all__ = ["LAYOUT"]

_EPSILON = 1e-3


def _block35(prefix: str) -> InceptionBlock:
    branches = (
        (Step("branch0"),),
        (Step("branch1.0"), Step("branch1.1", padding=1)),
        (Step("branch2.0"), Step("branch2.1", padding=1), Step("branch2.2", padding=1)),
    )
    return InceptionBlock(prefix, branches, 0.17)


def _crossed(prefix: str, pad: int, factor: float, *, rectified: bool = True) -> InceptionBlock:
    branches = (
        (Step("branch0"),),
        (
            Step("branch1.0"),
            Step("branch1.1", padding=(0, pad)),
            Step("branch1.2", padding=(pad, 0)),
        ),
    )
    return InceptionBlock(prefix, branches, factor, rectified)


_MIXED_6A = InceptionBlock(
    "mixed_6a.",
    (
        (Step("branch0", 2),),
        (Step("branch1.0"), Step("branch1.1", padding=1), Step("branch1.2", 2)),
    ),
)
_MIXED_7A = InceptionBlock(
    "mixed_7a.",
    (
        (Step("branch0.0"), Step("branch0.1", 2)),
        (Step("branch1.0"), Step("branch1.1", 2)),
        (Step("branch2.0"), Step("branch2.1", padding=1), Step("branch2.2", 2)),
    ),
)

LAYOUT = InceptionResNetLayout(
    name="inception-resnet-v1-facenet-pytorch",
    trainer="facenet-pytorch (timesler)",
    loss="softmax",
    preprocessing=Preprocessing.uniform("RGB", 127.5, 128.0),
    stem=(
        Step("conv2d_1a", 2),
        Step("conv2d_2a"),
        Step("conv2d_2b", padding=1),
        Step("conv2d_3b"),
        Step("conv2d_4a"),
        Step("conv2d_4b", 2),
    ),
    pooled_after="conv2d_2b",
    blocks=(
        *(_block35(f"repeat_1.{k}.") for k in range(5)),
        _MIXED_6A,
        *(_crossed(f"repeat_2.{k}.", 3, 0.10) for k in range(10)),
        _MIXED_7A,
        *(_crossed(f"repeat_3.{k}.", 1, 0.20) for k in range(5)),
        # Its own scale is 1.
        _crossed("block8.", 1, 1.0, rectified=False),
    ),
    unit=Unit("conv", "bn", plain="relu", epsilon=_EPSILON),
    join="conv2d",
    embedding=Unit("last_linear", "last_bn", epsilon=_EPSILON),
    template="arcface-160x160",
)
