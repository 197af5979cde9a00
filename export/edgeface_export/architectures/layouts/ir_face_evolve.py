"""The IR and IR-SE networks of face.evoLVe, InsightFace_Pytorch and CurricularFace.

There is no BatchNorm between the convolutions; IR-SE has excitation at the end of every block.
CurricularFace's last BatchNorm has no gamma and beta, by which it is told from the others.
"""

from __future__ import annotations

from dataclasses import replace

from edgeface_export.architectures.iresnet import DEPTHS, IResNetLayout, blocks_in_a_row
from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.network import Preprocessing

__all__ = ["LAYOUTS"]

_EVOLVE = tuple(
    IResNetLayout(
        name=f"ir{depth}-face-evolve",
        depth=depth,
        trainer="face.evoLVe, InsightFace_Pytorch (TreB1eN)",
        loss="ArcFace",
        preprocessing=Preprocessing.uniform("RGB", 127.5, 127.5),
        stem=Unit("input_layer.0", "input_layer.1", "input_layer.2"),
        blocks=blocks_in_a_row(depths),
        before="res_layer.0",
        first=Unit("res_layer.1", activation="res_layer.2"),
        second=Unit("res_layer.3", "res_layer.4"),
        projection=Unit("shortcut_layer.0", "shortcut_layer.1"),
        end_norm="output_layer.0",
        embedding=Unit("output_layer.3", "output_layer.4", bias=True),
    )
    for depth, depths in DEPTHS.items()
)


def _excited(layout: IResNetLayout) -> IResNetLayout:
    return replace(
        layout,
        name=layout.name.replace("ir", "irse", 1),
        squeeze=Unit("res_layer.5.fc1", plain="relu"),
        excite=Unit("res_layer.5.fc2"),
    )


def _of_curricularface(layout: IResNetLayout) -> IResNetLayout:
    return replace(
        layout,
        name=layout.name.replace("face-evolve", "curricularface"),
        trainer="CurricularFace",
        loss="CurricularFace",
        plain_end=True,
    )


# The keys of an excited network hold those of the plain one, those of face.evoLVe
# CurricularFace's, and those of a deep one those of a shallow one.
LAYOUTS = tuple(
    variant
    for layout in _EVOLVE
    for variant in (
        _excited(layout),
        _of_curricularface(_excited(layout)),
        layout,
        _of_curricularface(layout),
    )
)
