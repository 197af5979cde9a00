"""GhostNet by the key names of its authors' code, which every trainer of faces took over.

They differ in activations and in the end. Their stem has a stride of 1, GhostFaceNet's of 2.
"""

from __future__ import annotations

from dataclasses import replace

from edgeface_export.architectures.ghostnet import GhostBlock, GhostNetLayout
from edgeface_export.architectures.heads import FaceHead
from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.network import Preprocessing

__all__ = ["LAYOUTS"]


def _module(at: str, *, prelu: bool = False, plain: str = "") -> tuple[Unit, Unit]:
    primary, cheap = (
        Unit(f"{at}.{part}.0", f"{at}.{part}.1", f"{at}.{part}.2" if prelu else "", plain)
        for part in ("primary_conv", "cheap_operation")
    )
    return primary, cheap


def _active(conv: str, norm: str, activation: str, *, prelu: bool) -> Unit:
    return Unit(conv, norm, activation if prelu else "", "" if prelu else "relu")


def _layout(
    name: str, trainer: str, preprocessing: Preprocessing, head: FaceHead, *, prelu: bool
) -> GhostNetLayout:
    return GhostNetLayout(
        name=name,
        architecture="GhostNet",
        trainer=trainer,
        loss="ArcFace",
        preprocessing=preprocessing,
        stem=_active("conv_stem", "bn1", "act1", prelu=prelu),
        stem_stride=1,
        first=_module("ghost1", prelu=prelu, plain="" if prelu else "relu"),
        depthwise=Unit("conv_dw", "bn_dw"),
        squeeze=Unit("se.conv_reduce", plain="relu", bias=True),
        excite=Unit("se.conv_expand", bias=True),
        second=_module("ghost2"),
        shortcut=(Unit("shortcut.0", "shortcut.1"), Unit("shortcut.2", "shortcut.3")),
        last=_active("blocks.9.0.conv", "blocks.9.0.bn1", "blocks.9.0.act1", prelu=prelu),
        head=head,
    )


_ELLZAF = replace(
    _layout(
        "ghostfacenet-v1-ellzaf",
        "ellzaf_ml (Hazqeel09)",
        # It has no data loader; that of the paper's authors (HamadYA/GhostFaceNets).
        Preprocessing.uniform("RGB", 127.5, 128.0),
        FaceHead(
            Unit("classifier.conv", "classifier.bn2"),
            depthwise=Unit("classifier.conv_dw", "classifier.bn1"),
            flat=False,
        ),
        prelu=True,
    ),
    architecture="GhostFaceNet",
    stem_stride=2,
    squeeze=Unit("se.conv_reduce", activation="se.act1", bias=True),
)
_CAVAFACE = _layout(
    "ghostnet-cavaface",
    "cavaface",
    Preprocessing.uniform("RGB", 127.5, 127.5),
    FaceHead(
        Unit("output_layer.linear", "output_layer.bn"),
        depthwise=Unit("output_layer.conv_6_dw.conv", "output_layer.conv_6_dw.bn"),
    ),
    prelu=True,
)
_EVOLVE = _layout(
    "ghostnet-face-evolve",
    "face.evoLVe",
    Preprocessing.uniform("RGB", 127.5, 127.5),
    FaceHead(Unit("output_layer.3", "output_layer.4", bias=True), norm="output_layer.0"),
    prelu=False,
)


def _of_facex_zoo(layout: GhostNetLayout) -> GhostNetLayout:
    """Return ``layout`` in a model that has backbone and head, fed with OpenCV's pictures."""
    under = "backbone."
    return replace(
        layout,
        name="ghostnet-facex-zoo",
        trainer="FaceX-Zoo",
        preprocessing=Preprocessing.uniform("BGR", 127.5, 128.0),
        stem=layout.stem.under(under),
        blocks=tuple(_under(block, under) for block in layout.blocks),
        last=layout.last.under(under),
        head=FaceHead(layout.head.embedding.under(under), norm=under + layout.head.norm),
    )


def _under(block: GhostBlock, prefix: str) -> GhostBlock:
    return replace(block, prefix=prefix + block.prefix)


# FaceX-Zoo's keys are those of face.evoLVe, which took it over, under a prefix.
LAYOUTS = (_ELLZAF, _CAVAFACE, _of_facex_zoo(_EVOLVE), _EVOLVE)
