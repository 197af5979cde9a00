"""MobileNet V2 and V3 (large) as cavaface stores them: PReLU for every activation."""

from __future__ import annotations

from edgeface_export.architectures.heads import FaceHead
from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.mobilenet import MobileBlock, MobileNetLayout
from edgeface_export.architectures.network import Preprocessing

__all__ = ["HEAD", "LAYOUTS", "v2_blocks"]

HEAD = FaceHead(
    Unit("output_layer.linear", "output_layer.bn"),
    depthwise=Unit("output_layer.conv_6_dw.conv", "output_layer.conv_6_dw.bn"),
)
"""The end of cavaface's networks."""


def _v2_block(k: int, stride: int, *, widens: bool, bias: bool) -> MobileBlock:
    def part(n: int) -> Unit:
        return Unit(f"{n}.0", f"{n}.1", f"{n}.2", bias=bias)

    return MobileBlock(
        f"features.{k}.conv.",
        expand=part(0) if widens else None,
        depthwise=part(int(widens)),
        project=Unit(f"{1 + widens}", f"{2 + widens}"),
        stride=stride,
    )


def v2_blocks(
    stages: tuple[tuple[int, int], ...], *, bias: bool = False
) -> tuple[MobileBlock, ...]:
    """Return the blocks of a V2, of which the first does not widen.

    ``stages`` are (blocks, stride of the first); ``bias`` tells whether convolutions that an
    activation follows have one.
    """
    strides = [stride if k == 0 else 1 for count, stride in stages for k in range(count)]
    return tuple(
        _v2_block(k, stride, widens=k > 1, bias=bias) for k, stride in enumerate(strides, start=1)
    )


def _v3_block(k: int, stride: int, *, excited: bool) -> MobileBlock:
    squeezed = Unit("fc.0", plain="relu", bias=True, matrix=True)
    at = 5 if k > 1 else 3
    excitation = squeezed.under(f"{at}."), Unit(f"{at}.fc.2", bias=True, matrix=True)
    return MobileBlock(
        f"features.{k}.conv.",
        expand=Unit("0", "1", "2") if k > 1 else None,
        depthwise=Unit("3", "4", "6") if k > 1 else Unit("0", "1", "2"),
        project=Unit("7", "8") if k > 1 else Unit("4", "5"),
        stride=stride,
        excitation=excitation if excited else (),
        late=k > 1,
    )


_PREPROCESSING = Preprocessing.uniform("RGB", 127.5, 127.5)
_EXCITED = (4, 5, 6, 11, 12, 13, 14, 15)
_V2 = MobileNetLayout(
    name="mobilenet-v2-cavaface",
    architecture="MobileNetV2",
    trainer="cavaface",
    loss="ArcFace",
    preprocessing=_PREPROCESSING,
    stem=Unit("features.0.0", "features.0.1", "features.0.2"),
    stem_stride=2,
    blocks=v2_blocks(((1, 1), (3, 2), (4, 2), (3, 1), (3, 2), (1, 1))),
    last=Unit("features.16.0", "features.16.1", "features.16.2"),
    head=HEAD,
)
_V3 = MobileNetLayout(
    name="mobilenet-v3-cavaface",
    architecture="MobileNetV3",
    trainer="cavaface",
    loss="ArcFace",
    preprocessing=_PREPROCESSING,
    stem=Unit("features.0.0", "features.0.1", "features.0.2"),
    stem_stride=1,
    blocks=tuple(
        _v3_block(k, 2 if k in (2, 4, 7, 13) else 1, excited=k in _EXCITED) for k in range(1, 16)
    ),
    last=Unit("conv.0", "conv.1", "conv.2"),
    head=HEAD,
)

LAYOUTS = (_V2, _V3)
