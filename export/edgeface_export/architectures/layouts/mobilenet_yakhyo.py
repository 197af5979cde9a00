"""MobileNet V1, V2 and V3 as yakhyo's face-recognition stores them.

Every convolution before a BatchNorm has a bias, but for those that end the blocks of V2. V3 has
PReLU where the paper has ReLU.
"""

from __future__ import annotations

from edgeface_export.architectures.heads import FaceHead
from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.layouts.mobilenet_cavaface import v2_blocks
from edgeface_export.architectures.mobilenet import MobileBlock, MobileNetLayout
from edgeface_export.architectures.network import Preprocessing

__all__ = ["LAYOUTS"]

_HARD = "hardswish"


def _unit(at: str, *, hard: bool = False) -> Unit:
    if hard:
        return Unit(f"{at}.0", f"{at}.1", plain=_HARD, bias=True)
    return Unit(f"{at}.0", f"{at}.1", f"{at}.2", bias=True)


def _layout(
    version: str,
    stem: Unit,
    stem_stride: int,
    blocks: tuple[MobileBlock, ...],
    last: Unit | None,
) -> MobileNetLayout:
    return MobileNetLayout(
        name=f"mobilenet-{version}-yakhyo",
        architecture=f"MobileNet{version[:2].upper()}",
        trainer="face-recognition (yakhyo)",
        loss="CosFace",
        preprocessing=Preprocessing.uniform("RGB", 127.5, 127.5),
        stem=stem,
        stem_stride=stem_stride,
        blocks=blocks,
        last=last,
        head=FaceHead(
            Unit("output_layer.fc.0", "output_layer.fc.1"),
            depthwise=Unit("output_layer.features.0.layers.0", "output_layer.features.0.layers.1"),
        ),
        residual=version != "v1",
    )


def _separable(stage: int, k: int) -> MobileBlock:
    halves = k == 0 if stage > 1 else k in (2, 4)
    return MobileBlock(f"stage{stage}.{k}.", _unit("0"), _unit("1"), stride=1 + halves)


_V1 = _layout(
    "v1",
    _unit("stage1.0"),
    1,
    (
        *(_separable(1, k) for k in range(1, 6)),
        *(_separable(2, k) for k in range(6)),
        *(_separable(3, k) for k in range(2)),
    ),
    None,
)
_V2 = _layout(
    "v2",
    _unit("features.0"),
    1,
    v2_blocks(((1, 1), (2, 2), (3, 2), (4, 2), (3, 1), (3, 2), (1, 1)), bias=True),
    _unit("features.18"),
)


def _v3_block(k: int, *, strided: bool, excited: bool, hard: bool, widens: bool) -> MobileBlock:
    middle = int(widens)
    at = f"{middle + 1}."
    squeeze = Unit(f"{at}fc1", plain="relu", bias=True), Unit(f"{at}fc2", bias=True)
    end = middle + 1 + excited
    return MobileBlock(
        f"features.{k}.block.",
        expand=_unit("0", hard=hard) if widens else None,
        depthwise=_unit(f"{middle}", hard=hard),
        project=Unit(f"{end}.0", f"{end}.1", bias=True),
        stride=1 + strided,
        excitation=squeeze if excited else (),
    )


def _v3(size: str, stem_stride: int, strided: str, excited: str, hard_from: int) -> MobileNetLayout:
    """Return a V3; ``strided`` and ``excited`` have a 1 for each block that is so."""
    blocks = tuple(
        _v3_block(
            k,
            strided=strided[k - 1] == "1",
            excited=excited[k - 1] == "1",
            hard=k >= hard_from,
            widens=k > 1,
        )
        for k in range(1, len(strided) + 1)
    )
    stem, last = (_unit(f"features.{k}", hard=True) for k in (0, len(strided) + 1))
    return _layout(f"v3-{size}", stem, stem_stride, blocks, last)


# Tables 1 and 2 of the paper, but for the stride of the stem, which is 1.
_LARGE = _v3("large", 1, "010100100000100", "000111000011111", 7)
_SMALL = _v3("small", 1, "11010000100", "10011111111", 4)

# A large V3 has more blocks than a small one, under other keys each.
LAYOUTS = (_V1, _V2, _LARGE, _SMALL)
