"""The IR networks of AdaFace: a BatchNorm between the convolutions, BGR pictures.

The last BatchNorm has no gamma and beta.
"""

from __future__ import annotations

from edgeface_export.architectures.iresnet import DEPTHS, IResNetLayout, blocks_in_a_row
from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.network import Preprocessing

__all__ = ["LAYOUTS"]

LAYOUTS = tuple(
    IResNetLayout(
        name=f"ir{depth}-adaface",
        depth=depth,
        trainer="AdaFace",
        loss="AdaFace",
        preprocessing=Preprocessing.uniform("BGR", 127.5, 127.5),
        stem=Unit("input_layer.0", "input_layer.1", "input_layer.2"),
        blocks=blocks_in_a_row(depths),
        before="res_layer.0",
        first=Unit("res_layer.1", "res_layer.2", "res_layer.3"),
        second=Unit("res_layer.4", "res_layer.5"),
        projection=Unit("shortcut_layer.0", "shortcut_layer.1"),
        end_norm="output_layer.0",
        embedding=Unit("output_layer.3", "output_layer.4", bias=True),
        plain_end=True,
    )
    for depth, depths in DEPTHS.items()
)
